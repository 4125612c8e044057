"""Attachments that begin in the past wait for what their node has written and not read back yet."""

from collections.abc import Sequence

from fanout.history.reading import Channels, has_read
from fanout.session.ports import Outcome
from tests.support.conversation import FakePlan


class Memory:
    def __init__(self) -> None:
        self.read = [("messages", 0, 7), ("messages", 1, 3)]

    def places(self, channel: str, position: str | None, /) -> Sequence[tuple[str, int, int]]:
        return self.read

    def locate(self, channel: str, serial: str | None, rewind_count: int, rewind_ms: int, now_ms: int, /) -> FakePlan:
        return FakePlan(outcome=Outcome.FRESH)

    def filter(self, expression: str, /) -> str:
        return f"compiled {expression}"


def test_what_was_read_reaches_to_places_that_concern_it() -> None:
    read = [("messages", 0, 7)]
    assert has_read(read, {})
    assert has_read(read, {("messages", 0): 7, ("messages", 1): 99, ("presence", 0): 99})
    assert not has_read(read, {("messages", 0): 8})


def test_a_rewind_waits_until_what_the_node_wrote_is_read_back() -> None:
    memory, written = Memory(), {("messages", 1): 4}
    channels = Channels(memory, written)
    assert channels.locate("room", None, 1, 0, 1_000).outcome == Outcome.AHEAD
    assert channels.locate("room", None, 0, 60_000, 1_000).outcome == Outcome.AHEAD
    memory.read[1] = ("messages", 1, 4)
    assert channels.locate("room", None, 1, 0, 1_000).outcome == Outcome.FRESH


def test_who_asks_for_nothing_of_the_past_waits_for_nothing() -> None:
    channels = Channels(Memory(), {("messages", 1): 4})
    assert channels.locate("room", None, 0, 0, 1_000).outcome == Outcome.FRESH
    assert channels.locate("room", "position", 0, 0, 1_000).outcome == Outcome.FRESH


def test_filters_are_the_engines() -> None:
    assert Channels(Memory(), {}).filter("name") == "compiled name"
