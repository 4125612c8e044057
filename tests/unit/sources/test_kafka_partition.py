"""What holds up a partition, when one that was refused is asked for again, and that a start does not wait for it."""

import time

from fanout.sources.kafka import KafkaSource
from fanout.sources.kafka_partition import RETRY_S, Reading


def test_records_wait_from_when_they_are_there_until_one_comes() -> None:
    reading = Reading(start=5, end=5, epoch=0, now=100)
    assert not reading.advance(5, 5, now=110)
    assert reading.waits(110) == 0
    assert not reading.advance(5, 7, now=111)
    assert reading.waits(114) == 4
    assert reading.advance(6, 7, now=115)
    assert (reading.next, reading.end, reading.waits(116)) == (6, 7, 1)


def test_a_client_that_does_not_know_its_position_changes_nothing() -> None:
    reading = Reading(start=5, end=5, epoch=0, now=100)
    assert not reading.advance(-1001, 0, now=101)
    assert (reading.next, reading.end) == (5, 5)


def test_what_holds_it_up_is_told_when_it_is_known() -> None:
    reading = Reading(start=5, end=7, epoch=0, now=100)
    assert reading.held(None, None, 110) is None
    assert reading.held(None, True, 110) == (10, "records from offset 5 on wait for a transaction to end")
    assert reading.held(None, False, 110) == (10, "records from offset 5 on are not given by its leader")
    assert reading.held(104.0, None, 110) == (6, "no broker leads it")
    reading.advance(7, 7, now=111)
    assert reading.held(None, True, 112) is None


def test_a_refusal_is_news_once_and_ends_with_the_next_record() -> None:
    reading = Reading(start=5, end=7, epoch=0, now=100)
    assert reading.failed("not authorized", now=101)
    assert not reading.failed("not authorized", now=103)
    assert reading.held(None, None, 105) == (4, "it cannot be read: not authorized")
    reading.advance(6, 7, now=106)
    assert reading.held(None, None, 107) is None


def test_who_was_refused_is_asked_for_again_and_silence_then_means_that_it_is_over() -> None:
    reading = Reading(start=5, end=5, epoch=0, now=100)
    assert not reading.tries_again(now=200)
    reading.failed("not authorized", now=200)
    assert not reading.tries_again(now=200 + RETRY_S / 2)
    assert reading.tries_again(now=200 + RETRY_S)
    assert not reading.tries_again(now=201 + RETRY_S)
    reading.failed("not authorized", now=202 + RETRY_S)
    assert reading.tries_again(now=202 + 2 * RETRY_S)
    assert reading.held(None, None, 203 + 2 * RETRY_S) is not None
    assert not reading.tries_again(now=202 + 3 * RETRY_S)
    assert reading.held(None, None, 203 + 3 * RETRY_S) is None


def test_a_start_waits_for_what_is_refused_only_for_a_while_and_for_topics_of_state_always() -> None:
    now = time.monotonic()
    source = KafkaSource({"bootstrap.servers": "127.0.0.1:1"})
    refused = Reading(start=5, end=7, epoch=0, now=now)
    source._reading = {("t", 0): refused, ("t", 1): Reading(start=7, end=7, epoch=0, now=now)}
    assert not source._is_caught_up(now + 600), "it may be slow: nothing was refused"
    refused.failed("not authorized", now)
    refused.failed("not authorized", now + 1)
    assert not source._is_caught_up(now + RETRY_S - 1)
    assert source._is_caught_up(now + RETRY_S)
    source._state_topics = frozenset(["t"])
    assert not source._is_caught_up(now + 600)
