"""The WebSocket listener and the driver of sessions, over real sockets."""

import asyncio
import gc
import logging
import socket
import struct
from typing import Any

import msgspec
import orjson
import pytest

from fanout import backlog
from fanout.errors import error
from fanout.sources.base import NewRecord
from fanout.transports import driver, turns, websocket
from fanout.transports._websocket import FRAGMENTS_MAX, MESSAGE_BYTES
from tests.unit.transports.front_door import (
    KEY,
    FrontDoor,
    Plan,
    Wire,
    client_frame,
    frame,
    front_door,
    native_front_door,
    upgrade,
)

HEARTBEAT = b'{"action":0,"id":"h"}'
ATTACH = {"action": 10, "channel": "room"}


async def connected(door: FrontDoor, query: str = f"key={KEY}&v=6&format=json") -> Wire:
    wire = await Wire.websocket(door, query)
    assert (await wire.message())["action"] == 4
    return wire


async def alive(wire: Wire) -> None:
    await wire.say(client_frame(1, HEARTBEAT))
    assert await wire.message() == {"action": 0, "id": "h"}


# -- frames --


async def test_a_message_in_fragments_with_a_ping_between() -> None:
    async with native_front_door() as door:
        wire = await connected(door)
        await wire.say(
            client_frame(1, HEARTBEAT[:5], fin=False)
            + client_frame(0, b"", fin=False)
            + client_frame(9, b"now")
            + client_frame(0, HEARTBEAT[5:])
        )
        assert await wire.message() == {"action": 0, "id": "h"}
        assert await wire.frame() == (10, b"now")
        await wire.close()


async def test_masking_is_undone() -> None:
    async with native_front_door() as door:
        wire = await connected(door)
        await wire.say(frame(1, HEARTBEAT, mask=b"\x12\x34\x56\x78"))
        assert await wire.message() == {"action": 0, "id": "h"}
        await wire.close()


async def test_frames_in_pieces_are_their_connections_own() -> None:
    """All connections share one parser: what one has not finished is nobody else's."""
    async with native_front_door() as door:
        wires = [await connected(door) for _ in range(3)]
        frames = [client_frame(1, b'{"action":0,"id":"%d%s"}' % (n, b"x" * 200 * n)) for n in range(3)]
        for index in range(len(frames[2])):
            for wire, told in zip(wires, frames, strict=True):
                if told[index : index + 1]:
                    await wire.say(told[index : index + 1])
            await asyncio.sleep(0)
        for number, wire in enumerate(wires):
            assert (await wire.message())["id"] == f"{number}{'x' * 200 * number}"
            await wire.close()


async def test_a_frame_of_the_largest_size_in_pieces_and_what_follows_it() -> None:
    async with native_front_door() as door:
        wire = await connected(door)
        largest = b'{"action":0,"id":"h"}'.ljust(MESSAGE_BYTES)
        for _ in range(2):
            await wire.say(client_frame(1, largest) + client_frame(1, HEARTBEAT))
            for _ in range(2):
                assert await wire.message() == {"action": 0, "id": "h"}
        await wire.close()


async def test_what_came_before_a_broken_frame_is_heard() -> None:
    async with native_front_door() as door:
        for _ in range(3):
            wire = await connected(door)
            await wire.say(client_frame(1, HEARTBEAT) + client_frame(3, b""))
            assert await wire.message() == {"action": 0, "id": "h"}
            assert await wire.closed_with() == 1002
            await wire.close()


async def test_a_failure_of_the_drivers_ends_its_connection_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with native_front_door() as door:
        wire, other = await connected(door), await connected(door)

        def fails(*_: Any) -> Any:
            raise RuntimeError("no")

        with monkeypatch.context() as broken:
            broken.setattr(websocket, "decode", fails)
            await wire.say(client_frame(1, HEARTBEAT) * 2)
            assert await wire.closed_with() == 1011
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        await alive(other)
        for each in (wire, other):
            await each.close()


async def test_only_the_newest_of_pings_that_came_together_is_answered() -> None:
    async with native_front_door() as door:
        wire = await connected(door)
        await wire.say(b"".join(client_frame(9, b"%d" % number) for number in range(50)))
        opcode, payload = await wire.frame()
        assert opcode == 10
        while payload != b"49":  # the kernel may have delivered them in more than one read
            opcode, payload = await wire.frame()
            assert opcode == 10
        await alive(wire)
        await wire.close()


