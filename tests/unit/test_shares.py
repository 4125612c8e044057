"""Places in a line: how many one can take, and what is left for others."""

from contextlib import suppress

import pytest

from fanout.errors import ClientError, error
from fanout.shares import Shares

REFUSAL = error(42910, "full")


def take(shares: Shares, who: str, times: int) -> int:
    """Tries so often to take a place; how often there was one."""
    taken = 0
    with suppress(ClientError):
        for taken in range(times):  # noqa: B007  how many there were before the one that was refused
            shares.take(who)
        return times
    return taken


def test_one_alone_takes_half() -> None:
    shares = Shares(64, REFUSAL)
    assert take(shares, "greedy", 100) == 32
    with pytest.raises(ClientError) as refused:
        shares.take("greedy")
    assert refused.value.info == REFUSAL
    assert take(shares, "other", 1) == 1


@pytest.mark.parametrize("many", [2, 3, 7])
def test_who_wants_all_comes_to_have_as_much_as_each_other_and_as_is_left(many: int) -> None:
    shares = Shares(64, REFUSAL)
    names = [f"greedy {number}" for number in range(many)]
    held = {name: take(shares, name, 64) for name in names}
    for _ in range(200):  # places are given back by and by, and everybody wants those
        for name in names:
            if held[name]:
                shares.give(name)
                held[name] -= 1
            for other in reversed(names):
                held[other] += take(shares, other, 1)
    fair = 64 // (many + 1)
    assert all(abs(count - fair) <= 2 for count in held.values()), held
    assert take(shares, "new", 64) >= 1


def test_no_more_are_taken_than_there_are_however_many_want_them() -> None:
    shares = Shares(64, REFUSAL)
    assert sum(take(shares, f"{number}", 64) for number in range(100)) == 64


def test_a_place_is_given_back_whatever_happens_on_it_and_nothing_is_kept() -> None:
    shares = Shares(1, REFUSAL)

    def fail() -> None:
        with shares.place("a"):
            assert take(shares, "b", 1) == 0
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            fail()
    assert not shares._taken
