"""The model of many nodes: cases whose answer a calculation on paper gives."""

from dataclasses import replace

import pytest

from benchmarks.scale.costs import Costs
from benchmarks.scale.interest import channels_touched, partitions_touched, zipf
from benchmarks.scale.model import Machine, Workload, away_bytes, demand, plan, read_share, startup_s, utilisation

COSTS = Costs(
    write_rare_us=10,
    write_busy_us=5,
    record_100_us=2,
    record_1024_us=4,
    records_100_per_s=500_000,
    records_1024_per_s=250_000,
    batch_of_20_us=20 * (2 + 2 * 28 / 924),  # a batch costs nothing beside its records
    connect_us=500,
    reconnect_us=600,
    connection_bytes=5_500,
    attachment_bytes=300,
    node_bytes=20_000_000,
    message_overhead_bytes=200,
    record_overhead_bytes=20,
    delivery_overhead_bytes=200,
)
CHAT = Workload(
    clients=100_000, channels=1_000, partitions=16, messages_per_channel_s=1, payload_bytes=100, session_s=1_000
)
LARGE = Machine(connections=10**9, memory_bytes=2**40)


class TestDemand:
    def test_one_node_does_everything(self) -> None:
        needed = demand(CHAT, COSTS, LARGE, 1)
        assert needed.reading_cores == pytest.approx(1_000 * 2e-6)
        assert needed.reading_thread == pytest.approx(1_000 / 500_000)
        assert needed.writing_cores == pytest.approx(100_000 * 10e-6)
        assert needed.connecting_cores == pytest.approx(100_000 / 1_000 * 500e-6)
        assert needed.memory_bytes == 20_000_000 + 1_000 * 120 * 300 + 100_000 * 10_000
        assert needed.sent_bits_per_s == pytest.approx(8 * 100_000 * (300 + 40))
        assert needed.fetched_bytes_per_s == pytest.approx(1_000 * 120)
        assert needed.cores == pytest.approx(0.002 + 1.0 + 0.05)

    def test_nodes_share_writing_and_connecting_but_not_reading(self) -> None:
        alone, ten = demand(CHAT, COSTS, LARGE, 1), demand(CHAT, COSTS, LARGE, 10)
        assert ten.reading_cores == alone.reading_cores
        assert ten.fetched_bytes_per_s == alone.fetched_bytes_per_s
        assert ten.writing_cores == pytest.approx(alone.writing_cores / 10)
        assert ten.connecting_cores == pytest.approx(alone.connecting_cores / 10)

    def test_linger_divides_writes_once_it_joins_messages(self) -> None:
        busy = replace(CHAT, messages_per_channel_s=10)
        assert demand(replace(busy, linger_ms=50), COSTS, LARGE, 1).writing_cores == pytest.approx(10)
        assert demand(replace(busy, linger_ms=400), COSTS, LARGE, 1).writing_cores == pytest.approx(10 / 4)

    def test_silent_clients_cost_their_heartbeats(self) -> None:
        silent = replace(CHAT, messages_per_channel_s=0)
        assert demand(silent, COSTS, LARGE, 1).writing_cores == pytest.approx(100_000 / 10 * 10e-6)

    def test_batches_cost_beside_their_records(self) -> None:
        costs = replace(COSTS, batch_of_20_us=COSTS.batch_of_20_us + 100)
        extra = demand(CHAT, costs, LARGE, 1).reading_cores - demand(CHAT, COSTS, LARGE, 1).reading_cores
        assert extra == pytest.approx(CHAT.batches_per_s * 100e-6)
        rare = replace(CHAT, channels=10)  # ten records a second are ten batches at most
        extra = demand(rare, costs, LARGE, 1).reading_cores - demand(rare, COSTS, LARGE, 1).reading_cores
        assert extra == pytest.approx(10 * 100e-6)

    def test_history_takes_no_more_memory_than_it_may(self) -> None:
        flood = replace(CHAT, messages_per_channel_s=1_000)
        assert demand(flood, COSTS, LARGE, 1).memory_bytes == 20_000_000 + LARGE.history_bytes + 10**9


