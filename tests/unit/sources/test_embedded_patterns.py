"""Topics of an embedded log that appear while a pattern waits for them."""

import threading
from pathlib import Path
from typing import Any

import pytest

from fanout.sources.embedded import EmbeddedSource
from tests.support.sources import RecordingSink, append, eventually, record
from tests.unit.sources.conftest import HOUR_MS


async def test_a_topic_that_appears_while_the_reader_is_under_way_is_read_on_its_next_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, sink = EmbeddedSource(tmp_path), RecordingSink()
    is_under_way, go_on = threading.Event(), threading.Event()
    heed = source._heed

    def slow(*arguments: Any) -> None:
        is_under_way.set()
        assert go_on.wait(60)
        heed(*arguments)

    monkeypatch.setattr(source, "_heed", slow)
    await source.start(sink, ["t", "^day-"], HOUR_MS)
    try:
        await eventually(is_under_way.is_set)
        await append(source, record("day-1", b"first"))
        go_on.set()
        await eventually(lambda: sink.values("day-1") == [b"first"])
        assert source.health() == (True, "", {})
    finally:
        go_on.set()
        await source.stop()
