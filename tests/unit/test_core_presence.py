"""The presence set, as Python asks for it."""

from collections.abc import Iterator

import orjson
import pytest

from fanout import _core
from fanout.sources.base import Record
from tests.support.memory import held

NOW_MS = 1_800_000_000_000  # what is older than the history window leaves no event


@pytest.fixture
def engine() -> Iterator[_core.Engine]:
    engine = _core.Engine(io_threads=0, secret=b"0123456789abcdef")
    engine.presence_topic("presence")
    engine.partition("presence", bytes(16), 0, 0)
    yield engine
    engine.close()


def said(offset: int, connection: str, action: str = "enter", **headers: str) -> Record:
    """What the client `me` of a connection does in channel `c`."""
    named = {"action": action, "id": f"{connection}:{offset}:0", "node": "n1", "type": "text"} | headers
    value = None if action == "leave" else b"hello"
    pairs = [(f"fanout.{name}", text.encode()) for name, text in named.items()]
    return Record("presence", 0, offset, -1, NOW_MS + offset, orjson.dumps(["c", connection, "me"]), value, pairs)


class TestTheSet:
    def test_is_paged_and_tells_all_that_was_said(self, engine: _core.Engine) -> None:
        engine.records([said(0, "a", extras='{"headers":{"x":1}}'), said(1, "b", type="binary", encoding="cipher")])
        (first,), cursor = engine.members("c", None, None, None, 1)
        assert (first.channel, first.action, first.id, first.timestamp) == ("c", 1, "a:0:0", NOW_MS)
        assert (first.client_id, first.connection_id, first.data) == ("me", "a", "hello")
        assert first.extras == {"headers": {"x": 1}}
        (second,), end = engine.members("c", None, None, cursor, 1)
        assert (second.data, second.encoding, end) == (b"hello", "cipher", None)
        assert engine.members("c", "you", None, None, 10) == engine.members("d", None, None, None, 10) == ([], None)
        assert [member.id for member in engine.members("c", "me", "b", None, 10)[0]] == ["b:1:0"]
        with pytest.raises(ValueError, match="cursor"):
            engine.members("c", None, None, "!", 10)

    def test_knows_its_size_and_the_nodes_that_answer_for_it(self, engine: _core.Engine) -> None:
        engine.records([said(0, "a"), said(1, "b", node="n2"), said(2, "b", "leave", type="none")])
        assert engine.presence_size("c") == (1, len("mehello"))
        assert engine.presence_size("d") == (0, 0)
        assert engine.member("c", "a", "me") == ("a:0:0", "n1", 0)
        assert engine.member("c", "b", "me") is None
        assert engine.presence_nodes() == {"n1": 1}
        assert engine.members_of("n1", 10) == [("c", "a", "me")]
        assert engine.members_of("n2", 10) == engine.members_of("n1", 0) == []

    def test_goes_by_the_newest_generation_of_a_connection(self, engine: _core.Engine) -> None:
        engine.records(
            [said(0, "a"), said(1, "a", "update", generation="2", node="n2"), said(2, "a", "leave", id="gone:")]
        )
        assert engine.member("c", "a", "me") == ("a:1:0", "n2", 2)
        engine.records([said(3, "a", "leave", generation="2", type="none"), said(4, "a")])
        assert engine.member("c", "a", "me") is None

    def test_tells_an_attachment_that_somebody_is_there(self, engine: _core.Engine) -> None:
        engine.records([said(0, "a")])
        assert engine.locate("c", None, 0, 0, 0).has_presence
        assert not engine.locate("d", None, 0, 0, 0).has_presence

    def test_is_no_part_of_positions_and_of_history(self, engine: _core.Engine) -> None:
        before = engine.position("c")
        engine.records([said(0, "a")])
        assert engine.position("c") == before
        assert held(engine, "c") == []


class TestTheHistoryOfPresence:
    def test_is_paged_in_both_directions(self, engine: _core.Engine) -> None:
        engine.records([said(0, "a"), said(1, "a", "update"), said(2, "a", "leave", type="none")])
        events, cursor = engine.presence_history("c", 0, 1 << 60, False, 2, None)
        assert [(event.action, event.data) for event in events] == [(3, "hello"), (4, "hello")]
        events, cursor = engine.presence_history("c", 0, 1 << 60, False, 2, cursor)
        assert ([event.action for event in events], cursor) == ([2], None)
        assert [event.action for event in engine.presence_history("c", 0, 1 << 60, True, 9, None)[0]] == [2, 4, 3]
        with pytest.raises(ValueError, match="cursor"):
            engine.presence_history("c", 0, 1 << 60, True, 9, "other:0:1")
