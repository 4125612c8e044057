"""The examples run as their first lines show."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.agents import CLIENTS, install_clients, json_lines
from tests.support.broker import Kafka
from tests.support.node import KEY, ROOT, NodeProcess, node_process

EXAMPLES = ROOT / "examples"
CHANNEL = "chat:lobby"


@pytest.fixture
def beside_node_modules(tmp_path: Path) -> Path:
    """The examples in a folder where `npm install ably` has been run."""
    install_clients()
    folder = tmp_path / "examples"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("node_modules"))
    (folder / "node_modules").symlink_to(CLIENTS / "node_modules")
    return folder


async def run(*command: str, cwd: Path) -> str:
    """Runs a command to its end and returns what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def history(node: NodeProcess) -> list[str]:
    async with httpx.AsyncClient(auth=httpx.BasicAuth(*KEY.split(":")), base_url=node.url) as client:
        page = await client.get(f"/channels/{CHANNEL}/messages", params={"direction": "forwards"})
        return [item["data"] for item in page.json()]


async def test_embed_prints_what_it_publishes(tmp_path: Path) -> None:
    output = await run(sys.executable, str(EXAMPLES / "embed.py"), cwd=tmp_path)
    assert output.splitlines()[1:] == [f"headline headline {number}" for number in (1, 2, 3)]


@pytest.mark.node
async def test_node_client_hears_itself(node: NodeProcess, beside_node_modules: Path) -> None:
    output = await run("node", "node.mjs", KEY, str(node.port), cwd=beside_node_modules)
    assert output == "node: hello from Node\n"
    assert await history(node) == ["hello from Node"]


async def test_python_client_hears_itself(node: NodeProcess, tmp_path: Path) -> None:
    output = await run(sys.executable, str(EXAMPLES / "python_client.py"), KEY, str(node.port), cwd=tmp_path)
    assert output == "python: hello from Python\n"
    assert await history(node) == ["hello from Python"]


@pytest.mark.node
@pytest.mark.browser
async def test_browser_client_shows_and_sends(node: NodeProcess, beside_node_modules: Path) -> None:
    async with json_lines("node", "browser.mjs", str(beside_node_modules)) as browser:
        await browser.ask("goto", page="page", file=f"browser.html?port={node.port}#{KEY}")
        await browser.ask("fill", page="page", selector="#text", text="hello from Chromium")
        await browser.ask("press", page="page", selector="#text", key="Enter")
        shown = "return document.querySelector('#log li')?.textContent === 'browser: hello from Chromium'"
        await browser.ask("wait", page="page", script=shown, timeout=20_000)
    assert await history(node) == ["hello from Chromium"]


@pytest.mark.kafka
async def test_plain_kafka_record_becomes_a_message(kafka: Kafka, tmp_path: Path) -> None:
    async with node_process(tmp_path, "--kafka", kafka.bootstrap) as node:
        await run(
            sys.executable,
            str(EXAMPLES / "kafka_producer.py"),
            kafka.bootstrap,
            CHANNEL,
            "hello from Kafka",
            cwd=tmp_path,
        )
        async with asyncio.timeout(20):
            while "hello from Kafka" not in await history(node):  # noqa: ASYNC110  HTTP has nothing to wait for
                await asyncio.sleep(0.05)