async def test_what_follows_the_request_in_the_same_segment_is_heard() -> None:
    async with native_front_door() as door:
        wire = await Wire.open(door)
        await wire.say(upgrade() + client_frame(1, HEARTBEAT) * 100)
        await wire.head()
        assert (await wire.message())["action"] == 4
        for _ in range(100):
            assert (await wire.message())["action"] == 0
        await wire.close()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (client_frame(8, struct.pack("!H", 1000)), 1000),
        (client_frame(8, b""), 1000),
        (client_frame(8, struct.pack("!H", 4321) + b"mine"), 4321),
        (client_frame(8, struct.pack("!H", 1006)), 1002),
        (client_frame(8, struct.pack("!H", 5000)), 1002),
        (client_frame(8, struct.pack("!H", 999)), 1002),
        (client_frame(8, b"\x03"), 1002),
        (client_frame(8, struct.pack("!H", 1000) + b"\xff"), 1007),
        (client_frame(1, HEARTBEAT, rsv=4), 1002),
        (client_frame(1, HEARTBEAT, rsv=1), 1002),
        (client_frame(0, HEARTBEAT), 1002),
        (client_frame(1, b"{", fin=False) + client_frame(1, HEARTBEAT), 1002),
        (client_frame(1, b'{"a":"\xc3\x28"}'), 1007),
        (client_frame(3, b""), 1002),
        (client_frame(9, b"x" * 126), 1002),
        (client_frame(9, b"", fin=False), 1002),
        (frame(1, HEARTBEAT), 1002),
        (client_frame(1, b"x" * (MESSAGE_BYTES + 1)), 1009),
        (client_frame(1, b"x" * 300_000, fin=False) + client_frame(0, b"x" * 300_000), 1009),
        (client_frame(1, b"{", fin=False) + client_frame(0, b" ", fin=False) * FRAGMENTS_MAX, 1008),
    ],
)
async def test_how_a_connection_is_closed(sent: bytes, code: int) -> None:
    async with native_front_door() as door:
        wire = await connected(door)
        await wire.say(sent)
        assert await wire.closed_with() == code
        await wire.close()


async def test_what_comes_after_the_closing_began_is_dropped_and_bounded() -> None:
    async with native_front_door() as door:
        wire = await connected(door)
        wire.writer.write(client_frame(3, b""))
        wire.writer.write(b"x" * (4 << 20))
        await door.gone()  # long before the peer would have been given up
        await wire.close()


# -- the driver --


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (f"key={KEY}", 40017),
        ("v=6&key=app.key:wrong", 40101),
        ("v=6", 40101),
        (f"v=6&key={KEY}&format=xml", 40003),
    ],
)
async def test_who_is_not_let_in_is_told_in_band(query: str, code: int) -> None:
    async with native_front_door() as door:
        wire = await Wire.websocket(door, query)
        message = await wire.message()
        assert (message["action"], message["error"]["code"]) == (9, code)
        assert "channel" not in message
        assert await wire.closed_with() == 1008
        assert door.connections.opened == 1
        await wire.close()


async def test_msgpack_is_spoken_in_binary_frames() -> None:
    async with native_front_door() as door:
        wire = await Wire.websocket(door, f"key={KEY}&v=6&format=msgpack")
        opcode, payload = await wire.frame()
        assert (opcode, msgspec.msgpack.decode(payload)["action"]) == (2, 4)
        await wire.say(client_frame(2, msgspec.msgpack.encode({"action": 0})))
        opcode, payload = await wire.frame()
        assert (opcode, msgspec.msgpack.decode(payload)) == (2, {"action": 0})
        await wire.say(client_frame(1, HEARTBEAT))
        opcode, payload = await wire.frame()
        assert msgspec.msgpack.decode(payload)["error"]["code"] == 40000
        assert await wire.closed_with() == 1008
        await wire.close()


@pytest.mark.parametrize("sent", [b"not json", b"[]", b'{"action":"x"}', b"[" * 100_000])
async def test_a_frame_that_cannot_be_read_ends_the_connection(sent: bytes) -> None:
    async with native_front_door() as door:
        wire = await connected(door)
        await wire.say(client_frame(1, sent))
        message = await wire.message()
        assert (message["action"], message["error"]["code"]) == (9, 40000)
        assert await wire.closed_with() == 1008
        await wire.close()


