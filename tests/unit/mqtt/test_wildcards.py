"""Wildcards: every channel that they stand for, those to come too, each from where nothing of it is missed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection

import pytest

from fanout.errors import ClientError, SourceTimeout
from fanout.mqtt import begun, wildcards
from fanout.replay import standing
from fanout.sources.base import Slice
from fanout.transports.mqtt_ports import Name, Place, Subscription
from fanout.types import Identity
from tests.unit.mqtt.bed import Client, FactLog, Node, settle, state_of

NewNode = Callable[[], Node]


@pytest.fixture
async def node(new_node: NewNode) -> AsyncIterator[Node]:
    made = new_node()
    running = asyncio.create_task(made.sessions.followed.run())
    yield made
    running.cancel()


async def follow(node: Node, client: Client, topic_filter: str, expiry_s: int = 0) -> None:
    held = client.held or await node.take(client, expiry_s=expiry_s)
    await held.subscribe([Subscription(topic_filter, 1)])
    held.follow(Subscription(topic_filter, 1))
    await settle()


async def born(node: Node, *channels: str) -> None:
    for channel in channels:
        node.memory.say(channel)
    node.sessions.followed.births()
    await settle()


async def test_what_there_is_is_attached_from_now_on(node: Node) -> None:
    for channel in ("a/1", "a/2", "b", "$a/1", "a/1/x"):
        node.memory.say(channel)
    client = Client()
    await follow(node, client, "a/+")
    assert client.attached == {("a/+", "a/1"): "a/1@5", ("a/+", "a/2"): "a/2@5"}


async def test_what_begins_later_is_attached_from_where_it_was_looked_for_last(node: Node) -> None:
    client = Client()
    await follow(node, client, "#")
    await born(node, "a", "b/c", "$x")
    assert client.attached == {("#", "a"): "a@0", ("#", "b/c"): "b/c@0"}
    await born(node, "d")
    assert client.attached["#", "d"] == "d@3"


async def test_a_client_is_given_what_it_may_subscribe_to(node: Node) -> None:
    client = Client(Identity("_tmp_1.key", None, {"a": frozenset({"subscribe"}), "b": frozenset({"publish"})}))
    node.memory.say("_tmp_1\x1fa")
    await follow(node, client, "#")
    await born(node, "_tmp_1\x1fb", "_tmp_1\x1fc", "_tmp_2\x1fa", "a")
    assert client.attached == {("#", "a"): "_tmp_1\x1fa@1"}
    other = Client()
    other.held = await node.take(other, Name("app", "bob"), expiry_s=0)
    await follow(node, other, "+")
    assert set(other.attached) == {("+", "a")}


async def test_channels_whose_names_are_no_topics_are_passed_over(node: Node) -> None:
    client = Client()
    node.memory.say("a+b")
    await follow(node, client, "#")
    await born(node, "c#")
    assert client.attached == {}


async def test_overlapping_filters_are_each_given_the_channel(node: Node) -> None:
    client = Client()
    await follow(node, client, "a/#")
    await follow(node, client, "+/b")
    await born(node, "a/b")
    assert set(client.attached) == {("a/#", "a/b"), ("+/b", "a/b")}


async def test_nothing_more_is_found_for_who_has_left(node: Node) -> None:
    client = Client()
    await follow(node, client, "a/+")
    await born(node, "a/1")
    assert client.held is not None
    await client.held.unsubscribe(["a/+"])
    client.attached.clear()  # as its driver does
    await born(node, "a/2")
    assert client.attached == {}
    assert not node.memory.watching
    await follow(node, client, "a/+")
    assert set(client.attached) == {("a/+", "a/1"), ("a/+", "a/2")}
    client.held.leave(expiry_s=None, lost=False)
    assert not node.memory.watching


async def test_more_births_than_the_engine_keeps_are_found_by_name(node: Node) -> None:
    client = Client()
    await follow(node, client, "#")
    for number in range(5):
        node.memory.say(str(number))
    node.memory.new = None
    node.sessions.followed.births()
    await settle()
    assert client.attached == {("#", str(number)): f"{number}@0" for number in range(5)}


async def test_the_same_filter_again_goes_on_where_it_stands(node: Node) -> None:
    client = Client()
    await follow(node, client, "#")
    await born(node, "a")
    client.stands = [Place("#", "a", "a@1")]
    await follow(node, client, "#")
    assert client.attached == {("#", "a"): "a@1"}


async def test_the_same_filter_again_of_which_nobody_knows_where_it_stands_begins_now(node: Node) -> None:
    client = Client()
    await follow(node, client, "#")
    await born(node, "a", "b")
    client.attached.clear()  # the bed's client minds being attached twice
    await follow(node, client, "#")
    assert client.attached == {("#", "a"): "a@2", ("#", "b"): "b@2"}


async def test_of_a_kept_session_the_channels_under_all_filters_count(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wildcards, "KEPT_MAX", 3)
    client = Client()
    await follow(node, client, "a/+", expiry_s=60)
    await follow(node, client, "b/+")
    await born(node, "a/1", "a/2", "b/1")
    assert client.held is not None
    await client.held.unsubscribe(["a/+"])
    await follow(node, client, "b/+")  # again: counts once
    await born(node, "b/2", "b/3")
    assert client.ended is None
    await born(node, "b/4")
    assert client.ended is not None
    assert client.ended.code == 90010


async def test_a_session_goes_on_with_its_wildcards(facts: FactLog, node: Node, new_node: NewNode) -> None:
    client = Client()
    await follow(node, client, "#", expiry_s=60)
    await born(node, "behind", "even")
    await born(node, "x")
    client.stands = [Place("#", "behind", "behind@1"), Place("#", "even", "even@3"), Place("#", "x", "x@4")]
    assert client.held is not None
    node.sessions.followed.births()
    await settle()
    client.held.leave(expiry_s=None, lost=True)
    await settle()
    # What stands where the search has come is found again, and need not be written; "x" may have been given more.
    assert [place["topic"] for place in state_of(facts)["places"]] == ["behind", "x"]

    second, again = new_node(), Client()
    for channel in ("behind", "even", "x", "while away"):
        second.memory.say(channel)
    held = await second.take(again, expiry_s=60)
    assert held.present
    assert held.places == [Place("#", "behind", "behind@1"), Place("#", "x", "x@4")]
    held.follow(held.subscriptions[0])
    await settle()
    assert again.attached == {("#", "even"): "even@3", ("#", "while away"): "while away@3"}


@pytest.mark.parametrize(("qos", "position", "sent"), [(1, "x@1", "x@7"), (0, "x@4", "")])
async def test_of_a_dead_node_what_was_found_may_have_been_given(
    node: Node, new_node: NewNode, qos: int, position: str, sent: str
) -> None:
    held = await node.take(Client(), expiry_s=60)
    node.memory.end = 1
    await held.subscribe([Subscription("#", qos)])
    second, again = new_node(), Client()
    second.memory.say("x")
    second.memory.end = 4
    node.is_deaf = True
    second.gone.add("a")
    held = await second.take(again, expiry_s=60)
    assert held.present
    held.follow(held.subscriptions[0])
    await settle()
    assert again.attached == {("#", "x"): position}
    assert again.sent["x"] == sent


async def away(node: Node, new_node: NewNode) -> Node:
    """A client with a wildcard goes. The node where it comes back, whose memory begins later."""
    client = Client()
    await follow(node, client, "w/+", expiry_s=60)
    assert client.held is not None
    client.held.leave(expiry_s=None, lost=True)
    second = new_node()
    second.memory.log = ["w/1", "", "w/2", "other", "w/3"]
    second.memory.end = second.memory.floor = 5
    second.memory.say("w/4")
    return second


async def test_what_began_before_memory_is_found_in_the_log(node: Node, new_node: NewNode) -> None:
    second, client = await away(node, new_node), Client()
    held = await second.take(client, expiry_s=60)
    assert held.present
    held.follow(held.subscriptions[0])
    await settle()
    assert client.attached == {("w/+", f"w/{number}"): f"w/{number}@0" for number in range(1, 5)}
    assert client.ended is None


async def test_what_holds_nothing_any_more_is_attached_for_a_session_that_goes_on(
    node: Node, new_node: NewNode
) -> None:
    second, client = await away(node, new_node), Client()
    second.memory.unused.append("w/dropped")
    held = await second.take(client, expiry_s=60)
    held.follow(held.subscriptions[0])
    await settle()
    assert client.attached["w/+", "w/dropped"] == "w/dropped@0"
    other = Client()
    await second.take(other, Name("app", "bob"))
    await follow(second, other, "w/+")
    assert ("w/+", "w/dropped") not in other.attached


async def test_a_client_comes_back_if_memory_forgets_what_is_looked_for(node: Node, new_node: NewNode) -> None:
    second, client = await away(node, new_node), Client()
    held = await second.take(client, expiry_s=60)
    second.memory.floor += 1
    held.follow(held.subscriptions[0])
    await settle()
    assert client.ended is not None
    assert client.ended.code == 80003


@pytest.mark.parametrize("reason", ["too long", "retention", "cut", "another log"])
async def test_a_session_whose_channels_cannot_be_found_begins_anew(
    node: Node, new_node: NewNode, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = await away(node, new_node)
    if reason == "too long":
        monkeypatch.setattr(begun, "RECORDS_MAX", 4)
    elif reason == "retention":
        second.memory.kept_from = 1
    elif reason == "another log":
        monkeypatch.setattr(second.memory, "places", unknown)
    else:
        monkeypatch.setattr(second.memory, "read", cut)
        monkeypatch.setattr(standing, "STANDS_S", 0.0)
    held = await second.take(Client(), expiry_s=60)
    assert not held.present
    assert held.subscriptions == []


@pytest.mark.parametrize("reason", ["seems cut", "away", "not found"])
async def test_while_the_log_does_not_tell_which_began_a_client_is_to_come_back(
    node: Node, new_node: NewNode, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = await away(node, new_node)
    with monkeypatch.context() as failing:
        if reason == "not found":
            failing.setattr(second.memory, "bounds", nothing)
        else:
            failing.setattr(second.memory, "read", cut if reason == "seems cut" else refuse)
        with pytest.raises(ClientError) as refused:
            await second.take(Client(), expiry_s=60)
    assert refused.value.info.code == 50003
    assert (await second.take(Client(), expiry_s=60)).present


async def nothing(topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
    return {}


def unknown(channel: str, position: str | None) -> list[tuple[str, int, int]]:
    raise ValueError("of another log")


async def cut(topic: str, partition: int, start: int, stop: int) -> Slice:
    return Slice([], start)


async def refuse(topic: str, partition: int, start: int, stop: int) -> Slice:
    raise SourceTimeout("away")


async def test_a_session_without_wildcards_needs_no_memory(node: Node, new_node: NewNode) -> None:
    held = await node.take(Client())
    await held.subscribe([Subscription("a", 1)])
    held.leave(expiry_s=None, lost=True)
    second = new_node()
    second.memory.end = second.memory.floor = 9
    assert (await second.take(Client())).present


async def test_begin_anew_forgets_what_an_earlier_connection_left(facts: FactLog, node: Node) -> None:
    held = await node.take(Client())
    await held.subscribe([Subscription("#", 1)])
    held.leave(expiry_s=None, lost=True)
    held = await node.take(Client())
    await held.begin_anew()
    assert not held.present
    assert held.subscriptions == []
    assert held.places == []
    assert "subscriptions" not in state_of(facts)


async def test_there_is_a_most_of_channels(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wildcards, "CHANNELS_MAX", 3)
    monkeypatch.setattr(wildcards, "KEPT_MAX", 2)
    for expiry_s, most in ((0, 3), (60, 2)):
        client = Client()
        client.held = await node.take(client, Name("app", str(most)), expiry_s=expiry_s)
        await follow(node, client, f"{most}/+")
        await born(node, *(f"{most}/{number}" for number in range(most)))
        assert client.ended is None
        await born(node, f"{most}/too many")
        assert client.ended is not None
        assert client.ended.code == 90010
        assert len(client.attached) == most


async def test_channels_are_listed_page_by_page(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wildcards, "PAGE", 2)
    monkeypatch.setattr(wildcards, "SLICE", 2)
    for number in range(5):
        node.memory.say(f"a/{number}")
    client = Client()
    await follow(node, client, "a/#")
    assert len(client.attached) == 5
    await born(node, *(f"a/{number}" for number in range(5, 10)))
    assert len(client.attached) == 10
