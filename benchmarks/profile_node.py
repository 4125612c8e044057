"""Where the node's CPU time goes, by perf: the recipe behind the profile in ARCHITECTURE.md.

    make profile                                    both cases, 10,000 subscribers
    python -m benchmarks.profile_node --subscribers N --seconds S

The two headline cases, 128 bytes, one channel: one message a flush, and saturated with 16 under way. Each runs for some
seconds while `perf record` samples the node; printed are shares by who owns the code, and the costliest functions.
Needs perf (Debian: linux-perf) and the permission to sample the kernel (root, or kernel.perf_event_paranoid < 2).
"""

import argparse
import os
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.harness import LOAD_CORE, Crowd, build_tools, load, node

HERTZ = 499
FUNCTIONS = 12  # printed of each case
WINDOW = 16
STEP_S = 0.5  # a round lasts about so long

# Owner of the code by a part of the file that it was loaded from; the first that fits.
OWNERS = {
    "[kernel": "kernel",
    "[vdso]": "kernel",
    "_engine": "engine and shards (Rust)",
    "_core": "bridge (Cython)",
    "_websocket": "bridge (Cython)",
    "python": "interpreter",
    "libc.so": "C library",
    "uvloop": "event loop",
}


def shares(report: str) -> tuple[dict[str, float], list[tuple[float, str, str]]]:
    """Per cent by owner, and (per cent, file, function), from `perf report` with fields split by `;`."""
    owners: dict[str, float] = {}
    functions: list[tuple[float, str, str]] = []
    for line in report.splitlines():
        fields = [field.strip() for field in line.split(";")]
        if line.startswith("#") or len(fields) < 3:
            continue
        percent, file, function = float(fields[0].rstrip("%")), fields[1], fields[2]
        owner = next((owner for part, owner in OWNERS.items() if part in file), "other")
        owners[owner] = owners.get(owner, 0.0) + percent
        functions.append((percent, file, function))
    return owners, functions


def profile(crowd: Crowd, window: int, seconds: float, data: Path) -> None:
    """Samples the node while it delivers, and prints what came of it."""
    rate = crowd.windowed(4 * window, window)
    messages = max(round(STEP_S * 4 * window / rate.cost.wall_s), window)
    perf = subprocess.Popen(
        ["perf", "record", "--quiet", "-F", str(HERTZ), "-g", "-p", str(crowd.server.pid), "-o", data]
    )
    rounds = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        rounds.append(crowd.windowed(messages, window))
    perf.send_signal(2)
    perf.wait(60)
    command = [
        "perf",
        "report",
        "-i",
        str(data),
        "--no-children",
        "-g",
        "none",
        "--stdio",
        "-t",
        ";",
        "-s",
        "dso,symbol",
    ]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    owners, functions = shares(report)
    deliveries = sum(r.deliveries for r in rounds)
    cpu_us = sum(r.cost.cpu_s for r in rounds) / deliveries * 1e6
    frames = sum(r.report["frames"] for r in rounds)
    print(f"{deliveries:,} deliveries, {deliveries / frames:.1f} messages a frame, {cpu_us:.2f} µs of CPU each")
    for owner, percent in sorted(owners.items(), key=lambda item: -item[1]):
        print(f"  {percent:5.1f} %  {cpu_us * percent / 100:6.3f} µs  {owner}")
    for percent, file, function in functions[:FUNCTIONS]:
        print(f"    {percent:5.1f} %  {function}  ({file})")


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the node's CPU time goes.")
    parser.add_argument("--subscribers", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    if shutil.which("perf") is None:
        raise SystemExit("perf is not installed (Debian: apt-get install linux-perf)")
    os.sched_setaffinity(0, {LOAD_CORE})
    with TemporaryDirectory(prefix="fanout-profile-") as directory:
        tools = build_tools(Path(directory))
        for title, window in (("one message a flush", 1), (f"saturated, {WINDOW} under way", WINDOW)):
            print(f"{options.subscribers:,} subscribers, {title}", flush=True)
            with (
                node() as (server, told),
                load(tools, told["port"], options.subscribers, f"--key={told['key']}") as clients,
            ):
                assert clients.hear()["attached"] == options.subscribers
                crowd = Crowd(server, clients, options.subscribers, is_node=True)
                profile(crowd, window, options.seconds, Path(directory, "perf.data"))


if __name__ == "__main__":
    main()
