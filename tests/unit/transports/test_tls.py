"""TLS on the common port, over real sockets: who comes in, who does not, and what one that stalls costs the others."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from fanout.errors import ConfigError
from fanout.transports import adopting, outgoing, tls
from fanout.transports.tls import server_context
from fanout.types import Record
from tests.support.certificates import Certificates, make_certificates
from tests.unit.transports.front_door import FrontDoor, Wire, client_frame, native_front_door

HEARTBEAT = b'{"action":0,"id":"h"}'
GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


async def connected(door: FrontDoor) -> Wire:
    wire = await Wire.websocket(door)
    assert (await wire.message())["action"] == 4
    return wire


async def alive(wire: Wire) -> None:
    await wire.say(client_frame(1, HEARTBEAT))
    assert await wire.message() == {"action": 0, "id": "h"}


@contextlib.asynccontextmanager
async def plain(door: FrontDoor) -> AsyncIterator[Wire]:
    """A client that does not encrypt."""
    wire = Wire(*await asyncio.open_connection(*door.address))
    yield wire
    await wire.close()


def hello(context: ssl.SSLContext) -> bytes:
    """A ClientHello."""
    sent = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    return sent.read()


# -- who comes in --


async def test_requests_and_a_websocket_are_served_as_without_tls(certificates: Certificates) -> None:
    async with native_front_door(certificates=certificates) as door:
        wire = await Wire.open(door)
        for _ in range(2):
            await wire.say(GET)
            assert (await wire.response())[2] == b"<p>page</p>"
        await wire.say(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n" + b"x" * 300_000)
        assert (await wire.response())[2] == b"x" * 300_000
        await wire.close()
        wire = await connected(door)
        await alive(wire)
        await wire.say(client_frame(8, b"\x03\xe8"))
        assert await wire.closed_with() == 1000
        await wire.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_modern_versions_are_spoken_and_http_is_agreed_on(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    context = certificates.client()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with native_front_door(certificates=certificates) as door:
        reader, writer = await asyncio.open_connection(*door.address, ssl=context, server_hostname="localhost")
        spoken = writer.get_extra_info("ssl_object")
        assert spoken.version() == version.name.replace("_", ".")
        assert spoken.selected_alpn_protocol() == "http/1.1"
        await Wire(reader, writer).close()


async def test_older_versions_are_refused(certificates: Certificates) -> None:
    context = certificates.client()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # otherwise the client would not even offer them
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with native_front_door(certificates=certificates) as door:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(*door.address, ssl=context, server_hostname="localhost")


def test_renegotiation_is_off(certificates: Certificates) -> None:
    context = server_context(certificates.certificate, certificates.key)
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert {cipher["aead"] for cipher in context.get_ciphers()} == {True}


async def test_who_renegotiates_is_closed(certificates: Certificates) -> None:
    async with native_front_door(certificates=certificates) as door:
        process = await asyncio.create_subprocess_exec(
            "openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{door.port}",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readuntil(b"Extended master secret"), 10)
        process.stdin.write(b"R\n")  # its command for that
        said = await asyncio.wait_for(process.stdout.read(), 10)
        assert b"RENEGOTIATING" in said
        assert b"no renegotiation" in said
        await process.wait()
        process.stdin.close()
        await alive(other := await connected(door))
        await other.close()


async def test_a_client_that_says_its_hello_byte_by_byte_comes_in(certificates: Certificates) -> None:
    async with native_front_door(certificates=certificates) as door:
        incoming, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = certificates.client().wrap_bio(incoming, sent, server_hostname="localhost")
        async with plain(door) as wire:
            while client.version() is None or sent.pending:
                with contextlib.suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                for byte in sent.read():
                    await wire.say(bytes([byte]))
                    await asyncio.sleep(0)
                if client.cipher() is None:
                    incoming.write(await asyncio.wait_for(wire.reader.read(1 << 16), 5))
            client.write(GET)
            await wire.say(sent.read())
            answer = b""
            while b"page" not in answer:
                incoming.write(await asyncio.wait_for(wire.reader.read(1 << 16), 5))
                with contextlib.suppress(ssl.SSLWantReadError):
                    answer += client.read(1 << 16)
        assert answer.startswith(b"HTTP/1.1 200 OK")


# -- who does not --


async def test_plain_http_is_told_to_come_over_tls(certificates: Certificates) -> None:
    async with native_front_door(certificates=certificates) as door, plain(door) as wire:
        await wire.say(GET)
        status, _, body = await wire.response()
        assert status == 400
        assert b"TLS" in body
        assert await wire.end() == b""


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"\x00" * 100, id="zeros"),
        pytest.param(b"\x16\x03\x01\xff\xff" + b"x" * 100, id="a record that is too long"),
        pytest.param(b"\x16\x03\x01\x00\x00", id="an empty record"),
        pytest.param(b"\x17\x03\x03\x00\x05hello", id="data before a handshake"),
        pytest.param(b"\x80\x2e\x01\x00\x02" + b"x" * 44, id="SSL 2"),
        pytest.param(b"\x16\x03\x01\x00\x64" + b"x" * 100, id="a record with no ClientHello in it"),
    ],
)
async def test_garbage_ends_the_connection_and_nothing_else(certificates: Certificates, said: bytes) -> None:
    async with native_front_door(certificates=certificates) as door:
        bystander = await connected(door)
        async with plain(door) as wire:
            await wire.say(said)
            answer = await wire.end()
            assert answer in (b"", answer[:7])  # nothing, or a TLS alert
        await alive(bystander)
        await bystander.close()


async def test_garbage_after_the_handshake_ends_the_connection(certificates: Certificates) -> None:
    async with native_front_door(certificates=certificates) as door:
        bystander = await connected(door)
        wire = await connected(door)
        raw = wire.writer.get_extra_info("socket")
        with socket.socket(fileno=socket.dup(raw.fileno())) as twin:
            twin.setblocking(False)
            twin.send(b"\x17\x03\x03\x00\x20" + b"?" * 32)
        assert await wire.end() == b""
        await wire.close()
        await alive(bystander)
        await bystander.close()


@pytest.mark.parametrize("said", [b"", b"\x16\x03", b"\x16\x03\x01\x02\x00" + b"x" * 100])
async def test_who_does_not_begin_is_closed(
    certificates: Certificates, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_HELLO_SECONDS", 0.1)
    async with native_front_door(certificates=certificates) as door:
        async with plain(door) as wire:
            await wire.say(said)
            assert await wire.end() == b""
        async with plain(door) as wire:  # and who leaves by itself is not waited for
            await wire.say(said)
            wire.writer.write_eof()
            assert await wire.end() == b""


async def test_who_stalls_in_the_middle_of_the_handshake_is_closed_and_holds_nobody_up(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopting, "_HANDSHAKE_SECONDS", 0.3)
    async with native_front_door(certificates=certificates) as door, plain(door) as wire:
        await wire.say(hello(certificates.client()))
        assert await asyncio.wait_for(wire.reader.read(1), 5) == b"\x16"  # the server's side of it
        await alive(other := await connected(door))
        await wire.end()  # it comes
        assert door.front.open_connections == 1
        await other.close()


async def test_handshakes_under_way_are_bounded_and_the_slowest_makes_room(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_HANDSHAKES_MAX", 2)
    monkeypatch.setattr(tls, "_ROOM_SECONDS", 0.2)
    async with native_front_door(certificates=certificates) as door, contextlib.AsyncExitStack() as stack:
        stalled = [await stack.enter_async_context(plain(door)) for _ in range(3)]
        for wire in stalled:
            await wire.say(hello(certificates.client()))
            await asyncio.sleep(0.02)
        assert door.tls is not None
        assert (len(door.tls._begun), door.tls.waiting) == (2, 1)
        assert door.open_connections() == 3
        await alive(other := await connected(door))  # it waits for its turn, and not for the others' time to be over
        await stalled[0].end()
        await other.close()


async def test_who_waits_for_a_handshake_counts_as_a_connection(certificates: Certificates) -> None:
    async with native_front_door(certificates=certificates, limit=1) as door, plain(door) as wire:
        await wire.say(b"\x16")
        async with plain(door) as refused:
            assert (await refused.response())[0] == 503


async def test_closing_ends_those_at_the_door(certificates: Certificates) -> None:
    async with native_front_door(certificates=certificates) as door, plain(door) as silent, plain(door) as stalled:
        await stalled.say(hello(certificates.client()))
        assert await asyncio.wait_for(stalled.reader.read(1), 5) == b"\x16"
        assert door.tls is not None
        door.tls.close()
        assert await silent.end() == b""
        await stalled.end()
        await door.gone()


# -- what is written --


@pytest.mark.parametrize("io_threads", [0, 1])
async def test_a_slow_reader_holds_little_and_is_given_everything_in_order(
    certificates: Certificates, io_threads: int
) -> None:
    async with native_front_door(io_threads=io_threads, certificates=certificates) as door:
        wire = await connected(door)
        await wire.tell({"action": 10, "channel": "room"})
        assert (await wire.message())["action"] == 11
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        records = [Record("topic", 0, n, -1, 1000 + n, b"room", b"x" * 4_000, None) for n in range(10_000)]
        total = 4_000 * len(records)
        door.engine.records(records)
        taken = [-1, 0]
        while taken[-2] < taken[-1]:  # until nothing moves any more
            await asyncio.sleep(0.3)
            taken.append(door.engine.stats()["bytes_out"])
        assert taken[-1] < total / 2  # what sockets and buffers hold; the rest is in the ring alone
        await alive(other := await connected(door))
        await other.close()
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        seen = 0
        while seen < len(records):
            message = await wire.message()
            for item in message["messages"]:
                assert item["id"] == f"topic:0:{seen}"
                seen += 1
        await wire.close()


async def test_a_client_that_was_cut_is_gone(certificates: Certificates) -> None:
    async with native_front_door(certificates=certificates) as door:
        wire = await connected(door)
        (driver,) = door.connections._by_handle.values()
        driver.cut()
        assert await wire.end() == b""
        await wire.close()


async def test_a_turn_of_the_loop_writes_for_a_bounded_time() -> None:
    now, written = 0.0, []

    class Client:
        def __init__(self, name: str, pieces: int) -> None:
            self.name, self.pieces = name, pieces

        def write_some(self) -> bool:
            nonlocal now
            now += outgoing.TURN_S / 2
            written.append(self.name)
            self.pieces -= 1
            return self.pieces > 0

    line = outgoing.Outgoing(lambda: now)
    line.add(Client("long", 4))
    line.add(Client("short", 1))
    await asyncio.sleep(0)
    assert written == ["long", "short"]
    for _ in range(5):
        await asyncio.sleep(0)
    assert written == ["long", "short", "long", "long", "long"]


async def test_one_that_cannot_be_written_keeps_no_other_waiting() -> None:
    written = []

    class Client:
        def __init__(self, name: str) -> None:
            self.name = name

        def write_some(self) -> bool:
            if self.name == "broken":
                raise OverflowError
            written.append(self.name)
            return False

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    line = outgoing.Outgoing()
    for name in ("one", "broken", "other"):
        line.add(Client(name))
    for _ in range(3):
        await asyncio.sleep(0)
    assert written == ["one", "other"]


# -- certificates --


async def test_another_certificate_is_for_those_who_come_later(certificates: Certificates, tmp_path: Path) -> None:
    async with native_front_door(certificates=certificates) as door:
        early = await connected(door)
        other = make_certificates(tmp_path)
        assert door.tls is not None
        door.tls.context = server_context(other.certificate, other.key)
        with pytest.raises(ssl.SSLCertVerificationError):
            await Wire.open(door)
        door.certificates = other
        await alive(late := await connected(door))
        await alive(early)
        await early.close()
        await late.close()


def test_files_that_are_no_certificate_and_its_key_are_refused_by_name(
    certificates: Certificates, tmp_path: Path
) -> None:
    other, text, encrypted = make_certificates(tmp_path), tmp_path / "text", tmp_path / "encrypted"
    text.write_text("no PEM")
    key = load_pem_private_key(certificates.key.read_bytes(), None)
    encrypted.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    for certificate, key_file, said in [
        (tmp_path / "none", certificates.key, "tls-cert: .* cannot be read"),
        (certificates.certificate, tmp_path / "none", "tls-key: .* cannot be read"),
        (certificates.certificate, other.key, "tls-key: .* is not the key of"),
        (text, certificates.key, "are not a certificate and its key"),
        (certificates.certificate, text, "are not a certificate and its key"),
        (certificates.certificate, encrypted, "without a password"),
    ]:
        with pytest.raises(ConfigError, match=said):
            server_context(certificate, key_file)
