"""Debian's nginx in front of nodes, with the little that its documentation tells to write: a process of its own."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.node import free_port

__all__ = ["Nginx", "nginx_to"]

WAIT_S = 20
CONFIGURATION = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_header {{
        default upgrade;
        "" "";
    }}
    upstream nodes {{ {nodes} }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://nodes;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_header;
        }}
    }}
}}
"""


class Nginx:
    """Made by `nginx_to`. Its port stays the same over restarts."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self.port = free_port()
        self._configuration = folder / "nginx.conf"
        self._process: asyncio.subprocess.Process | None = None
        nodes = " ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)
        user = "user root;" if os.geteuid() == 0 else ""  # else its workers could not write to the folder
        self._configuration.write_text(CONFIGURATION.format(folder=folder, port=self.port, nodes=nodes, user=user))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Starts it and waits until it listens."""
        path = f"{os.environ['PATH']}:/usr/sbin"  # where Debian puts it, which is not on everybody's path
        command = ("nginx", "-e", "stderr", "-c", str(self._configuration))
        self._process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "PATH": path})
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    assert self._process.returncode is None, "nginx has ended; see its error output"
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    async def stop(self) -> None:
        """Ends it at once: its connections break."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        async with asyncio.timeout(WAIT_S):
            await self._process.wait()


@asynccontextmanager
async def nginx_to(folder: Path, ports: Sequence[int]) -> AsyncIterator[Nginx]:
    """nginx in front of these ports of 127.0.0.1, with its files in `folder`, for the length of the block."""
    nginx = Nginx(folder, ports)
    await nginx.start()
    try:
        yield nginx
    finally:
        await nginx.stop()
