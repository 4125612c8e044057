"""The judge of what was delivered: it notices each kind of difference, and where, and what a gap excuses."""

import pytest

from fanout.audit.expected import Entry
from fanout.audit.verdict import Judge, Verdict
from fanout.audit.views import Catalogue, Received, View
from tests.unit.audit.entries import entries, message, record


def judged(log: list[Entry], *given: int | str) -> Verdict:
    """Of a view with the messages of these numbers; `gap` and `silent` stand for gaps with and without a code."""
    catalogue = Catalogue()
    judge, view = Judge("c", log, catalogue), View(catalogue)
    for one in given:
        if isinstance(one, int):
            view.take(message(one))
        else:
            view.gap(90003 if one == "gap" else None)
    return judge.check(view)


def differences(log: list[Entry], *given: int | str) -> dict[str, int]:
    return {kind: found.times for kind, found in judged(log, *given).differences.items()}


class TestWithoutGaps:
    @pytest.mark.parametrize(
        ("given", "found"),
        [
            ((0, 1, 2, 3, 4, 5), {}),
            ((0, 1, 2, 5), {"lost": 2}),
            ((0, 1, 2, 3), {"lost": 2}),
            ((), {"lost": 6}),
            ((0, 1, 1, 2, 3, 4, 5), {"doubled": 1}),
            ((0, 2, 1, 3, 4, 5), {"reordered": 1}),
            ((5, 0, 1, 2, 3, 4), {"reordered": 5}),
            ((0, 1, 2, 3, 4, 5, 9), {"foreign": 1}),
            ((0, 0, 2, 1, 4, 9), {"doubled": 1, "reordered": 1, "foreign": 1, "lost": 2}),
        ],
    )
    def test_each_kind_of_difference_is_counted(self, given: tuple[int, ...], found: dict[str, int]) -> None:
        verdict = judged(entries(6), *given)
        assert {kind: difference.times for kind, difference in verdict.differences.items()} == found
        assert verdict.exact == (not found)
        assert verdict.seen == len(given)
        assert verdict.count("lost") == found.get("lost", 0)

    @pytest.mark.parametrize(
        ("given", "found"),
        [
            ((0, 1, 2, 3), {}),
            ((0, 1, 1, 3), {"doubled": 1, "lost": 1}),
            ((0, 2, 1, 3, 9), {"reordered": 1, "foreign": 1}),
        ],
    )
    def test_without_ids_payloads_tell_messages_apart(self, given: tuple[int, ...], found: dict[str, int]) -> None:
        catalogue = Catalogue()
        view = View.of((Received("", message(number).text) for number in given), catalogue)
        verdict = Judge("c", entries(4), catalogue).check(view)
        assert {kind: difference.times for kind, difference in verdict.differences.items()} == found

    def test_partitions_may_mix(self) -> None:
        assert differences(entries(6, partitions=2), 1, 0, 3, 5, 2, 4) == {}

    def test_within_a_partition_the_order_counts(self) -> None:
        assert differences(entries(6, partitions=2), 2, 0, 1, 3, 4, 5) == {"reordered": 1}

    def test_another_payload_is_told_with_its_place(self) -> None:
        catalogue = Catalogue()
        view = View.of([Received("id0", "other")], catalogue)
        verdict = Judge("c", entries(1), catalogue).check(view)
        assert str(verdict) == "c: 1 altered, first (0, Received(id='id0', text='other'))"

    def test_the_first_of_a_kind_is_told(self) -> None:
        assert str(judged(entries(3), 0)) == "c: 2 lost, first (1, Received(id='id1', text='text 1'))"
        assert str(judged(entries(3), 0, 1, 2)) == "c: exact"

    def test_an_id_that_is_a_new_messages_again_is_due_again(self) -> None:
        again = Entry(message(0), record(6))
        log = [*entries(2), again]
        assert differences(log, 0, 1, 0) == {}
        assert differences(log, 0, 1) == {"lost": 1}
        assert differences(log, 0, 1, 0, 0) == {"doubled": 1}


class TestGaps:
    def test_what_lies_between_the_neighbours_of_a_gap_is_covered(self) -> None:
        verdict = judged(entries(6), 0, 1, "gap", 4, 5)
        assert (verdict.exact, verdict.covered) == (True, 2)

    def test_a_gap_at_the_beginning_covers_what_was_before_the_first(self) -> None:
        verdict = judged(entries(6), "gap", 4, 5)
        assert (verdict.exact, verdict.covered) == (True, 4)

    def test_a_gap_that_nothing_is_missing_from_is_no_fault(self) -> None:
        verdict = judged(entries(3), 0, "gap", 1, 2)
        assert (verdict.exact, verdict.covered) == (True, 0)

    def test_what_is_missing_elsewhere_is_lost(self) -> None:
        verdict = judged(entries(8), 0, 2, "gap", 4, 5, 7)
        assert (verdict.count("lost"), verdict.covered) == (2, 1)

    def test_a_gap_behind_which_nothing_came_covers_nothing(self) -> None:
        assert differences(entries(6), 0, 1, "gap") == {"lost": 4}
        assert differences(entries(6), 0, 1, "gap", 3, "gap") == {"lost": 2}

    def test_a_gap_excuses_neither_repeats_nor_disorder(self) -> None:
        assert differences(entries(6), 0, 1, 2, "gap", 2, 3, 4, 5) == {"doubled": 1}
        assert differences(entries(6), 0, 2, "gap", 1, 3, 4, 5) == {"reordered": 1}

    def test_a_gap_counts_for_each_partition(self) -> None:
        verdict = judged(entries(8, partitions=2), 0, 1, "gap", 4, 5, 6, 7)
        assert (verdict.exact, verdict.covered) == (True, 2)

    def test_a_partition_from_which_nothing_came_behind_is_covered_if_another_shows_that_it_went_on(self) -> None:
        verdict = judged(entries(6, partitions=2), 0, 1, "gap", 2, 4)
        assert (verdict.exact, verdict.covered) == (True, 2)

    def test_a_gap_without_a_code_is_a_fault_and_covers(self) -> None:
        verdict = judged(entries(4), 0, "silent", 2, 3)
        assert {kind: found.times for kind, found in verdict.differences.items()} == {"untyped": 1}
        assert verdict.covered == 1


class TestCatalogue:
    def test_a_message_has_one_number(self) -> None:
        catalogue = Catalogue()
        numbers = [catalogue.number(message(number)) for number in (4, 5, 4)]
        assert numbers == [0, 1, 0]
        assert catalogue.message(1) == message(5)

    def test_a_view_takes_four_bytes_a_delivery(self) -> None:
        view = View.of(message(number % 3) for number in range(9))
        assert len(view.numbers) * view.numbers.itemsize == 36
