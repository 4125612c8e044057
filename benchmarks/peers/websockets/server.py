"""One channel over `websockets`: each line that comes on the feed is broadcast to every client."""

import asyncio
import json

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def greet(client: ServerConnection) -> None:
    await client.send("hello")
    await client.wait_closed()


async def main() -> None:
    clients = await serve(greet, "127.0.0.1", 0, backlog=4096, compression=None, ping_interval=None)

    async def feed(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            broadcast(clients.connections, line[:-1].decode())

    lines = await asyncio.start_server(feed, "127.0.0.1", 0)
    port, feed_port = (next(iter(server.sockets)).getsockname()[1] for server in (clients, lines))
    print(json.dumps({"port": port, "feed": feed_port}), flush=True)
    await clients.wait_closed()


uvloop.run(main())
