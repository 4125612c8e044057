"""MQTT as programs of others speak it: paho and aiomqtt (Python), MQTT.js (Node), mosquitto_pub and mosquitto_sub (C).

Each in both versions, over TCP, TLS and WebSocket as far as it can.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fanout import Config, Server
from tests.support.agents import install_clients, json_lines
from tests.support.certificates import Certificates, make_certificates

KEY = "app.key:secret"
USERNAME, PASSWORD = KEY.split(":")
TEXTS = [f"{number}" for number in range(100)]
WAIT_S = 30

Way = Literal["tcp", "tls", "websockets"]


@dataclass(frozen=True)
class Site:
    """A node, and how it is reached."""

    server: Server
    way: Way
    certificates: Certificates | None

    @property
    def port(self) -> int:
        port = self.server.port if self.way == "websockets" else self.server.mqtt_port
        assert port is not None
        return port


@pytest.fixture(params=["tcp", "tls", "websockets"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    certificates = make_certificates(tmp_path) if request.param == "tls" else None
    config = Config(
        port=0,
        mqtt_port=0,
        key=(KEY,),
        secret="0123456789abcdef",
        data=tmp_path / "data",
        tls_cert=certificates.certificate if certificates else None,
        tls_key=certificates.key if certificates else None,
    )
    async with Server(config) as server:
        await server.ready()
        yield Site(server, request.param, certificates)


versions = pytest.mark.parametrize("version", [4, 5], ids=["3.1.1", "5.0"])


@versions
async def test_paho(site: Site, version: int) -> None:
    loop = asyncio.get_running_loop()
    received: asyncio.Queue[paho.MQTTMessage] = asyncio.Queue()
    connected, subscribed = asyncio.Event(), asyncio.Event()
    transport: Literal["tcp", "websockets"] = "websockets" if site.way == "websockets" else "tcp"
    protocol = MQTTProtocolVersion(version)
    client = paho.Client(CallbackAPIVersion.VERSION2, "paho", protocol=protocol, transport=transport)
    client.username_pw_set(USERNAME, PASSWORD)
    if site.certificates:
        client.tls_set(str(site.certificates.authority))

    def tells(event: asyncio.Event) -> Callable[..., None]:
        def heard(*_: Any) -> None:
            loop.call_soon_threadsafe(event.set)

        return heard

    def message_came(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        loop.call_soon_threadsafe(received.put_nowait, message)

    client.on_connect, client.on_subscribe, client.on_message = tells(connected), tells(subscribed), message_came
    await asyncio.to_thread(client.connect, "localhost", site.port)
    client.loop_start()
    try:
        async with asyncio.timeout(WAIT_S):
            await connected.wait()
            client.subscribe("a/b", 1)
            await subscribed.wait()
            properties = None
            if version == 5:
                properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
                properties.UserProperty = [("k", "v"), ("k", "w")]
                properties.ContentType = "text/plain"
                properties.ResponseTopic = "answers"
                properties.CorrelationData = b"\0\xff"
            sent = [
                client.publish("a/b", text, qos=number % 3, properties=properties) for number, text in enumerate(TEXTS)
            ]
            got = [await received.get() for _ in TEXTS]
            await asyncio.to_thread(sent[-1].wait_for_publish, WAIT_S)
    finally:
        client.disconnect()
        await asyncio.to_thread(client.loop_stop)
    assert sorted(int(message.payload) for message in got) == list(range(100))
    for qos in range(3):
        assert [message.payload.decode() for message in got if int(message.payload) % 3 == qos] == TEXTS[qos::3]
    assert [message.qos for message in got] == [min(int(message.payload) % 3, 1) for message in got]
    if version == 5:
        said: Any = got[0].properties
        assert said.UserProperty[:2] == [("k", "v"), ("k", "w")]
        assert (said.ContentType, said.ResponseTopic, said.CorrelationData) == ("text/plain", "answers", b"\0\xff")


@versions
async def test_aiomqtt(site: Site, version: int) -> None:
    context = ssl.create_default_context(cafile=str(site.certificates.authority)) if site.certificates else None
    client = aiomqtt.Client(
        "localhost",
        site.port,
        username=USERNAME,
        password=PASSWORD,
        identifier="aiomqtt",
        protocol=aiomqtt.ProtocolVersion(version),
        transport="websockets" if site.way == "websockets" else "tcp",
        tls_context=context,
    )
    async with asyncio.timeout(WAIT_S), client:
        await client.subscribe("a/b", qos=1)
        for text in TEXTS:
            await client.publish("a/b", text, qos=1)
        got = [(await anext(client.messages)).payload for _ in TEXTS]
    assert got == [text.encode() for text in TEXTS]


@pytest.mark.node
@versions
async def test_mqtt_js(site: Site, version: int) -> None:
    install_clients()
    scheme = {"tcp": "mqtt", "tls": "mqtts", "websockets": "ws"}[site.way]
    async with json_lines("node", "mqtt.mjs") as node:
        await node.ask(
            "connect",
            name="js",
            url=f"{scheme}://localhost:{site.port}",
            version=version,
            username=USERNAME,
            password=PASSWORD,
            authority=site.certificates and str(site.certificates.authority),
        )
        assert await node.ask("subscribe", name="js", topic="a/b", qos=1) == [1]
        await node.ask("publish", name="js", topic="a/b", payloads=TEXTS, qos=1)
        got = await node.ask("received", name="js", count=len(TEXTS))
        await node.ask("end", name="js")
    assert [message["payload"] for message in got] == TEXTS
    assert {message["qos"] for message in got} == {1}


@pytest.mark.parametrize("site", ["tcp", "tls"], indirect=True)
@versions
async def test_mosquitto(site: Site, version: int) -> None:
    arguments = ["-h", "localhost", "-p", str(site.port), "-u", USERNAME, "-P", PASSWORD, "-t", "a/b", "-q", "1"]
    arguments += ["-V", "mqttv5" if version == 5 else "mqttv311"]
    if site.certificates:
        arguments += ["--cafile", str(site.certificates.authority)]
    subscriber = await asyncio.create_subprocess_exec(
        "mosquitto_sub", *arguments, "-C", str(len(TEXTS)), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(WAIT_S):
        while not site.server._node.messages.engine.occupancy("a/b")["subscribers"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        publisher = await asyncio.create_subprocess_exec(
            "mosquitto_pub", *arguments, "-l", stdin=asyncio.subprocess.PIPE
        )
        await publisher.communicate("".join(f"{text}\n" for text in TEXTS).encode())
        assert publisher.returncode == 0
        output, _ = await subscriber.communicate()
    assert output.decode().splitlines() == TEXTS