class TestPlan:
    def test_the_fewest_nodes_that_suffice(self) -> None:
        machine = replace(LARGE, connections=30_000)
        planned = plan(CHAT, COSTS, machine)
        assert (planned.nodes, planned.bottleneck) == (4, "connections")

    def test_writing_is_what_a_busy_service_runs_out_of(self) -> None:
        busy = replace(CHAT, messages_per_channel_s=12)  # 12 cores of writing, 1.2 of them on each node
        planned = plan(busy, COSTS, LARGE)
        assert (planned.nodes, planned.bottleneck) == (10, "writing")
        assert max(utilisation(planned.demand, LARGE).values()) == pytest.approx(1.0)

    def test_no_number_of_nodes_reads_more_than_one_can(self) -> None:
        firehose = replace(CHAT, channels=400_000, clients=1_000)
        planned = plan(firehose, COSTS, LARGE)
        assert (planned.nodes, planned.bottleneck) == (None, "reading")

    def test_nodes_that_read_what_their_clients_need_share_reading_too(self) -> None:
        firehose = replace(CHAT, channels=400_000, clients=1_000, partitions=1_000)
        planned = plan(firehose, COSTS, LARGE, "interest")
        # Everything is 0.8 of a core, 0.6 may be used; 1,000 channels touch 0.63 of the partitions.
        assert planned.nodes == 1
        assert read_share(firehose, 1, "interest") == pytest.approx(0.632, abs=0.001)

    def test_one_node_suffices_for_little_and_its_fullest_resource_is_named(self) -> None:
        planned = plan(replace(CHAT, clients=10_000), COSTS, LARGE)
        assert (planned.nodes, planned.bottleneck) == (1, "writing")


class TestInterest:
    def test_popularity_adds_up_to_one_and_falls_as_told(self) -> None:
        assert zipf(4, 0) == [0.25] * 4
        popular = zipf(100, 1.0)
        assert sum(popular) == pytest.approx(1)
        assert popular[0] == pytest.approx(10 * popular[9])

    def test_channels_touched_is_the_birthday_sum(self) -> None:
        assert channels_touched([0.5, 0.5], 1) == pytest.approx(1)
        assert channels_touched([0.5, 0.5], 2) == pytest.approx(1.5)
        assert channels_touched([1.0], 50) == 1
        assert channels_touched(zipf(1_000, 1.0), 500) < channels_touched(zipf(1_000, 0), 500)

    def test_partitions_touched_is_balls_into_bins(self) -> None:
        assert partitions_touched(1, 8) == pytest.approx(1 / 8)
        assert partitions_touched(2, 2) == pytest.approx(3 / 4)
        assert partitions_touched(10_000, 64) == pytest.approx(1)

    def test_without_interest_everything_is_read(self) -> None:
        assert read_share(CHAT, 50, "everything") == 1

    def test_clients_placed_by_partition_need_their_nodes_share_of_partitions(self) -> None:
        workload = replace(CHAT, partitions=100)
        assert read_share(workload, 10, "interest and placement") == pytest.approx(10 / 100)
        assert read_share(workload, 1_000, "interest and placement") == pytest.approx(1 / 100)

    def test_what_else_placed_clients_follow_lies_anywhere(self) -> None:
        workload = replace(CHAT, clients=10, channels_per_client=2, partitions=100)
        own, others = 10 / 100, 1 / 100  # one client a node, with one channel more
        assert read_share(workload, 10, "interest and placement") == pytest.approx(1 - (1 - own) * (1 - others))


def test_a_starting_node_reads_back_four_minutes() -> None:
    assert startup_s(replace(CHAT, channels=50_000), COSTS) == pytest.approx(240 * 50_000 / 500_000)


def test_what_was_missed_is_read_once_for_each_reader_of_a_partition() -> None:
    assert away_bytes(CHAT, COSTS, away_s=60, readers_per_partition=3) == pytest.approx(3 * 60 * 1_000 * 120)


def test_cost_of_a_record_is_a_line_through_the_two_sizes_and_never_negative() -> None:
    assert COSTS.record_us(562) == pytest.approx(3)
    assert COSTS.record_wall_us(1024) == pytest.approx(4)
    assert replace(COSTS, record_100_us=0.1, record_1024_us=4).record_us(1) == 0
    assert replace(COSTS, batch_of_20_us=1).batch_us == 0
