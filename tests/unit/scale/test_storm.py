"""The simulation of storms: cases whose course can be followed by hand."""

from dataclasses import replace
from random import Random

import pytest

from benchmarks.scale.storm import SDK, Policy, Storm, simulate

MS = 1_000  # µs


def test_one_node_serves_one_client_after_another() -> None:
    outcome = simulate(Storm(clients=1_000, nodes=1, connect_us=MS))
    assert (outcome.back, outcome.attempts, outcome.wasted) == (1_000, 1, 0)
    assert outcome.p50_s == pytest.approx(0.5)
    assert outcome.p99_s == pytest.approx(0.99)
    assert outcome.last_s == pytest.approx(1.0)


def test_nodes_share_the_clients_and_serve_at_once() -> None:
    outcome = simulate(Storm(clients=10_000, nodes=10, connect_us=MS))
    assert outcome.p50_s == pytest.approx(0.5, rel=0.05)
    assert outcome.last_s == pytest.approx(1.0, rel=0.1)


def test_a_window_no_shorter_than_the_work_lets_nobody_wait() -> None:
    outcome = simulate(Storm(clients=1_000, nodes=1, connect_us=MS, window_s=1.0))
    assert outcome.p99_s < 0.003
    assert outcome.last_s == pytest.approx(1.0, abs=0.003)


def test_a_full_queue_drops_a_syn_which_is_repeated_after_1_2_and_4_s() -> None:
    # Ten at once, room for two, 1 s each: two are served from 0 s, and so on as room is found at 1, 3 and 7 s.
    outcome = simulate(Storm(clients=10, nodes=1, connect_us=1_000_000, queue=2, policy=Policy(patience_s=100)))
    assert (outcome.back, outcome.attempts) == (10, 1)
    # Served 2 at once, 1 at 1 s, 2 at 3 s, 2 at 7 s, 2 at 15 s, 1 at 31 s.
    assert outcome.last_s == pytest.approx(32, abs=0.01)
    assert outcome.p50_s == pytest.approx(5, abs=0.01)


def test_whoever_lost_patience_is_served_in_vain_and_comes_again() -> None:
    policy = Policy(patience_s=2.5, pause_s=10, growth_max=1, jitter=0)
    outcome = simulate(Storm(clients=4, nodes=1, connect_us=1_000_000, policy=policy))
    # Two are served within 2.5 s; the others' turns come at 3 and 4 s in vain; they are back from 12.5 s on.
    assert outcome.back == 4
    assert outcome.attempts == pytest.approx(6 / 4)
    assert outcome.wasted == pytest.approx(2 / 6)
    assert outcome.last_s == pytest.approx(14.5, abs=0.01)


def test_eager_clients_and_a_long_queue_keep_a_node_busy_for_nothing() -> None:
    eager = Policy(patience_s=2, pause_s=0.5, growth_max=1, jitter=0, suspended_pause_s=0.5)
    storm = Storm(clients=20_000, nodes=1, connect_us=MS, queue=1_000_000, policy=eager, horizon_s=300)
    collapsed, short = simulate(storm), simulate(replace(storm, queue=1_000))
    assert collapsed.back < 2_500
    assert collapsed.p99_s == float("inf")
    assert short.back == 20_000


def test_attempts_at_a_node_that_is_gone_are_refused_until_it_is_noticed() -> None:
    storm = Storm(clients=1_000, nodes=1, connect_us=10, gone_share=1.0, noticed_s=5)
    outcome = simulate(storm)
    assert outcome.attempts == 2
    assert 16 <= outcome.p50_s <= 20  # 15 s x 4/3, less up to a fifth
    assert simulate(replace(storm, gone_share=0.0)).attempts == 1


def test_pauses_grow_to_twice_the_first_and_vary_by_a_fifth() -> None:
    random = Random(1)
    for failures, longest in ((1, 20), (2, 25), (3, 30), (9, 30)):
        pauses = [SDK.next_pause_s(failures, 0, random) for _ in range(1_000)]
        assert longest * 0.8 <= min(pauses) < longest * 0.81
        assert longest * 0.99 < max(pauses) <= longest
    assert SDK.next_pause_s(4, 121, random) == 30


def test_the_same_seed_is_the_same_storm() -> None:
    storm = Storm(clients=5_000, nodes=3, connect_us=MS, queue=100)
    assert simulate(storm) == simulate(storm)
    assert simulate(storm) != simulate(replace(storm, seed=2))


def test_a_tenth_of_the_nodes_with_their_clients_is_the_same_storm() -> None:
    storm = Storm(clients=100_000, nodes=20, connect_us=500, queue=2_048)
    whole, tenth = simulate(storm), simulate(storm.on(2))
    assert tenth.attempts == pytest.approx(whole.attempts, rel=0.02)
    assert tenth.p50_s == pytest.approx(whole.p50_s, rel=0.05)
    assert tenth.last_s == pytest.approx(whole.last_s, rel=0.05)


def test_who_is_not_back_at_the_horizon_counts_as_never() -> None:
    outcome = simulate(Storm(clients=10, nodes=1, connect_us=1_000_000, horizon_s=5, policy=Policy(patience_s=3)))
    assert outcome.back == 3
    assert outcome.p50_s == outcome.p99_s == float("inf")
