"""One channel over picows: each line that comes on the feed is sent to every client, in a loop as its manual has it."""

import asyncio
import json

import uvloop
from picows import WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

clients: set[WSTransport] = set()


class Client(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        clients.add(transport)
        transport.send(WSMsgType.TEXT, b"hello")

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        clients.discard(transport)


async def feed(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        for client in clients:
            client.send(WSMsgType.TEXT, line[:-1])


def accept(_: WSUpgradeRequest) -> Client:
    return Client()


async def main() -> None:
    server = await ws_create_server(accept, "127.0.0.1", 0, backlog=4096)
    lines = await asyncio.start_server(feed, "127.0.0.1", 0)
    port, feed_port = (each.sockets[0].getsockname()[1] for each in (server, lines))
    print(json.dumps({"port": port, "feed": feed_port}), flush=True)
    await server.serve_forever()


uvloop.run(main())
