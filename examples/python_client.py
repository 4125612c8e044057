"""A chat line from Python with the published SDK.

pip install ably
python python_client.py 'appId.keyId:secret' [PORT]
"""

import asyncio
import sys

from ably import AblyRealtime
from ably.types.message import Message


async def main(key: str, port: str = "8080") -> None:
    # The SDK puts its option `port` into HTTP addresses only, so the port goes into the endpoint.
    client = AblyRealtime(key, endpoint=f"127.0.0.1:{port}", tls=False, client_id="python")
    heard = asyncio.Event()

    def show(message: Message) -> None:
        print(f"{message.client_id or 'record'}: {message.data}")
        if message.client_id == "python":
            heard.set()

    channel = client.channels.get("chat:lobby")
    await channel.subscribe(show)
    await channel.publish("chat", "hello from Python")
    await heard.wait()
    await client.close()


asyncio.run(main(*sys.argv[1:]))
