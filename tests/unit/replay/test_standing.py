"""What is believed when it has stood for a while: not sooner, not once it was otherwise, and of so many places."""

import asyncio

import pytest

from fanout.replay import standing
from fanout.replay.standing import Standing

PLACE = ("t", 0, 7)


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "STANDS_S", 0.05)


async def test_what_has_been_so_for_a_while_is_believed() -> None:
    known = Standing()
    assert not known.has_stood(PLACE, is_so=True)
    await asyncio.sleep(0.1)
    assert known.has_stood(PLACE, is_so=True)
    assert known.has_stood(PLACE, is_so=True), "and by whoever asks next"
    assert not known.has_stood(("t", 0, 8), is_so=True), "of another place nothing is known"


async def test_what_was_otherwise_meanwhile_begins_anew() -> None:
    known = Standing()
    known.has_stood(PLACE, is_so=True)
    await asyncio.sleep(0.1)
    assert not known.has_stood(PLACE, is_so=False)
    assert not known.has_stood(PLACE, is_so=True)


async def test_so_many_places_are_known_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "FOUND_MAX", 3)
    known = Standing()
    for offset in range(10):
        known.has_stood(("t", 0, offset), is_so=True)
    assert len(known) == 3
    monkeypatch.setattr(standing, "FORGET_S", 0.05)
    await asyncio.sleep(0.1)
    assert not known.has_stood(PLACE, is_so=True)
    assert len(known) == 1
