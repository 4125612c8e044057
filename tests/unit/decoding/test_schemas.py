"""What is known of schemas, and in which order the rest is asked for; the registry is a function here."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from fanout.decoding import schemas as schemas_module
from fanout.decoding.decoders import Decoders, Wanted
from fanout.decoding.registry import RegistryAway, SchemaUnknown
from fanout.decoding.schemas import ASKED, READY, Schemas


class Asked:
    """Stands for `Decoders`: what is asked of the registry, and what it answers."""

    def __init__(self, answer: Callable[[Wanted], None]) -> None:
        self.prepare = answer
        self.closed = False

    def close(self) -> None:
        self.closed = True


@contextmanager
def asking(answer: Callable[[Wanted], None], clock: Callable[[], float] = lambda: 0.0) -> Iterator[Schemas]:
    schemas = Schemas(cast("Decoders", Asked(answer)), clock=clock)
    schemas.start(lambda: None)
    yield schemas
    schemas.stop()
    assert cast("Asked", schemas.decoders).closed


def wait_until(condition: Callable[[], object]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.02)
    pytest.fail("it did not happen in time")


def test_each_schema_is_asked_for_once() -> None:
    asked: list[Wanted] = []
    with asking(asked.append) as schemas:
        for _ in range(3):
            wait_until(lambda: schemas.look(Wanted("avro", 1)) is READY)
        wait_until(lambda: schemas.look(Wanted("protobuf", 1)) is READY)
    assert asked == [Wanted("avro", 1), Wanted("protobuf", 1)]


def test_an_unknown_schema_is_asked_for_again_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas_module, "UNKNOWN_MAX", 2)
    asked, now = [], [0.0]

    def answer(wanted: Wanted) -> None:
        asked.append(wanted.schema_id)
        raise SchemaUnknown("no such id")

    with asking(answer, lambda: now[0]) as schemas:
        for _ in range(3):
            wait_until(lambda: schemas.look(Wanted("avro", 1)).reason == "no such id")
        now[0] = 61.0
        assert schemas.look(Wanted("avro", 1)) is ASKED
        wait_until(lambda: schemas.look(Wanted("avro", 2)).reason == "no such id")
        wait_until(lambda: schemas.look(Wanted("avro", 3)).reason == "no such id")
        assert asked == [1, 1, 2, 3]
        wait_until(
            lambda: schemas.look(Wanted("avro", 1)).reason == "no such id"
        )  # forgotten: at most 2 are remembered
    assert asked == [1, 1, 2, 3, 1]


def test_what_is_no_schema_at_all_is_unknown() -> None:
    def answer(_: Wanted) -> None:
        raise ValueError("Incorrect padding")

    with asking(answer) as schemas:
        wait_until(lambda: schemas.look(Wanted("protobuf", 4)).reason == "schema 4 is no protobuf: Incorrect padding")


def test_one_schema_that_is_never_answered_does_not_hold_up_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas_module, "RETRY_S", 0.01)

    def answer(wanted: Wanted) -> None:
        if wanted.schema_id == 1:
            raise RegistryAway("500")

    now = [0.0]
    with asking(answer, lambda: now[0]) as schemas:
        assert schemas.look(Wanted("avro", 1)) is ASKED
        wait_until(lambda: schemas.away == "500")
        wait_until(lambda: schemas.look(Wanted("avro", 2)) is READY)
        now[0] = 1e6
        assert schemas.look(Wanted("avro", 1)) is ASKED


def test_a_bounded_number_is_asked_for_at_a_time_and_the_others_when_these_have_their_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schemas_module, "ASKED_MAX", 2)
    monkeypatch.setattr(schemas_module, "RETRY_S", 0.01)
    is_away, asked = threading.Event(), set[int]()
    is_away.set()

    def answer(wanted: Wanted) -> None:
        asked.add(wanted.schema_id)
        if is_away.is_set():
            raise RegistryAway("away")

    with asking(answer) as schemas:
        assert [schemas.look(Wanted("avro", number)) for number in (1, 2, 3)] == [ASKED] * 3
        wait_until(lambda: len(asked) == 2)
        assert schemas.look(Wanted("avro", 3)) is ASKED
        assert asked == {1, 2}
        is_away.clear()
        wait_until(lambda: schemas.look(Wanted("avro", 3)) is READY)
