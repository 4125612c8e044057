"""A node inside another asyncio program: it publishes, and subscribes with the promises of any connected client.

    .venv/bin/python examples/embed.py

Browsers and SDKs can connect to the printed address meanwhile.
"""

import asyncio

from fanout import Config, Server


async def main() -> None:
    async with Server(Config(port=0)) as server:
        print("listening on", server.url)
        async with server.subscribe("news") as subscription:
            for number in range(1, 4):
                await server.publish("news", f"headline {number}", name="headline")
            async for message in subscription:
                print(message.name, message.data)
                if message.data == "headline 3":
                    break


asyncio.run(main())
