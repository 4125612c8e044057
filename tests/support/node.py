"""A fanout server as users run it: a process of its own, which a test can kill and start again in the same place."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import httpx

from tests.support.certificates import Certificates

__all__ = ["KEY", "NodeProcess", "free_port", "node_process"]

KEY = "app.full:secret"
ROOT = Path(__file__).parent.parent.parent
READY_S = 90  # it takes one or two; longer where a cluster has just been restarted on a machine full of work


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NodeProcess:
    """Made by `node_process`. Its port stays the same over restarts."""

    def __init__(
        self,
        arguments: list[str],
        port: int,
        log: IO[bytes],
        environment: Mapping[str, str],
        certificates: Certificates | None,
    ) -> None:
        self._certificates = certificates
        self._arguments = arguments
        self._log = log
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self.port = port

    @property
    def url(self) -> str:
        return f"{'https' if self._certificates else 'http'}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def resident_bytes(self) -> int:
        """What the process holds of the machine's memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    async def start(self) -> None:
        """Starts the process and waits until it says that it is ready."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "fanout",
            "serve",
            "--port",
            str(self.port),
            *self._arguments,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self._environment},
        )
        verified = self._certificates.client() if self._certificates else False  # nothing to verify
        async with asyncio.timeout(READY_S), httpx.AsyncClient(verify=verified) as client:
            while not await self._is_ready(client):
                if self._process.returncode is not None:
                    raise RuntimeError(f"the server ended with status {self._process.returncode}; see {self._log.name}")
                await asyncio.sleep(0.05)

    async def _is_ready(self, client: httpx.AsyncClient) -> bool:
        try:
            return (await client.get(f"{self.url}/ready")).status_code == 200
        except httpx.TransportError:
            return False

    def send_signal(self, number: signal.Signals) -> None:
        """Sends the process a signal, and does not wait for what becomes of it."""
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL: nothing of the process is given the time to say goodbye."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        async with asyncio.timeout(READY_S):
            return await self._process.wait()


@asynccontextmanager
async def node_process(
    directory: Path, *arguments: str, keys: tuple[str, ...] = (KEY,), certificates: Certificates | None = None
) -> AsyncIterator[NodeProcess]:
    """A running server with its data and its log in `directory`, for the length of the block.

    `arguments` are more options of `fanout serve`. With `keys` empty it makes one of its own. With
    `certificates` it speaks TLS.
    """
    options = [*arguments, "--data", str(directory / "data"), "--drain", "1s"]
    for key in keys:
        options += ["--key", key]
    if certificates is not None:
        options += certificates.options
    with (directory / "server.log").open("ab") as log:
        node = NodeProcess(options, free_port(), log, {"PYTHONPATH": str(ROOT)}, certificates)
        await node.start()
        try:
            yield node
        finally:
            await node.kill()
