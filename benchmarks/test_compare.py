"""The comparison proves what it prints: a server that drops, doubles or swaps messages fails the run."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.compare.__main__ import main
from benchmarks.compare.contenders import Contender, control, fanout, peer
from benchmarks.compare.peers import PEERS, Peer, Unavailable, fetch
from benchmarks.compare.results import Results
from benchmarks.compare.scenarios import SCENARIOS, Figures, Settings
from benchmarks.harness import Tools

SETTINGS = Settings(subscribers=20, payload=128, window=16, rate=200, seconds=0.02, rounds=2)


def from_environment(name: str) -> Contender:
    """A peer in Python, run with what the tests have installed anyway."""
    which = replace(PEERS[name], run=(sys.executable, "server.py"))
    return peer(which, which.source)


def measure(tools: Tools, scenario: str, contenders: list[Contender], settings: Settings = SETTINGS) -> Results:
    results = Results(scenario, {each.name: each.version for each in contenders})

    def told(name: str, _: int, figures: Figures) -> None:
        results.add(name, figures)

    SCENARIOS[scenario](tools, contenders, settings, told)
    return results


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_every_scenario_measures_the_node_the_control_and_peers(tools: Tools, scenario: str) -> None:
    contenders = [fanout("here"), from_environment("picows")]
    if scenario != "memory":
        contenders += [control(tools, "control", "here")]
    if scenario == "saturated":
        contenders += [control(tools, "control-uring-16", "here"), from_environment("websockets")]
    results = measure(tools, scenario, contenders, replace(SETTINGS, rounds=1) if scenario == "memory" else SETTINGS)
    found = results.medians()
    assert set(found) == {each.name for each in contenders}
    for figures in found.values():
        assert all(figure >= 0 for name, figure in figures.items() if name != "bytes")  # a few bytes drown in noise
    assert ("ratio" in found["fanout"]) == (scenario != "memory")
    if scenario == "saturated":
        assert found["fanout"]["messages_per_read"] > 1
        assert found["control"]["messages_per_read"] <= found["control-uring-16"]["messages_per_read"] <= 16
    assert len(results.table().splitlines()) == 2 + len(contenders)


FAULTY = """
import asyncio, json, sys
from websockets.asyncio.server import broadcast, serve

async def greet(client):
    await client.send("hello")
    await client.wait_closed()

async def main(fault):
    clients = await serve(greet, "127.0.0.1", 0, compression=None)
    count, held = 0, None

    async def feed(reader, _):
        nonlocal count, held
        while line := await reader.readline():
            count, text = count + 1, line[:-1].decode()
            if count == 25:
                if fault == "lost":
                    continue
                if fault == "swapped":
                    held = text
                    continue
                if fault == "one client forgotten":
                    broadcast(list(clients.connections)[1:], text)
                    continue
                if fault == "doubled":
                    broadcast(clients.connections, text)
                if fault == "cut":
                    text = text[:4]
                if fault == "closed":
                    await next(iter(clients.connections)).close()
            broadcast(clients.connections, text)
            if held is not None:
                broadcast(clients.connections, held)
                held = None

    lines = await asyncio.start_server(feed, "127.0.0.1", 0)
    port, feed_port = (next(iter(server.sockets)).getsockname()[1] for server in (clients, lines))
    print(json.dumps({"port": port, "feed": feed_port}), flush=True)
    await clients.wait_closed()

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("fault", ["none", "lost", "doubled", "swapped", "one client forgotten", "cut", "closed"])
def test_a_server_with_a_fault_fails_the_run(tools: Tools, tmp_path: Path, fault: str) -> None:
    (tmp_path / "server.py").write_text(FAULTY)
    faulty = peer(Peer("faulty", "none", (sys.executable, "server.py", fault), ()), tmp_path)
    if fault == "none":
        assert measure(tools, "saturated", [faulty]).medians()["faulty"]["deliveries"] > 0
    else:
        with pytest.raises(AssertionError, match=r"received|lack|has ended"):
            measure(tools, "saturated", [faulty])


def test_what_cannot_be_fetched_is_named_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.compare.peers.CACHE", tmp_path)
    peer = PEERS["ws"]
    with pytest.raises(Unavailable, match="no-such-program is not installed"):
        fetch(replace(peer, steps=(("no-such-program",),)))
    with pytest.raises(Unavailable, match="failed: what went wrong"):
        fetch(replace(peer, steps=((sys.executable, "-c", "import sys; sys.exit('what went wrong')"),)))
    place = fetch(replace(peer, steps=((sys.executable, "-c", "open('made', 'w')"),)))
    assert {"made", "server.js", "feed.js", "package.json"} <= {path.name for path in place.iterdir()}
    assert fetch(replace(peer, steps=(("no-such-program",),))) == place  # once is enough


@pytest.mark.parametrize("name", list(PEERS))
def test_every_peer_is_pinned(name: str) -> None:
    assert PEERS[name].version != "unknown"
    assert not list(PEERS[name].source.rglob("node_modules"))


def test_the_command_prints_a_table_and_writes_every_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--scenario lockstep --subscribers 20 --seconds 0.02 --rounds 2 --peers none --controls control"
    assert main([*arguments.split(), f"--results={tmp_path}"]) == 0
    printed = capsys.readouterr()
    assert "| fanout |" in printed.out
    assert "round 2/2" in printed.err
    (path,) = tmp_path.iterdir()
    written = json.loads(path.read_text())
    assert {"commit", "machine", "versions", "settings", "command", "medians", "skipped"} <= set(written)
    assert written["complete"]
    assert [len(rounds) for rounds in written["rounds"].values()] == [2, 2]
    assert written["medians"]["control"]["ratio"] == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("--scenario memory --peers ws,nobody", "unknown peers: nobody; known are"),
        ("--scenario memory --controls control", "the bare kernel has no memory of its own for a connection"),
    ],
)
def test_what_cannot_be_compared_is_refused(capsys: pytest.CaptureFixture[str], arguments: str, problem: str) -> None:
    with pytest.raises(SystemExit):
        main(arguments.split())
    assert problem in capsys.readouterr().err
