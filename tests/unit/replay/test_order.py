"""Which partition a replay reads next."""

from fanout.replay.order import LONG_AGO_MS, Goal, Order

A, B = Goal("t", 0, 5, 9), Goal("t", 1, 0, 4)


def test_one_that_has_yet_to_begin_comes_first() -> None:
    order = Order()
    assert order.next([A, B]) is A
    order.reached(A.where, 100)
    assert order.next([A, B]) is B


def test_the_one_that_has_come_to_the_oldest_time_is_next() -> None:
    order = Order()
    order.reached(A.where, 100)
    order.reached(B.where, 90)
    assert order.next([A, B]) is B
    order.reached(B.where, 110)
    assert order.next([A, B]) is A


def test_all_have_been_read_up_to_the_oldest_time_of_them() -> None:
    order = Order()
    order.reached(A.where, 100)
    assert (order.clock_ms([A]), order.clock_ms([A, B])) == (100, LONG_AGO_MS)
    order.reached(B.where, 90)
    assert order.clock_ms([A, B]) == 90


def test_time_does_not_go_back_and_an_empty_slice_has_none() -> None:
    order = Order()
    order.reached(A.where, 100)
    order.reached(A.where, 50)
    order.reached(A.where, None)
    order.reached(B.where, None)
    assert order.next([A, B]) is B
    assert (order.clock_ms([A]), order.clock_ms([B])) == (100, LONG_AGO_MS)
