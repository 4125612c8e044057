"""What a message's extras may hold."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from fanout import _core
from fanout.errors import ClientError
from fanout.rules.route import Rule
from fanout.session.extras import extras_bytes
from fanout.session.limits import Limits
from fanout.types import Record
from tests.support.memory import held

DEEPEST = Limits().extras_depth


def objects(levels: int) -> dict[str, Any]:
    return {"a": objects(levels - 1)} if levels > 1 else {}


def arrays(levels: int) -> dict[str, Any]:
    value: list[Any] = []
    for _ in range(levels - 2):
        value = [value]
    return {"a": value}


def refused(extras: Any) -> int:
    with pytest.raises(ClientError) as caught:
        extras_bytes(extras, DEEPEST)
    return caught.value.info.code


def test_are_counted_as_json() -> None:
    assert extras_bytes(None, DEEPEST) == 0
    assert extras_bytes({}, DEEPEST) == 2
    assert extras_bytes({"a": ["\u00fc", 1.5, True, None]}, DEEPEST) == len('{"a":["ü",1.5,true,null]}'.encode())


@pytest.mark.parametrize("integer", [-(2**63), 2**64 - 1])
def test_may_hold_numbers_of_64_bits(integer: int) -> None:
    assert extras_bytes({"a": integer}, DEEPEST)


@pytest.mark.parametrize(
    "extras",
    [
        "text", [], 5, b"", {1: 2}, {"a": {None: 1}}, {"a": 2**64}, {"a": [-(2**63) - 1]}, {"a": b"bytes"},
        {"a": float("nan")}, {"a": [float("inf")]}, {"a": {"b": float("-inf")}}, {"a": "\ud800"}, {"\ud800": 1},
        {"a": datetime.now(UTC)}, {"a": (1, 2)}, {"a": {1}},
    ],
)  # fmt: skip
def test_that_json_cannot_keep_are_refused(extras: Any) -> None:
    assert refused(extras) == 40032


@pytest.mark.parametrize("nested", [objects, arrays])
def test_may_be_as_deep_as_the_limit(nested: Callable[[int], dict[str, Any]]) -> None:
    assert extras_bytes(nested(DEEPEST), DEEPEST)
    assert refused(nested(DEEPEST + 1)) == 40032
    assert refused(nested(900)) == 40032


def test_of_the_greatest_depth_are_read_back_by_the_engine() -> None:
    engine = _core.Engine(io_threads=0, secret=bytes(16))
    try:
        engine.rules([Rule("t", "#{key}")])
        engine.partition("t", bytes(16), 0, 0)
        headers = [("fanout.id", b"x"), ("fanout.type", b"none"), ("fanout.extras", orjson.dumps(objects(DEEPEST)))]
        engine.records([Record("t", 0, 0, -1, 1_000, b"c", None, headers)])
        (message,) = held(engine, "c")
    finally:
        engine.close()
    assert message.extras == objects(DEEPEST)
