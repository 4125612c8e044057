"""What is published on any wire is the same on every other (docs/protocol.md, "Payloads")."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from fanout import Config, Server
from fanout.audit.log import EmbeddedLog
from fanout.sources.embedded import EmbeddedSource
from tests.support.payload_mqtt import MQTT_WAYS_IN, mqtt_ways_out
from tests.support.payload_ways import KEY, TOPIC, WAYS_IN, Bed, Deltas, Payload, ways_out
from tests.support.wsclient import RawClient

CIPHER = bytes(range(256)) + b"\r\n\n"
PAYLOADS = {
    "text": Payload('a line\nand "another"\r\n é\u2028\x00'),
    "text that looks like JSON": Payload('"x"'),
    "empty text": Payload(""),
    "an object": Payload('{"a":[1,"\\n",null],"b":{"c":1.5}}', "json"),
    "an array": Payload("[]", "json"),
    "binary": Payload(CIPHER),
    "empty binary": Payload(b""),
    "nothing": Payload(None),
    "encrypted text": Payload(CIPHER, "utf-8/cipher+aes-128-cbc"),
    "encrypted JSON": Payload(CIPHER, "json/utf-8/cipher+aes-256-cbc"),
    "encrypted binary": Payload(CIPHER, "cipher+aes-128-cbc"),
}
IN = WAYS_IN | MQTT_WAYS_IN
SILENT = ("plain record", "mqtt 3.1.1")
"""Ways that cannot say what was done to a payload."""
ENCRYPTED = [name for name in PAYLOADS if name.startswith("encrypted")]


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    source = EmbeddedSource(tmp_path / "data")
    config = Config(port=0, mqtt_port=0, key=(KEY,), data=tmp_path / "data", route=(f"{TOPIC}=#{{key}}",))
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(Server(config, source=source))
        await server.ready()
        url, (name, secret) = f"http://127.0.0.1:{server.port}", KEY.split(":")
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, auth=(name, secret)))
        speakers = [await RawClient(server.port, KEY, wire).connect() for wire in ("json", "msgpack")]
        for speaker in speakers:
            stack.push_async_callback(speaker.close)
        yield Bed(stack, server, source, http, *speakers)


def sayable(way: str) -> list[str]:
    """The payloads that can be said in a way."""
    return [name for name in PAYLOADS if way not in SILENT or name not in ENCRYPTED]


@pytest.mark.parametrize("way_in", IN)
async def test_every_payload_is_the_same_on_every_wire(bed: Bed, way_in: str) -> None:
    outs = await ways_out(bed) | await mqtt_ways_out(bed)
    names = sayable(way_in)
    held = {name: await IN[way_in](bed, PAYLOADS[name]) for name in names}
    for way_out, out in outs.items():
        came = dict(zip(names, await out.payloads(len(names)), strict=True))
        assert came == {name: out.shows(payload) for name, payload in held.items()}, way_out


@pytest.mark.parametrize("way_in", [way for way in IN if way != "plain record"])
async def test_a_record_of_the_log_says_all_of_it(bed: Bed, way_in: str, tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "data", TOPIC)
    held = [await IN[way_in](bed, PAYLOADS[name]) for name in sayable(way_in)]
    records = [(record.value, {name: said for name, said in record.headers or () if said}) for record in log.read()]
    log.close()
    assert len(records) == len(held)
    for payload, (value, headers) in zip(held, records, strict=True):
        kind = b"none" if payload.data is None else b"text" if isinstance(payload.data, str) else b"binary"
        assert (headers["fanout.type"], headers.get("fanout.encoding", b"").decode()) == (kind, payload.encoding or "")
        assert value == (payload.data.encode() if isinstance(payload.data, str) else payload.data)


@pytest.mark.parametrize("kind", ["text", "JSON", "binary", "encrypted"])
@pytest.mark.parametrize("way_in", IN)
async def test_deltas_come_to_the_same(bed: Bed, way_in: str, kind: str) -> None:
    """Encrypted payloads come whole, if the node was told that they are such."""
    long = "a long text that stays the same é " * 20
    payloads = {
        "text": [Payload(f"{long}{number}") for number in range(4)],
        "JSON": [Payload(f'{{"a":"{long}","n":{number}}}', "json") for number in range(4)],
        "binary": [Payload(CIPHER * 4 + bytes([number])) for number in range(4)],
        "encrypted": [Payload(CIPHER * 4 + bytes([number]), "utf-8/cipher+aes-128-cbc") for number in range(4)],
    }[kind]
    outs = await ways_out(bed, delta="vcdiff")
    held = [await IN[way_in](bed, payload) for payload in payloads]
    for way_out, out in outs.items():
        attachment = Deltas()
        assert [attachment.whole(payload) for payload in await out.payloads(4)] == held, way_out
        assert attachment.count == (0 if kind == "encrypted" and way_in not in SILENT else 3), way_out
