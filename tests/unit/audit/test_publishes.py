"""The judge of what publishers were told."""

import pytest

from fanout._core import message_serial
from fanout.audit.publishes import Publish, Published, judge_publishes
from tests.unit.audit.entries import TOPIC, expected, message, record


def acknowledged(number: int, **fields: object) -> Publish:
    """The publish of the record at that offset, as it should be."""
    publish = Publish("p", "c", message(number).text, message_serial(TOPIC, 0, number), sent=1)
    for name, value in fields.items():
        setattr(publish, name, value)
    return publish


def judged(publishes: list[Publish], *offsets: int) -> Published:
    """With a log that has the records of these numbers in this order, at offsets of their own."""
    return judge_publishes(publishes, expected(map(record, offsets)))


def test_what_was_acknowledged_and_is_there_once_is_exact() -> None:
    result = judged([acknowledged(0), acknowledged(1)], 0, 1)
    assert (result.exact, result.published, result.acknowledged) == (True, 2, 2)


def test_what_was_acknowledged_and_is_not_there_is_missing() -> None:
    result = judged([acknowledged(0), acknowledged(1)], 0)
    assert result.faults == {"missing": 1}
    assert result.examples == {"missing": "'text 1' in c"}


def test_what_is_there_under_two_ids_is_twice() -> None:
    log = expected([record(0), record(1)._replace(value=b"text 0")])
    assert judge_publishes([acknowledged(0)], log).faults == {"twice": 1}


def test_a_repeat_of_its_id_is_not_twice() -> None:
    log = expected([record(0), record(1, message_id="id0")])
    assert judge_publishes([acknowledged(0)], log).exact


def test_a_serial_of_another_place_is_misplaced() -> None:
    assert judged([acknowledged(0, serial=message_serial(TOPIC, 0, 1))], 0).faults == {"misplaced": 1}


def test_a_serial_of_a_repeat_is_counted_apart() -> None:
    log = expected([record(0), record(1, message_id="id0")])
    result = judge_publishes([acknowledged(0, serial=message_serial(TOPIC, 0, 1))], log)
    assert (result.exact, result.under_repeats) == (True, 1)


@pytest.mark.parametrize("is_there", [True, False])
def test_what_was_refused_may_be_there_or_not(is_there: bool) -> None:
    result = judged([acknowledged(0, serial=None, code=50003)], *[0] * is_there)
    assert (result.exact, result.acknowledged) == (True, 0)
    assert result.refused == {50003: 1}


def test_what_has_no_answer_at_the_end_is_a_fault() -> None:
    assert judged([acknowledged(0, serial=None)], 0).faults == {"unanswered": 1}


def test_order_counts_for_each_publisher() -> None:
    other = acknowledged(2, publisher="q")
    assert judged([acknowledged(0), acknowledged(1), other], 0, 2, 1).exact
    assert judged([acknowledged(0), acknowledged(1), other], 1, 2, 0).faults == {"disordered": 1}
    refused = acknowledged(0, serial=None, code=50003)
    assert judged([refused, acknowledged(1), other], 1, 2, 0).exact, "it was written later than it was refused"


def test_what_was_sent_again_may_be_overtaken() -> None:
    for again in (0, 1):
        publishes = [acknowledged(number, sent=1 + (number == again)) for number in (0, 1)]
        for number, publish in enumerate(publishes):
            publish.serial = message_serial(TOPIC, 0, 1 - number)
        log = expected([record(0)._replace(value=b"text 1"), record(1)._replace(value=b"text 0")])
        result = judge_publishes(publishes, log)
        assert (result.exact, result.overtaken) == (True, 1)


def test_what_nobody_published_is_strange() -> None:
    assert judged([acknowledged(0)], 0, 1).faults == {"strange": 1}


def test_what_was_sent_again_is_counted_and_of_it_what_the_log_had_by_then() -> None:
    log = expected([record(0, timestamp=10), record(1, timestamp=30)])
    publishes = [acknowledged(number, sent=2, last_sent_ms=20) for number in (0, 1)]
    result = judge_publishes(publishes, log)
    assert (result.exact, result.sent_again, result.cut_off) == (True, 2, 1)
