"""Presence events for others: what is copied, where, and that it goes with the event or not at all."""

from typing import Any

import orjson
import pytest

from fanout.errors import SourceTimeout
from fanout.presence.copies import Copies
from fanout.presence.records import Key, leave_record
from fanout.sources.base import Appended, NewRecord
from fanout.types import PresenceEvent
from tests.unit.presence.bed import CONNECTION, NODE, Bed, Log


@pytest.fixture
def bed() -> Bed:
    bed = Bed()
    copying(bed)
    return bed


def copying(bed: Bed) -> None:
    """Has the events of rooms copied."""
    bed.presence._log = Copies(bed.log, lambda channel: "events" if channel == "room" else None, now=lambda: 1_234)


def event_of(record: NewRecord) -> dict[str, Any]:
    """What a copy says."""
    assert (record.topic, record.key, record.headers) == ("events", b"room", [])
    said = orjson.loads(record.value or b"")
    assert (said["source"], said["channel"]) == ("channel.presence", "room")
    (event,) = said["presence"]
    assert isinstance(event, dict)
    return event


def test_an_event_is_copied_next_to_its_record(bed: Bed) -> None:
    answers = bed.say(
        PresenceEvent("enter", "id:0", "eve", "hé", "x", {"k": 1}),
        PresenceEvent("update", "id:1", "eve", b"\xff\x00"),
        PresenceEvent("leave", "id:2", "eve", "bye"),
    )
    ((records, _),) = bed.log.waiting
    common = {"timestamp": 1_234, "clientId": "eve", "connectionId": CONNECTION}
    assert [event_of(copy) for copy in records[3:]] == [
        common | {"action": 2, "id": "id:0", "data": "hé", "encoding": "x", "extras": {"k": 1}},
        common | {"action": 4, "id": "id:1", "data": "/wA=", "encoding": "base64"},
        common | {"action": 3, "id": "id:2", "data": "bye"},
    ]
    bed.log.confirm()
    assert answers == [[None, None, None]]


def test_a_leave_that_nobody_said_is_copied_too(bed: Bed) -> None:
    bed.say(PresenceEvent("enter", "id:0", "eve"))
    bed.log.confirm()
    bed.presence.ended(CONNECTION)
    ((records, _),) = bed.log.waiting
    event = event_of(records[-1])
    assert (event["action"], event["clientId"], "data" in event) == (3, "eve", False)


def test_a_channel_without_a_topic_is_not_copied(bed: Bed) -> None:
    bed.say(PresenceEvent("enter", "id:0", "eve"), channel="quiet")
    ((records, _),) = bed.log.waiting
    assert len(records) == 1


def test_who_writes_hears_of_the_events_alone() -> None:
    log = Log()
    answers: list[object] = []
    leave = leave_record(Key("room", "c", "eve"), NODE, 0)
    copies = Copies(log, lambda _: "events")
    copies.append([leave], answers.append)
    log.confirm()
    assert answers == [[Appended(leave.topic, 0, 0, 1_000)]]
    copies.append([leave], answers.append)
    problem = SourceTimeout("late")
    log.refuse(problem)
    assert answers[1:] == [problem]
