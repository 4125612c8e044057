"""What the audit makes of the bytes of a stream, however they are cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.audit.events import Event, Events, Lines, Reply

EVENTS = b':keepalive\n\nid: a\n\nid: b\nevent: message\ndata: {"n":1}\n\nevent: error\ndata: {"n":2}\n\ndata:3\n\n'
LINES = b'{"id":"a"}\n\n{"id":"b","event":"message","data":{"n":1}}\n{"event":"error","data":{"n":2}}\n{"data":3}\n'
SAID = [
    Event("a", "message", None),
    Event("b", "message", {"n": 1}),
    Event(None, "error", {"n": 2}),
    Event(None, "message", 3),
]


def pieces(body: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [body[begin:end] for begin, end in itertools.pairwise(places)]


@pytest.mark.parametrize("lines", [False, True])
@given(cuts=st.lists(st.integers(0, 1_000), max_size=8))
def test_events_are_the_same_however_they_are_cut(lines: bool, cuts: list[int]) -> None:
    reader = Lines() if lines else Events()
    body = LINES if lines else EVENTS
    assert [event for piece in pieces(body, cuts) for event in reader.feed(piece)] == SAID


@pytest.mark.parametrize("lines", [False, True])
def test_what_a_cut_leaves_of_an_event_is_none(lines: bool) -> None:
    whole = len(LINES if lines else EVENTS)
    for end in range(whole):
        reader = Lines() if lines else Events()
        found = reader.feed((LINES if lines else EVENTS)[:end])
        assert found == SAID[: len(found)]
        assert len(found) < len(SAID)


@given(cuts=st.lists(st.integers(0, 1_000), max_size=8))
def test_a_response_is_taken_out_of_its_chunks(cuts: list[int]) -> None:
    reply = Reply()
    raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n00000003\r\nid:\r\n4\r\n a\n\n\r\n"
    assert b"".join(reply.feed(piece) for piece in pieces(raw, cuts)) == b"id: a\n\n"
    assert (reply.status, reply.is_whole) == (200, False)
    assert reply.feed(b"0\r\n\r\n") == b""
    assert reply.is_whole


def test_what_is_no_http_is_a_broken_connection() -> None:
    with pytest.raises(ConnectionError):
        Reply().feed(b"hello\r\n\r\n")
