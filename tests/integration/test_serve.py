"""`python -m fanout serve` as a user meets it: the banner, signals, what it says when it cannot start."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import websockets

ROOT = Path(__file__).parents[2]


class Running:
    """A server process and its banner."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.banner = ""

    def shown(self, pattern: str) -> str:
        """The first group of the pattern, in the banner."""
        match = re.search(pattern, self.banner)
        assert match is not None, self.banner
        return match[1]

    @property
    def url(self) -> str:
        return self.shown(r"listening on (http://\S+),")

    @property
    def key(self) -> str:
        return self.shown(r"key +(\S+)")

    async def read_banner(self) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            while "Ctrl-C" not in self.banner:
                line = await self.process.stdout.readline()
                assert line, await self.errors()
                self.banner += line.decode()

    async def errors(self) -> str:
        """What is on stderr, to its end."""
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def ended(self) -> int:
        async with asyncio.timeout(20):
            return await self.process.wait()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fanout", "serve", *arguments]


@asynccontextmanager
async def serve(directory: Path, *arguments: str) -> AsyncIterator[Running]:
    """A server with its working directory in `directory`."""
    process = await asyncio.create_subprocess_exec(
        *command("--port", "0", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    running = Running(process)
    try:
        await running.read_banner()
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def failed(directory: Path, *arguments: str) -> tuple[int, str]:
    """Status and the one line on stderr of a server that cannot start."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=directory, env={"PYTHONPATH": str(ROOT)}, timeout=20,
        check=False,
    )  # fmt: skip
    assert done.stdout == ""
    assert done.stderr.startswith("fanout: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr


class TestBanner:
    async def test_alone_serves_this_machine_from_an_embedded_log(self, tmp_path: Path) -> None:
        async with serve(tmp_path) as server:
            assert server.url.startswith("http://127.0.0.1:")
            assert "the embedded log in fanout-data" in server.banner
            assert (tmp_path / "fanout-data" / "credentials.json").exists()
            assert server.shown(r"page +(\S+)") == f"{server.url}/#key={server.key}"

    async def test_its_lines_to_publish_and_to_look_back_work_as_shown(self, tmp_path: Path) -> None:
        async with serve(tmp_path) as server:
            publish, watch = server.shown(r"publish +(curl .+)"), server.shown(r"look back: (curl .+)")
            published = await asyncio.to_thread(shell, publish)
            assert published["channel"] == "chat:lobby"
            assert (await asyncio.to_thread(shell, watch))[0]["data"] == "hello"

    async def test_key_stays_the_same_over_restarts(self, tmp_path: Path) -> None:
        async with serve(tmp_path) as server:
            key = server.key
        async with serve(tmp_path) as server:
            assert server.key == key

    async def test_configured_key_is_shown_without_its_capability(self, tmp_path: Path) -> None:
        async with serve(tmp_path, "--key", 'a.b:s={"*":["*"]}') as server:
            assert server.key == "a.b:s"


def shell(line: str) -> Any:
    done = subprocess.run(["sh", "-c", f"{line} --silent --fail"], capture_output=True, check=True, timeout=10)
    return orjson.loads(done.stdout)


class TestReadme:
    TEXT = (ROOT / "README.md").read_text()

    def block(self, kind: str, words: str) -> str:
        """The README's one block of this kind with these words in it."""
        (block,) = (found for found in re.findall(rf"```{kind}\n(.*?)```", self.TEXT, re.DOTALL) if words in found)
        return str(block).replace(".venv/bin/fanout", f"{sys.executable} -m fanout")

    async def pasted(self, directory: Path, *blocks: str) -> str:
        """What the blocks print that are pasted into one shell in this directory."""
        process = await asyncio.create_subprocess_exec(
            *("sh", "-eu", "-c", "\n".join(blocks)),
            stdout=subprocess.PIPE,
            cwd=directory,
            env={"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
        )
        output, _ = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0
        return output.decode()

    async def test_publishes_and_looks_back_as_pasted(self, tmp_path: Path) -> None:
        async with serve(tmp_path) as server:
            blocks = (self.block("sh", "-d '{"), self.block("sh", "messages\n"))
            output = await self.pasted(
                tmp_path, *(block.replace("http://127.0.0.1:8080", server.url) for block in blocks)
            )
        assert '"channel":"chat:lobby"' in output
        assert '"data":"hello"' in output

    async def test_configures_two_keys_by_one_variable(self, tmp_path: Path) -> None:
        output = await self.pasted(tmp_path, self.block("sh", "FANOUT_KEY="))
        assert output.count("********=") == 2

    async def test_serves_a_route_of_kafka(self, tmp_path: Path) -> None:
        block = self.block("sh", "--kafka").replace(" serve ", " check ")
        assert "# reads orders and sends to orders:#{key}" in await self.pasted(tmp_path, block)

    async def test_embeds_a_node(self, tmp_path: Path) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-u", "-c", self.block("python", "async for")),
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), 20)
        finally:
            process.kill()
            await process.wait()
        assert line.startswith(b"headline it works ")


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    async def test_first_one_sends_clients_away_and_ends_well(self, tmp_path: Path, number: signal.Signals) -> None:
        async with serve(tmp_path, "--drain", "100ms") as server:
            address = f"{server.url.replace('http', 'ws')}/?v=6&key={server.key}"
            async with websockets.connect(address) as client:
                await client.recv()
                server.process.send_signal(number)
                async with asyncio.timeout(10):
                    while orjson.loads(await client.recv())["action"] != 6:
                        pass
            assert await server.ended() == 0
            assert "Traceback" not in await server.errors()

    async def test_second_one_ends_it_at_once(self, tmp_path: Path) -> None:
        async with serve(tmp_path, "--drain", "1h") as server:
            address = f"{server.url.replace('http', 'ws')}/?v=6&key={server.key}"
            async with websockets.connect(address), websockets.connect(address):
                server.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.5)
                assert server.process.returncode is None
                server.process.send_signal(signal.SIGTERM)
                assert await server.ended() == 128 + signal.SIGTERM


class TestCannotStart:
    def test_port_in_use(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            status, line = failed(tmp_path, "--port", str(taken.getsockname()[1]))
        assert status == 2
        assert "is taken by another program; give another one, or 0 for any that is free" in line

    def test_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        status, line = failed(tmp_path, "--port", "0", "--data", "file/data")
        assert status == 2
        assert "data: 'file/data' cannot be used (Not a directory); give a directory that you may write to" in line

    async def test_directory_in_use(self, tmp_path: Path) -> None:
        async with serve(tmp_path):
            status, line = await asyncio.to_thread(failed, tmp_path, "--port", "0")
        assert status == 1
        assert "fanout-data is in use by another node; stop it, or name another directory" in line

    def test_wrong_option(self, tmp_path: Path) -> None:
        status, line = failed(tmp_path, "--histroy", "1m")
        assert status == 2
        assert "Did you mean --history?" in line


async def test_unreachable_broker_is_tried_on_and_told_of(tmp_path: Path) -> None:
    async with serve(tmp_path, "--kafka", "127.0.0.1:9") as server, httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.get("/ready")
        assert answer.status_code == 503
        assert server.process.stderr is not None
        async with asyncio.timeout(30):
            line = (await server.process.stderr.readline()).decode()
        assert "fanout.source" in line
        assert "127.0.0.1:9" in line
        assert (await http.get("/ready")).json()["reason"] in line
        server.process.terminate()
        assert await server.ended() == 0