async def test_attach_publish_detach_in_the_order_asked() -> None:
    async with front_door() as door:
        wire = await connected(door)
        for message in (
            ATTACH,
            {"action": 15, "channel": "room", "msgSerial": 0, "messages": [{"data": "a"}, {"data": "b"}]},
            {"action": 12, "channel": "room"},
        ):
            await wire.tell(message)
        assert [(await wire.message())["action"] for _ in range(3)] == [11, 1, 13]
        assert [call[0] for call in door.fake.calls] == ["attach", "detach"]
        (channel, messages) = door.publisher.published[0]
        assert (channel, [message.data for message in messages]) == ("room", ["a", "b"])
        await wire.close()


async def test_a_refused_publish_is_a_nack() -> None:
    async with front_door() as door:
        door.publisher.refusal = error(50003)
        wire = await connected(door)
        await wire.tell({"action": 15, "channel": "room", "msgSerial": 0, "messages": [{"data": "a"}]})
        message = await wire.message()
        assert (message["action"], message["error"]["code"]) == (2, 50003)
        await wire.close()


async def test_a_position_ahead_of_the_node_is_asked_for_again() -> None:
    async with front_door() as door:
        door.fake.plans = [Plan(outcome=4), Plan(outcome=4), Plan(outcome=1, serial="p7")]
        wire = await connected(door)
        await wire.tell(ATTACH | {"channelSerial": "p7"})
        assert (await wire.message())["channelSerial"] == "p7"
        assert not door.fake.plans
        await wire.close()


async def test_lost_continuity_reaches_the_session() -> None:
    async with front_door() as door:
        wire = await connected(door)
        await wire.tell(ATTACH)
        await wire.message()
        (handle,) = door.fake.connections
        attachment = door.fake.calls[0][1]
        door.connections.event("lost", handle, attachment)
        message = await wire.message()
        assert (message["action"], message["error"]["code"]) == (11, 80020)
        door.connections.event("lost", handle + 1, attachment)  # of a connection that is gone
        await wire.close()


async def test_an_evicted_client_is_gone_even_if_it_is_not_read_from() -> None:
    async with front_door() as door:
        wire = await connected(door)
        (handle,) = door.fake.connections
        driver = door.connections._by_handle[handle]
        driver.link.pause()
        door.connections.event("evicted", handle, 1)
        assert await wire.end() == b""
        await wire.close()


async def all_are_answered(door: FrontDoor, wire: Wire, count: int) -> None:
    """Lets the log answer; `count` frames are acknowledged."""
    door.publisher.hold = False
    for answer in door.publisher.waiting:
        answer()
    answered = 0
    while answered < count:
        message = await wire.message()
        assert message["action"] == 1
        answered += message["count"]


async def test_a_client_with_too_much_under_way_is_not_read_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_PENDING_MAX", 8)
    async with front_door() as door:
        door.publisher.hold = True
        wire = await connected(door)
        for serial in range(8):
            await wire.tell({"action": 15, "channel": "room", "msgSerial": serial, "messages": [{"data": "a"}]})
        await asyncio.sleep(0.05)
        for serial in range(8, 20):
            await wire.tell({"action": 15, "channel": "room", "msgSerial": serial, "messages": [{"data": "a"}]})
        await asyncio.sleep(0.05)
        assert len(door.publisher.published) == 8
        await all_are_answered(door, wire, 20)
        await wire.close()


@pytest.mark.parametrize("messages", [[{"data": "a"}] * 5, [{"data": "a" * 5_120}]], ids=["messages", "bytes"])
async def test_what_is_under_way_is_counted_in_messages_and_in_bytes(
    monkeypatch: pytest.MonkeyPatch, messages: list[dict[str, str]]
) -> None:
    monkeypatch.setattr(driver, "_PENDING_MAX", 8)
    async with front_door() as door:
        door.publisher.hold = True
        wire = await connected(door)
        for serial in range(4):
            await wire.tell({"action": 15, "channel": "room", "msgSerial": serial, "messages": messages})
            await asyncio.sleep(0.05)
        assert len(door.publisher.published) == 2
        await all_are_answered(door, wire, 4)
        await wire.close()


