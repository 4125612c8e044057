"""What a session expects of the engine is what the engine says."""

from fanout import _core
from fanout.session.kinds import Kinds
from fanout.session.limits import Limits
from fanout.session.ports import Outcome


class TestTheEngine:
    def test_numbers_the_outcomes_alike(self) -> None:
        numbers = [_core.FRESH, _core.RESUMED, _core.GAP, _core.FOREIGN, _core.AHEAD, _core.CONFLATED, _core.PARTIAL]
        numbers.append(_core.UNREAD)
        assert list(Outcome) == numbers

    def test_numbers_the_kinds_alike(self) -> None:
        assert list(Kinds) == [
            _core.KIND_MESSAGES,
            _core.KIND_PRESENCE,
            _core.KIND_ANNOTATIONS,
            _core.KIND_META,
            _core.KIND_OWN_PRESENCE,
            _core.KIND_PUBLISH,
            _core.KIND_WHOLE_APPENDS,
        ]

    def test_takes_every_name_that_a_session_takes(self) -> None:
        engine = _core.Engine(io_threads=0, secret=b"sixteen bytes ok")
        try:
            for name in ("x" * Limits().channel_bytes, "a\0b", " ", "é"):
                assert engine.locate(name, None, 0, 0, 1).outcome == Outcome.FRESH
        finally:
            engine.close()

    def test_answers_any_text_as_a_position(self) -> None:
        engine = _core.Engine(io_threads=0, secret=b"sixteen bytes ok")
        try:
            for serial in ("x", "\0", "é", "A" * 500_000):
                assert engine.locate("news", serial, 0, 0, 1).outcome == Outcome.FOREIGN
        finally:
            engine.close()
