"""Compares the node with the bare kernel and with other servers, in one run. `python -m benchmarks.compare --help`."""

import argparse
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.compare.contenders import CONTROLS, Contender, control, fanout, peer
from benchmarks.compare.peers import PEERS, Unavailable, fetch
from benchmarks.compare.results import Results
from benchmarks.compare.scenarios import SCENARIOS, Figures, Settings
from benchmarks.harness import LOAD_CORE, ROOT, build_tools
from benchmarks.provenance import commit, provenance, unused

DEFAULT_CONTROLS = {
    "lockstep": "control,control-uring",
    "saturated": "control,control-16,control-32,control-uring-16",
    "rate": "control",
    "memory": "",
    "connect": "control",
}
HELP = f"""
scenarios:
  lockstep    one message a flush: each is sent when all have the one before
  saturated   --window messages are under way
  rate        --rate messages a second, come what may
  memory      bytes of an idle connection, --subscribers held
  connect     CPU time to accept, upgrade and subscribe

peers, fetched into .cache/peers/ when they are first asked for:
  {" ".join(PEERS)}
controls, the bare kernel by system call and messages in a write:
  {" ".join(CONTROLS)}

examples:
  make compare ARGS='--scenario lockstep --subscribers 10000'
  make compare ARGS='--scenario saturated --subscribers 1000 --window 128 --peers ws,nats,uwebsockets'
  make compare ARGS='--scenario memory --subscribers 15000 --rounds 1'

The server runs on the first core, its load and its publisher on the last. Figures are medians of the rounds, and go to
benchmarks/results/compare/ with every single round. A message lost, doubled or out of order fails the run. Ctrl-C keeps
what is complete.
"""


def options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scenario", choices=SCENARIOS, required=True)
    parser.add_argument("--subscribers", type=int, default=1_000, help="connections of each server (default 1000)")
    parser.add_argument("--payload", type=int, default=128, help="bytes of a message (default 128)")
    parser.add_argument("--window", type=int, help="messages under way (default 64, from 10,000 subscribers on 16)")
    parser.add_argument("--rate", type=float, default=10, help="messages a second (default 10)")
    parser.add_argument(
        "--seconds", type=float, default=1, help="of each round, CPU time, at a rate wall time (default 1)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each server, in turn (default 5)")
    parser.add_argument("--peers", default="all", help="names with commas, all or none (default all)")
    parser.add_argument("--controls", help="names with commas (default: those that fit the scenario)")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks/results/compare", help="folder for the results file"
    )
    chosen = parser.parse_args(arguments)
    if chosen.window is None:
        chosen.window = 64 if chosen.subscribers < 10_000 else 16
    if chosen.controls is None:
        chosen.controls = DEFAULT_CONTROLS[chosen.scenario]
    chosen.peers = {"all": ",".join(PEERS), "none": ""}.get(chosen.peers, chosen.peers)
    for kind, known in (("peers", PEERS), ("controls", CONTROLS)):
        names = [name for name in getattr(chosen, kind).split(",") if name]
        setattr(chosen, kind, names)
        if unknown := sorted(set(names) - set(known)):
            parser.error(f"unknown {kind}: {', '.join(unknown)}; known are {', '.join(known)}")
    if chosen.scenario == "memory" and chosen.controls:
        parser.error("the bare kernel has no memory of its own for a connection")
    return chosen


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    chosen = options(arguments)
    command = " ".join(["python -m benchmarks.compare", *arguments])
    load_before = os.getloadavg()
    os.sched_setaffinity(0, {LOAD_CORE})
    settings = Settings(chosen.subscribers, chosen.payload, chosen.window, chosen.rate, chosen.seconds, chosen.rounds)
    with TemporaryDirectory(prefix="fanout-bench-") as directory:
        tools = build_tools(Path(directory))
        contenders: list[Contender] = [fanout(commit())]
        contenders += [control(tools, name, platform.release()) for name in chosen.controls]
        skipped = []
        for name in chosen.peers:
            say(f"{name}: {PEERS[name].version}, fetched unless it is there")
            try:
                contenders.append(peer(PEERS[name], fetch(PEERS[name])))
            except Unavailable as reason:
                skipped.append(f"{name}: {reason}")
                say(f"skipped: {skipped[-1]}")
        results = Results(chosen.scenario, {each.name: each.version for each in contenders})

        def told(name: str, number: int, figures: Figures) -> None:
            results.add(name, figures)
            main_figure = next(iter(figures))
            say(f"round {number + 1}/{settings.rounds}  {name:20} {main_figure} {figures[main_figure]:,.3f}")

        status = 0
        try:
            SCENARIOS[chosen.scenario](tools, contenders, settings, told)
        except KeyboardInterrupt:
            say("interrupted: what follows is of the complete rounds")
            status = 130
        except AssertionError as failure:
            say(f"failed: {failure}")
            status = 1
    if not results.medians():
        return status or 1
    stamp = time.strftime("%Y-%m-%d")
    name = f"{stamp}-{commit()}-{chosen.scenario}-{settings.subscribers}x{settings.payload}.json"
    path = unused(chosen.results / name)
    about = {**provenance(command, load_before), "scenario": chosen.scenario, "settings": asdict(settings)}
    results.write(path, {**about, "complete": status == 0}, skipped)
    print(results.table())
    for line in skipped:
        print(f"\nskipped: {line}")
    say(f"written: {path}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