async def test_who_publishes_waits_for_a_log_that_has_enough_to_do_and_nobody_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backlog, "HIGH", (4, 1 << 20))
    monkeypatch.setattr(backlog, "LOW", (2, 1 << 19))
    async with front_door() as door:
        publishers = [await connected(door) for _ in range(3)]
        listener = await connected(door)
        for wire in publishers:
            await wire.tell({"action": 15, "channel": "room", "msgSerial": 0, "messages": [{"data": "first"}]})
            assert (await wire.message())["action"] == 1
        for _ in range(4):
            door.backlog.append([NewRecord("t", b"k", b"v", [])], lambda _: None)
        for wire in publishers:
            await wire.tell({"action": 15, "channel": "room", "msgSerial": 1, "messages": [{"data": "second"}]})
        await listener.say(client_frame(1, HEARTBEAT))
        assert (await listener.message())["action"] == 0
        await asyncio.sleep(0.05)
        gone = publishers.pop(0)
        door.connections.event("evicted", min(door.fake.connections), 1)
        assert await gone.end() == b""
        await gone.close()
        assert len(door.publisher.published) == 3
        for answer in door.log.waiting[:2]:
            answer([])
        for wire in publishers:
            assert (await wire.message())["msgSerial"] == 1
        assert len(door.publisher.published) == 5
        for wire in (*publishers, listener):
            await wire.close()


async def test_what_was_read_with_too_much_waits_and_is_heard_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_PENDING_MAX", 8)
    async with front_door() as door:
        door.publisher.hold = True
        wire = await connected(door)
        told = [
            orjson.dumps({"action": 15, "channel": "room", "msgSerial": serial, "messages": [{"data": "a"}] * 8})
            for serial in range(6)
        ]
        await wire.say(b"".join(client_frame(1, one) for one in told) + client_frame(1, HEARTBEAT))
        for count in range(1, 7):
            await asyncio.sleep(0.05)
            assert len(door.publisher.published) == count
            waiting, door.publisher.waiting = door.publisher.waiting, []
            for answer in waiting:
                answer()
        acked = 0
        while (message := await wire.message())["action"] == 1:
            assert message["msgSerial"] == acked
            acked += message["count"]
        assert (acked, message) == (6, {"action": 0, "id": "h"})
        await wire.close()


async def test_clients_that_say_much_at_once_are_heard_turn_by_turn_and_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    async with native_front_door() as door:
        wires = [await connected(door) for _ in range(3)]
        said = b"".join(client_frame(1, b'{"action":0,"id":"%d"}' % number) for number in range(20))
        await asyncio.gather(*(wire.say(said) for wire in wires))
        for wire in wires:
            assert [(await wire.message())["id"] for _ in range(20)] == [str(number) for number in range(20)]
            await alive(wire)
        for wire in wires:
            await wire.close()


async def test_a_client_that_left_before_its_turn_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    async with native_front_door() as door:
        staying, leaving = await connected(door), await connected(door)
        (_, driver) = door.connections._by_handle.values()
        await staying.say(client_frame(1, HEARTBEAT) * 20)
        await leaving.say(client_frame(1, HEARTBEAT) * 20)
        driver.cut()
        for _ in range(20):
            assert await staying.message() == {"action": 0, "id": "h"}
        await alive(staying)
        for wire in (staying, leaving):
            await wire.close()


async def test_what_is_brief_need_not_stand_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def take(self: turns.Turns, caller: turns.Caller, *, brief: bool) -> bool:
        asked.append(brief)
        return True

    monkeypatch.setattr(turns.Turns, "take", take)
    async with native_front_door() as door:
        wire = await connected(door)
        asked.clear()  # what coming in took
        await wire.say(client_frame(9, b"p" * 125))
        assert await wire.frame() == (10, b"p" * 125)
        await alive(wire)
        await wire.say(client_frame(1, HEARTBEAT.ljust(1_000)))
        assert await wire.message() == {"action": 0, "id": "h"}
        assert asked == [True, True, False]
        await wire.close()


async def test_an_answer_for_a_client_that_left_is_nobodys() -> None:
    async with front_door() as door:
        door.publisher.hold = True
        wire = await connected(door)
        await wire.tell({"action": 15, "channel": "room", "msgSerial": 0, "messages": [{"data": "a"}]})
        await asyncio.sleep(0.05)
        await wire.close()
        await door.gone()
        for answer in door.publisher.waiting:
            answer()


