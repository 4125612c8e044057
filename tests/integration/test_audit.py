"""`fanout audit` against a running node: it finds nothing wrong with a good one, and each fault of a broken one."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.support.node import KEY, ROOT, NodeProcess, free_port, node_process
from tests.support.tampering import FAULTS, tampering_proxy

SMALL = ("--channels=4", "--subscribers=6", "--attachments=2", "--publishers=2", "--rate=80", "--seconds=2")


async def audit(*arguments: str) -> tuple[int | None, str, str]:
    """Status, what it printed, and what it said on stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "fanout", "audit", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "FANOUT_KEY": KEY},
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def count(printed: str, what: str) -> int:
    """The number that stands before a word."""
    found = re.search(rf"([\d,]+) {what}", printed)
    assert found is not None, printed
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize("transports", [["websocket"], ["sse"], ["mqtt"], ["sse", "mqtt", "websocket"]], ids="+".join)
async def test_a_good_node_is_exact_and_the_counts_say_of_how_much(transports: list[str], tmp_path: Path) -> None:
    port = free_port()
    spoken = [f"--transport={name}" for name in transports]
    spoken += [f"--mqtt-url=mqtt://127.0.0.1:{port}"] if "mqtt" in transports else []
    async with node_process(tmp_path, "--mqtt-port", str(port)) as node:
        status, printed, said = await audit(f"--url={node.url}", f"--data={tmp_path / 'data'}", *SMALL, *spoken)
    assert (status, said) == (0, "")
    published = count(printed, "acknowledged")
    assert published > 100
    assert count(printed, "messages in 4 channels") == published
    assert count(printed, "to 12 views") == published * 6 * 2 // 4
    assert count(printed, "lost") == count(printed, "doubled") == count(printed, "missing") == 0
    assert printed.endswith("\nexact\n")


@pytest.mark.parametrize(("fault", "kind"), [("dropped", "lost"), ("repeated", "doubled"), ("swapped", "reordered")])
async def test_one_message_that_a_server_drops_repeats_or_swaps_is_found(
    fault: str, kind: str, node: NodeProcess, tmp_path: Path
) -> None:
    async with tampering_proxy(node.port, FAULTS[fault]) as port:
        arguments = (f"--url=http://127.0.0.1:{port}", f"--data={tmp_path / 'data'}", "--patience=1")
        status, printed, _ = await audit(*arguments, *SMALL)
    assert status == 1
    others = {"lost", "doubled", "reordered", "foreign", "altered", "untyped"} - {kind}
    assert count(printed, kind) == 1, printed
    assert sum(count(printed, other) for other in others) == 0, printed
    assert re.search(rf"subscriber \d, audit:\w+:\d: 1 {kind}, first", printed)
    assert printed.endswith("\nNOT exact\n")


async def test_what_cannot_be_audited_is_said_in_one_line(node: NodeProcess, tmp_path: Path) -> None:
    for arguments, status, reason in (
        ((f"--url={node.url}",), 2, "give --kafka or --data"),
        ((f"--url={node.url}", f"--data={tmp_path}"), 1, "there is no log in"),
        ((f"--url={node.url}", f"--data={tmp_path / 'data'}", "--topic=other"), 1, "has no topic 'other'"),
        ((f"--url={node.url}", f"--data={tmp_path / 'data'}", "--channels=0"), 2, "channels: '0' is wrong"),
        ((f"--url={node.url}", f"--data={tmp_path / 'data'}", "--transport=x"), 2, "transport: 'x' is wrong; give"),
        ((f"--url={node.url}", f"--data={tmp_path / 'data'}", "--transport=mqtt"), 2, "and --mqtt-url together"),
        (("--url=http://127.0.0.1:1", f"--data={tmp_path / 'data'}"), 1, "a client could not join"),
        ((f"--url={node.url}", f"--data={tmp_path / 'data'}", "--key=app.full:other"), 1, "a client could not join"),
        (
            (f"--url={node.url}", f"--data={tmp_path / 'data'}", "--key=app.full:other", "--transport=sse"),
            1,
            "a client could not join: credentials refused: no such key (40101)",
        ),
    ):
        answered, printed, said = await audit(*arguments)
        assert (answered, printed) == (status, "")
        assert reason in said
        assert said.startswith("fanout: ")
        assert said.count("\n") == 1
