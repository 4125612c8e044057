"""Changes and annotations on their way to the log: what is written, and what is refused."""

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from fanout import lookup, mutate
from fanout.types import OutChange
from tests.unit.changes.bed import CHANNEL, HISTORY_MS, ME, Bed, refusal, serial_at


@pytest.fixture
def bed() -> Iterator[Bed]:
    made = Bed()
    yield made
    made.engine.close()


# -- what becomes of a message --


async def test_an_update_changes_what_it_names(bed: Bed) -> None:
    serial = bed.create("one", name="n", client_id="ann")
    version = await bed.change("update", serial, "two", version={"clientId": "bob"})
    assert version == serial_at(1)
    message = await bed.now(serial)
    assert (message.serial, message.data, message.name, message.client_id) == (serial, "two", "n", "ann")


async def test_a_delete_keeps_what_it_does_not_name(bed: Bed) -> None:
    serial = bed.create("one", name="n")
    await bed.change("delete", serial, name="gone")
    message = await bed.now(serial)
    assert (message.data, message.name) == ("one", "gone")


@pytest.mark.parametrize(("data", "piece", "whole"), [("a", "b", "ab"), (b"\0", b"\1", b"\0\1"), (None, "b", "b")])
async def test_an_append_goes_behind_what_is_there(bed: Bed, data: Any, piece: Any, whole: Any) -> None:
    serial = bed.create(data)
    await bed.change("append", serial, piece)
    assert (await bed.now(serial)).data == whole


async def test_annotations_come_to_a_summary(bed: Bed) -> None:
    serial = bed.create()
    for _ in range(2):
        await bed.annotate(serial)
    known = await bed.lookup.find(CHANNEL, serial, ME)
    assert known.summary is not None
    assert orjson.loads(known.summary) == {"likes:total.v1": {"": {"u": 2}}}


async def test_a_change_sent_again_is_written_once(bed: Bed) -> None:
    serial = bed.create()
    change = OutChange("append", serial, "same", "+")
    assert await bed.ask(change) == await bed.ask(change) == serial_at(1)
    assert (await bed.now(serial)).data == "one+"


# -- what is written for readers that hold nothing --


async def test_an_update_is_written_with_the_whole_message(bed: Bed) -> None:
    serial = bed.create("one", name="n", client_id="ann")
    await bed.change("update", serial, name="m")
    assert bed.log[-1].value == b"one"
    assert bed.headers()["fanout.set"] == b"name"
    assert bed.headers()["fanout.clientId"] == b"ann"
    bed.forget()
    assert (await bed.now(serial)).data == "one"


async def test_an_append_is_written_whole_once_the_whole_is_old(bed: Bed) -> None:
    serial = bed.create("one")
    await bed.change("append", serial, "+a")
    assert bed.log[-1].value == b"+a"
    bed.now_ms += HISTORY_MS // 2 + 1
    await bed.change("append", serial, "+b")
    assert bed.log[-1].value == b"one+a+b"
    assert bed.headers()["fanout.appended"] == b"2"
    await bed.change("append", serial, "+c")
    assert bed.log[-1].value == b"+c"
    assert (await bed.now(serial)).data == "one+a+b+c"


async def test_an_annotation_comes_with_the_summary_once_that_is_old(bed: Bed) -> None:
    serial = bed.create()
    await bed.annotate(serial)
    assert "fanout.summary" not in bed.headers()
    bed.now_ms += HISTORY_MS // 2 + 1
    await bed.annotate(serial)
    assert orjson.loads(bed.headers()["fanout.summary"] or b"") == {"likes:total.v1": {"": {"u": 1}}}


# -- what memory does not hold --


async def test_what_memory_does_not_hold_is_changed_as_the_log_has_it(bed: Bed) -> None:
    serial = bed.create("one")
    await bed.change("append", serial, "+a")
    bed.forget()
    await bed.change("update", serial, name="n")
    assert bed.log[-1].value == b"one+a"


async def test_changes_of_a_message_that_is_looked_for_keep_their_order(bed: Bed) -> None:
    serial = bed.create("one")
    bed.forget()
    bed.reads_back.clear()
    first = asyncio.create_task(bed.change("append", serial, "+a"))
    await asyncio.sleep(0)
    second = asyncio.create_task(bed.change("append", serial, "+b"))
    await asyncio.sleep(0)
    bed.reads_back.set()
    assert (await first, await second) == (serial_at(1), serial_at(2))
    assert (await bed.now(serial)).data == "one+a+b"


async def test_no_more_wait_than_may_and_nobody_takes_all_places(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutate, "WAITING", 6)
    serial = bed.create("one")
    bed.forget()
    bed.reads_back.clear()
    waiting = [asyncio.create_task(bed.change("append", serial, str(number))) for number in range(3)]
    await asyncio.sleep(0)
    assert refusal(await bed.change("append", serial, "too many")) == 42910
    other = asyncio.create_task(bed.ask(OutChange("append", serial, "other:0:0", "4"), who="other"))
    await asyncio.sleep(0)
    bed.reads_back.set()
    assert await asyncio.gather(*waiting, other) == [serial_at(number) for number in (1, 2, 3, 4)]
    assert await bed.change("append", serial, "5") == serial_at(5)


# -- refusals --


@pytest.mark.parametrize("forgotten", [False, True])
async def test_somebody_elses_message_takes_the_right_to_any(bed: Bed, forgotten: bool) -> None:
    theirs, nobodys = bed.create(client_id="ann"), bed.create()
    if forgotten:
        bed.forget()
    for serial in (theirs, nobodys):
        assert refusal(await bed.change("update", serial, "x", owner="bob")) == 40160
    assert await bed.change("update", theirs, "x", owner="ann") == serial_at(2)
    assert await bed.change("update", nobodys, "x") == serial_at(3)


async def test_a_channel_of_another_namespace(bed: Bed) -> None:
    serial = bed.create(channel="news")
    assert refusal(await bed.ask(OutChange("update", serial, "id", "x"), channel="news")) == 93002
    assert len(bed.log) == 1


async def test_a_message_that_is_not_there(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "AHEAD_S", 0.0)
    elsewhere = bed.create(channel="chat:other")
    version = await bed.change("update", bed.create(), "x")
    for serial in ("nonsense", "1-2", "0000000000000001-0-other topic", serial_at(99), elsewhere, version):
        assert refusal(await bed.change("update", serial, "x")) == 40400
        assert refusal(await bed.annotate(serial)) == 40400


@pytest.mark.parametrize(
    ("fields", "piece"), [({"data": "text"}, b"\0"), ({"data": b"\0"}, "text"), ({"encoding": "json"}, "x")]
)
async def test_what_does_not_fit_behind_what_is_there(bed: Bed, fields: dict[str, Any], piece: str | bytes) -> None:
    assert refusal(await bed.change("append", bed.create(**fields), piece)) == 40013


async def test_a_message_does_not_become_larger_than_one_may_be() -> None:
    bed = Bed(message_bytes=10)
    serial = bed.create("x" * 8)
    assert refusal(await bed.change("append", serial, "abc")) == 40009
    assert await bed.change("append", serial, "ab") == serial_at(1)
    assert refusal(await bed.change("update", serial, name="n")) == 40009
    bed.engine.close()