async def test_a_resumed_connection_supersedes_the_old_transport() -> None:
    async with native_front_door() as door:
        old = await Wire.websocket(door)
        first = await old.message()
        key = first["connectionDetails"]["connectionKey"]
        new = await Wire.websocket(door, f"key={KEY}&v=6&resume={key}")
        second = await new.message()
        assert second["connectionId"] == first["connectionId"]
        assert door.connections.opened == 2
        assert (await old.message())["error"]["code"] == 80016
        await old.closed_with()
        await alive(new)
        for wire in (old, new):
            await wire.close()


# -- a node that is not ready --


async def test_a_client_is_held_until_the_node_is_ready() -> None:
    async with native_front_door() as door:
        door.ready.clear()
        wires = [await Wire.websocket(door) for _ in range(70)]
        await wires[0].say(client_frame(1, HEARTBEAT))
        await asyncio.sleep(0.05)
        assert len(door.connections) == 70
        door.ready.set()
        for wire in wires:
            assert (await wire.message())["action"] == 4
        assert await wires[0].message() == {"action": 0, "id": "h"}
        for wire in wires:
            await wire.close()


async def test_a_held_client_is_sent_away_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_HOLD_SECONDS", 0.1)
    async with native_front_door() as door:
        door.ready.clear()
        wire = await Wire.websocket(door)
        message = await wire.message()
        assert (message["action"], message["error"]["code"], message["error"]["statusCode"]) == (6, 80003, 400)
        assert await wire.closed_with() == 1001
        await wire.close()


async def test_a_held_client_that_floods_is_cut() -> None:
    async with native_front_door() as door:
        door.ready.clear()
        wire = await Wire.open(door)
        await wire.say(upgrade() + client_frame(1, HEARTBEAT) * 1000)
        await wire.head()
        assert await wire.end() == b""
        await wire.close()


# -- memory --


async def test_a_connection_leaves_nothing_to_the_collector_of_cycles() -> None:
    kinds = {"WebSocket", "_Client", "Session", "Attachments", "_Connection", "RequestReader", "Request"}

    def alive_now() -> int:
        return sum(type(found).__name__ in kinds for found in gc.get_objects())

    async with native_front_door() as door:
        await door.gone()
        gc.collect()
        before = alive_now()
        gc.disable()
        try:
            wire = await connected(door)
            await wire.tell(ATTACH)
            await wire.message()
            held = {type(found).__name__ for found in gc.get_objects()} & kinds
            assert held >= {"WebSocket", "_Client", "Session"}
            assert not held & {"_Connection", "RequestReader", "Request"}  # what HTTP needed is gone already
            await wire.close()
            await door.gone()
            await asyncio.sleep(0)
            assert alive_now() == before
        finally:
            gc.enable()


# -- descriptors --


async def test_a_reused_descriptor_is_never_written_to() -> None:
    """Connections that the engine writes to are cut, while this process opens sockets that get their numbers."""
    async with native_front_door() as door:
        message = {"action": 10, "channel": "room"}
        strangers: list[tuple[socket.socket, socket.socket]] = []
        for _ in range(20):
            wires = [await connected(door) for _ in range(10)]
            for wire in wires:
                await wire.tell(message)
                await wire.say(client_frame(1, HEARTBEAT) * 50)  # so that the engine is writing when the end comes
                raw: Any = wire.writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                wire.writer.transport.abort()
            for _ in range(10):
                strangers.append(socket.socketpair())
                await asyncio.sleep(0)
        await door.gone()
        ends = [end for pair in strangers for end in pair]
        for end in ends:
            end.setblocking(False)
            with pytest.raises(BlockingIOError):  # neither bytes nor a shutdown
                end.recv(1)
        for end in ends:
            end.close()


async def test_who_is_present_is_written_and_leaves_with_the_channel() -> None:
    async with front_door() as door:
        wire = await connected(door)
        await wire.tell(
            {"action": 14, "channel": "room", "msgSerial": 0, "presence": [{"action": 2, "clientId": "bob"}]}
        )
        await wire.tell({"action": 12, "channel": "room"})
        attached, ack, detached = [await wire.message() for _ in range(3)]
        assert (attached["action"], detached["action"]) == (11, 13)
        assert ack["res"] == [{"serials": [None]}]
        ((connection_id, channel, actions),) = door.presence.said
        assert (channel, actions) == ("room", ["enter"])
        assert door.presence.left == [(connection_id, "room")]
        await wire.close()
