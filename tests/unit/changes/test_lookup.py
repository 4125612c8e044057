"""Single messages by their serials: from memory, and from the log."""

import asyncio
from collections.abc import Iterator

import pytest

from fanout import lookup
from fanout.errors import ClientError, SourceBusy, SourceError, SourceTimeout
from fanout.lookup import SCANS_WAITING
from tests.unit.changes.bed import CHANNEL, ME, Bed, serial_at


@pytest.fixture
def bed() -> Iterator[Bed]:
    made = Bed()
    yield made
    made.engine.close()


async def refused(bed: Bed, serial: str) -> int:
    with pytest.raises(ClientError) as caught:
        await bed.lookup.find(CHANNEL, serial, ME)
    return caught.value.info.code


@pytest.mark.parametrize("forgotten", [False, True])
async def test_versions_are_the_publication_and_what_it_was_made(bed: Bed, forgotten: bool) -> None:
    serial = bed.create("one")
    await bed.change("append", serial, "+a")
    await bed.change("update", serial, "two")
    bed.create("another")
    await bed.change("delete", serial)
    if forgotten:
        bed.forget()
    versions = await bed.lookup.versions(CHANNEL, serial, ME)
    assert [(version.action, version.data) for version in versions] == [(0, "one"), (1, "two"), (2, "two")]


@pytest.mark.parametrize("forgotten", [False, True])
async def test_annotations_are_those_of_the_message(bed: Bed, forgotten: bool) -> None:
    serial, other = bed.create(), bed.create()
    for target, name in ((serial, "a"), (other, "b"), (serial, "c")):
        await bed.annotate(target, "vote:distinct.v1", name=name, client_id="bob")
    if forgotten:
        bed.forget()
    annotations = await bed.lookup.annotations(CHANNEL, serial, ME)
    assert [(one.name, one.message_serial, one.client_id) for one in annotations] == [
        ("a", serial, "bob"),
        ("c", serial, "bob"),
    ]


async def test_a_message_that_is_yet_to_be_read_is_waited_for(bed: Bed) -> None:
    serial = bed.late("late")
    finding = asyncio.create_task(bed.lookup.find(CHANNEL, serial, ME))
    await asyncio.sleep(0.01)
    assert not finding.done()
    bed.read_on()
    assert (await finding).message.data == "late"


async def test_a_message_that_is_read_late_is_waited_for_if_the_log_has_it(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "AHEAD_UNASKED_S", 0.0)
    serial = bed.late("late")
    finding = asyncio.create_task(bed.lookup.find(CHANNEL, serial, ME))
    await asyncio.sleep(0.05)
    assert not finding.done()
    bed.read_on()
    assert (await finding).message.data == "late"


async def test_a_serial_that_the_log_has_not_come_to_is_not_waited_for(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "AHEAD_S", 60.0)
    bed.create()
    for offset in (10**6, 10**14):
        assert await asyncio.wait_for(refused(bed, serial_at(offset)), 10) == 40400


async def test_what_the_log_has_lost_is_not_there(bed: Bed) -> None:
    serial = bed.create()
    bed.forget()
    bed.earliest = 1
    assert await refused(bed, serial) == 40400


async def test_one_with_too_much_behind_it_is_not_looked_for(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "SCAN_RECORDS", 3)
    serials = [bed.create() for _ in range(4)]
    bed.forget()
    assert await refused(bed, serials[0]) == 40400
    assert (await bed.lookup.find(CHANNEL, serials[1], ME)).message.serial == serials[1]


async def test_a_page_of_old_messages_is_shown_as_they_are_now(bed: Bed) -> None:
    serials = [bed.create(name) for name in "abcd"]
    old = [(await bed.lookup.find(CHANNEL, serial, ME)).message for serial in serials]
    await bed.change("update", serials[0], "A")
    await bed.change("append", serials[1], "+")
    await bed.change("delete", serials[3])
    bed.forget()
    newest = await bed.lookup.newest(CHANNEL, old[::-1], ME)
    assert [(message.serial, message.action, message.data) for message in newest] == [
        (serials[3], 2, "d"),
        (serials[2], 0, "c"),
        (serials[1], 1, "b+"),
        (serials[0], 1, "A"),
    ]
    assert await bed.lookup.newest(CHANNEL, [], ME) == []


async def test_of_what_lies_behind_a_page_no_more_than_that_is_read(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    serial = bed.create()
    old = (await bed.lookup.find(CHANNEL, serial, ME)).message
    await bed.change("update", serial, "two")
    await bed.change("update", serial, "three")
    bed.forget()
    monkeypatch.setattr(lookup, "SCAN_RECORDS", 2)
    assert [message.data for message in await bed.lookup.newest(CHANNEL, [old], ME)] == ["two"]


async def test_no_more_look_ups_wait_than_may_and_nobody_takes_all_places(bed: Bed) -> None:
    serial = bed.create()
    bed.forget()
    bed.reads_back.clear()
    waiting = [asyncio.create_task(bed.lookup.find(CHANNEL, serial, ME)) for _ in range(SCANS_WAITING // 2)]
    await asyncio.sleep(0)
    assert await refused(bed, serial) == 42910
    other = asyncio.create_task(bed.lookup.find(CHANNEL, serial, "other"))
    await asyncio.sleep(0)
    for one in waiting[1:]:
        one.cancel()
    await asyncio.sleep(0)
    bed.reads_back.set()
    assert (await waiting[0]).message.data == (await other).message.data == "one"
    assert (await bed.lookup.find(CHANNEL, serial, ME)).message.data == "one"


@pytest.mark.parametrize(
    ("failure", "code"), [(SourceBusy("busy"), 42910), (SourceTimeout("late"), 50003), (SourceError("gone"), 50000)]
)
async def test_a_log_that_cannot_be_read_is_told(bed: Bed, failure: SourceError, code: int) -> None:
    serial = bed.create()
    bed.forget()
    bed.failure = failure
    for _ in range(SCANS_WAITING + 1):  # more than may wait: none is left behind
        assert await refused(bed, serial) == code
    bed.failure = None
    assert (await bed.lookup.find(CHANNEL, serial, ME)).message.serial == serial_at(0)
