"""Partitions that nobody leads when a node starts: whose channels they may feed, and until when."""

import pytest

from fanout.unbegun import Unbegun


def of(channel: str) -> list[tuple[str, int]]:
    return [("placed", len(channel))]


@pytest.fixture
def unbegun() -> Unbegun:
    return Unbegun(["asked for"], of, lambda topic, channel: channel.startswith(topic), lambda topic: topic == "placed")


def start(unbegun: Unbegun, *begun: tuple[str, int], **counts: int) -> None:
    for topic, partitions in counts.items():
        unbegun.counted(topic, partitions)
    assert not any(unbegun.began(*where) for where in begun)
    unbegun.ready()


def test_while_the_node_reads_the_log_back_it_is_not_asked(unbegun: Unbegun) -> None:
    unbegun.counted("any", 2)
    assert not unbegun.feeds("any:x")


def test_all_channels_that_the_rule_may_make_are_fed_by_any_partition(unbegun: Unbegun) -> None:
    start(unbegun, ("any", 0), any=2)
    assert (unbegun.feeds("any:x"), unbegun.feeds("other:x")) == (True, False)
    assert unbegun.began("any", 1)
    assert not unbegun.feeds("any:x")
    assert not unbegun.began("any", 1), "it was only awaited once"


def test_where_keys_tell_their_partitions_it_is_those_of_that_partition(unbegun: Unbegun) -> None:
    start(unbegun, ("placed", 0), ("placed", 1), placed=3)
    assert (unbegun.feeds("a"), unbegun.feeds("bb")) == (False, True)


def test_what_is_read_on_demand_or_comes_later_is_none_of_these(unbegun: Unbegun) -> None:
    unbegun.counted("asked for", 3)
    start(unbegun, ("any", 0), any=1)
    unbegun.counted("any", 2)
    unbegun.counted("late", 1)
    assert not any(map(unbegun.feeds, ("any:x", "late:x", "asked for:x")))


def test_one_that_is_no_more_keeps_nobody_waiting(unbegun: Unbegun) -> None:
    start(unbegun, any=2, other=1)
    unbegun.began("any", 0)
    unbegun.counted("any", 1)  # made anew, with fewer
    unbegun.counted("other", 0)
    assert not any(map(unbegun.feeds, ("any:x", "other:x")))


def test_a_count_that_is_told_again_before_the_node_is_ready_forgets_nothing(unbegun: Unbegun) -> None:
    unbegun.counted("any", 1)
    unbegun.began("any", 0)
    start(unbegun, any=2)
    assert unbegun.feeds("any:x")
    unbegun.began("any", 1)
    assert not unbegun.feeds("any:x")
