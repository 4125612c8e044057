"""Sessions: given to who connects, taken from who has them, kept in the log."""

import asyncio
import gc
from collections.abc import Callable

import pytest

from fanout.errors import ClientError, SourceTimeout, error
from fanout.mqtt import held as held_module
from fanout.mqtt import service, table, telling
from fanout.transports.mqtt_ports import Name, Place, Subscription
from tests.unit.mqtt.bed import ALICE, Client, FactLog, Node, settle, state_of

NewNode = Callable[[], Node]


async def test_a_client_without_a_session_has_a_new_one(new_node: NewNode) -> None:
    held = await new_node().take(Client())
    assert not held.present
    assert held.subscriptions == []


async def test_a_session_goes_on_where_it_stood_on_any_node(facts: FactLog, new_node: NewNode) -> None:
    first, client = new_node(), Client()
    held = await first.take(client)
    await held.subscribe([Subscription("a", 1, identifier=7), Subscription("b", 0)])
    client.stand(Place("a", "a", "a@5", "a@8"), Place("b", "b", "b@9"))
    held.leave(expiry_s=None, lost=True)
    again = await new_node().take(Client())
    assert again.present
    assert again.subscriptions == [Subscription("a", 1, identifier=7), Subscription("b", 0)]
    assert again.places == [Place("a", "a", "a@5", "a@8"), Place("b", "b", "b@9")]


async def test_subscriptions_are_acknowledged_once_the_log_has_them(facts: FactLog, new_node: NewNode) -> None:
    node = new_node()
    held = await node.take(Client())
    await held.subscribe([Subscription("a", 1)])
    assert state_of(facts)["subscriptions"] == [{"filter": "a", "qos": 1}]
    await held.unsubscribe(["a"])
    assert "subscriptions" not in state_of(facts)
    facts.failure = SourceTimeout("away")
    with pytest.raises(ClientError) as refused:
        await held.subscribe([Subscription("b", 1)])
    assert refused.value.info.code == 50003


async def test_a_subscription_stands_where_it_began_until_its_connection_knows(
    facts: FactLog, new_node: NewNode
) -> None:
    client = Client()
    held = await new_node().take(client)
    await held.subscribe([Subscription("a", 1)], [Place("a", "a", "a@4")])
    assert state_of(facts)["places"] == [{"filter": "a", "topic": "a", "position": "a@4"}]
    client.stand(Place("a", "a", "a@5"))
    await held.subscribe([Subscription("a", 0)], [Place("a", "a", "a@6")])
    assert state_of(facts)["places"] == [{"filter": "a", "topic": "a", "position": "a@5"}]


async def test_what_changed_to_at_most_once_and_was_cut_off_then_is_given_once(new_node: NewNode) -> None:
    node, client = new_node(), Client()
    held = await node.take(client)
    await held.subscribe([Subscription("a", 1)])
    client.stand(Place("a", "a", "a@5", "a@8"))
    await held.subscribe([Subscription("a", 0)])
    held.leave(expiry_s=None, lost=True)  # before its connection gives it so
    assert (await node.take(Client())).places == [Place("a", "a", "a@8")]


async def test_a_clean_start_forgets_what_was(facts: FactLog, new_node: NewNode) -> None:
    node = new_node()
    held = await node.take(Client())
    await held.subscribe([Subscription("a", 1)])
    held.leave(expiry_s=None, lost=False)
    clean = await node.take(Client(), clean=True, expiry_s=0)
    assert not clean.present
    clean.leave(expiry_s=None, lost=False)
    await settle()
    assert facts.newest() == {}
    assert not (await node.take(Client())).present


async def test_a_session_that_ends_with_its_connection_is_not_written(facts: FactLog, new_node: NewNode) -> None:
    node = new_node()
    held = await node.take(Client(), expiry_s=0)
    await held.subscribe([Subscription("a", 1)])
    assert state_of(facts) is None
    held.leave(expiry_s=None, lost=False)
    await settle()
    assert facts.newest() == {}


async def test_a_session_is_over_after_its_expiry_interval(facts: FactLog, new_node: NewNode) -> None:
    node = new_node()
    (await node.take(Client(), expiry_s=10)).leave(expiry_s=None, lost=False)
    await settle()
    node.now_ms += 9_999
    node.sessions.look_after()
    await settle()
    assert state_of(facts) is not None
    node.now_ms += 1
    assert not (await node.take(Client(), Name("app", "bob"))).present
    node.sessions.look_after()
    await settle()
    assert state_of(facts) is None
    assert not (await node.take(Client())).present


async def test_disconnect_may_change_the_expiry_interval(facts: FactLog, new_node: NewNode) -> None:
    node = new_node()
    (await node.take(Client(), expiry_s=1)).leave(expiry_s=5, lost=False)
    await settle()
    node.now_ms += 4_000
    held = await node.take(Client(), expiry_s=1)
    assert held.present
    held.leave(expiry_s=0, lost=False)
    await settle()
    assert facts.newest() == {}


async def test_no_session_outlives_its_connection_for_longer_than_is_granted(new_node: NewNode) -> None:
    assert (await new_node().take(Client(), expiry_s=2**32 - 1)).expiry_s == held_module.EXPIRY_MAX_S


async def test_a_connection_on_the_same_node_is_sent_away(facts: FactLog, new_node: NewNode) -> None:
    node, old = new_node(), Client()
    held = await node.take(old)
    await held.subscribe([Subscription("a", 1)])
    old.stand(Place("a", "a", "a@5"))
    again = await node.take(Client())
    assert old.ended is not None
    assert old.ended.code == 80016
    assert again.places == [Place("a", "a", "a@5")]
    held.leave(expiry_s=None, lost=True)  # the connection that was sent away is gone
    await settle()
    assert state_of(facts).get("ended_ms") is None
    assert len(node.sessions) == 1


async def test_a_connection_on_another_node_is_sent_away_and_says_where_it_stood(new_node: NewNode) -> None:
    first, second, old = new_node(), new_node(), Client()
    held = await first.take(old)
    await held.subscribe([Subscription("a", 1)])
    old.stand(Place("a", "a", "a@5", "a@6"))
    again = await second.take(Client())
    assert old.ended is not None
    assert again.places == [Place("a", "a", "a@5", "a@6")]
    assert len(first.sessions) == 0


async def test_of_two_nodes_that_claim_at_once_one_has_the_client(facts: FactLog, new_node: NewNode) -> None:
    nodes, clients = [new_node(), new_node()], [Client(), Client()]
    facts.holds_back = True
    both = [asyncio.create_task(node.take(client)) for node, client in zip(nodes, clients, strict=True)]
    await settle()
    facts.holds_back = False
    for node in nodes:
        node.catch_up()
    results = await asyncio.gather(*both, return_exceptions=True)
    await settle()
    assert sum(len(node.sessions) for node in nodes) == 1
    refused = [one for one in results if isinstance(one, ClientError)]
    ended = [client for client in clients if client.ended is not None]
    assert len(refused) + len([client for client in ended if client.held is not None]) == 1


async def test_who_is_sent_away_just_as_it_has_its_name_has_no_session(facts: FactLog, new_node: NewNode) -> None:
    first, second, early, late = new_node(), new_node(), Client(), Client()
    second.now_ms = first.now_ms + 1
    facts.holds_back = True
    both = [asyncio.create_task(node.take(client, clean=True)) for node, client in ((first, early), (second, late))]
    await settle()
    facts.holds_back = False
    first.catch_up()  # reads both claims at once
    second.catch_up()
    refused, held = await asyncio.gather(*both, return_exceptions=True)
    assert isinstance(refused, ClientError)
    assert refused.info.code == 80016
    assert early.ended is not None
    assert late.held is held
    assert [len(node.sessions) for node in (first, second)] == [0, 1]


async def test_nobody_complains_of_a_client_that_went_as_another_took_its_name(
    facts: FactLog, new_node: NewNode
) -> None:
    node, complaints = new_node(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    facts.slow = b"claim:"
    first = asyncio.create_task(node.take(Client()))
    await settle()
    facts.slow = None
    assert await node.take(Client())
    first.cancel()
    await settle()
    assert first.cancelled()
    del first
    gc.collect()
    assert complaints == []


async def left_by_a_dead_node(new_node: NewNode, *, qos: int) -> Node:
    """Another node, that is to go on with the session of a client who stands before the third message of `a`."""
    first, second = new_node(), new_node()
    held = await first.take(Client())
    await held.subscribe([Subscription("a", qos)], [Place("a", "a", "a@2")])
    first.is_deaf = True
    second.gone.add("a")
    return second


async def test_of_a_node_that_says_nothing_a_client_may_have_been_given_all(
    new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LAST_WORD_S", 0.05)
    first, second, old = new_node(), new_node(), Client()
    held = await first.take(old)
    await held.subscribe([Subscription("a", 1)])
    old.stand(Place("a", "a", "a@2"))
    first.sessions.save(1e9)
    first.is_deaf = True
    second.memory.end = 6
    again = await second.take(Client())
    assert again.present
    assert again.places == [Place("a", "a", "a@2", "a@9")]  # the log ends at 9


async def test_the_last_word_of_an_earlier_connection_is_not_that_of_the_last_one(
    facts: FactLog, new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LAST_WORD_S", 0.05)
    first, second, old = new_node(), new_node(), Client()
    held = await first.take(old)
    await held.subscribe([Subscription("a", 1)])
    old.stand(Place("a", "a", "a@2"))
    held.leave(expiry_s=None, lost=True)
    await settle()
    facts.slow = b"state:"
    assert (await second.take(Client())).places == [Place("a", "a", "a@2")]
    first.memory.end = 6
    assert (await first.take(Client())).places == [Place("a", "a", "a@2", "a@9")]


async def test_who_may_have_been_given_all_waits_until_the_log_says_how_much_that_is(new_node: NewNode) -> None:
    second = await left_by_a_dead_node(new_node, qos=1)
    second.memory.is_away = True
    with pytest.raises(ClientError) as refused:
        await second.take(Client())
    assert refused.value.info.code == 50003
    second.memory.is_away = False
    assert (await second.take(Client())).places == [Place("a", "a", "a@2", "a@3")]


async def test_who_may_have_been_given_all_waits_until_its_channels_are_read(new_node: NewNode) -> None:
    second = await left_by_a_dead_node(new_node, qos=0)
    second.unread.add("a")  # its position would name no partition, and all that there ever was be news
    with pytest.raises(ClientError) as refused:
        await second.take(Client())
    assert refused.value.info.code == 50003
    second.unread.clear()
    assert (await second.take(Client())).places == [Place("a", "a", "a@3")]


async def test_what_was_given_with_qos_0_is_not_given_again_when_nobody_said_how_much(
    new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = await left_by_a_dead_node(new_node, qos=0)
    second.memory.end = 6
    assert (await second.take(Client())).places == [Place("a", "a", "a@9")]


async def test_what_moves_is_saved_and_what_does_not_is_not(facts: FactLog, new_node: NewNode) -> None:
    node, client = new_node(), Client()
    held = await node.take(client)
    await held.subscribe([Subscription("a", 1)])
    written = len(facts.facts)
    node.sessions.save(10.0)
    client.stands = [Place("a", "a", "a@2")]  # given, and nothing acknowledged
    node.sessions.save(11.0)
    assert len(facts.facts) == written
    client.stand(Place("a", "a", "a@3"))
    node.sessions.save(11.5)  # not a second later yet
    assert len(facts.facts) == written
    node.sessions.save(12.0)
    node.sessions.save(13.0)
    assert len(facts.facts) == written + 1
    assert state_of(facts)["places"] == [{"filter": "a", "topic": "a", "position": "a@3"}]


async def test_saving_takes_a_bounded_time_of_the_loop(
    facts: FactLog, new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SAVED_PLACES", 4)
    node = new_node()
    clients = [Client() for _ in range(5)]
    for number, client in enumerate(clients):
        held = await node.take(client, Name("app", str(number)))
        await held.subscribe([Subscription("a", 1)])
        client.stand(Place("a", "a", "a@3"))
    written = len(facts.facts)
    for expected in (2, 4, 5, 5):
        node.sessions.save(10.0)
        assert len(facts.facts) - written == expected


async def test_what_the_log_does_not_take_is_told_again(facts: FactLog, new_node: NewNode) -> None:
    node, client = new_node(), Client()
    held = await node.take(client)
    await held.subscribe([Subscription("a", 1)])
    client.stand(Place("a", "a", "a@7"))
    facts.failure = SourceTimeout("away")
    held.leave(expiry_s=None, lost=False)
    node.sessions.save(1.0)
    facts.failure = None
    node.sessions.save(2.0)
    await settle()
    assert state_of(facts)["places"] == [{"filter": "a", "topic": "a", "position": "a@7"}]
    assert list(facts.newest()) == ['state:["app","alice"]']


async def test_a_dead_nodes_sessions_end_and_say_that_nobody_knows_where_they_stood(
    facts: FactLog, new_node: NewNode
) -> None:
    first, second = new_node(), new_node()
    held = await first.take(Client(), expiry_s=60)
    await held.subscribe([Subscription("a", 1)], [Place("a", "a", "a@0")])
    await first.take(Client(), Name("app", "bob"), expiry_s=0)
    await settle()
    first.is_deaf = True
    second.gone.add("a")
    second.now_ms += 20_000
    second.sessions.look_after()
    await settle()
    assert list(facts.newest()) == ['state:["app","alice"]']
    assert state_of(facts)["ended_ms"] == second.now_ms
    again = await second.take(Client())
    assert again.places == [Place("a", "a", "a@0", "a@3")]


async def test_a_log_that_does_not_answer_is_told_to_the_client(
    facts: FactLog, new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "CLAIM_S", 0.05)
    node = new_node()
    (await node.take(Client())).leave(expiry_s=None, lost=False)
    await settle()
    before = state_of(facts)
    facts.holds_back = True
    with pytest.raises(ClientError) as refused:
        await node.take(Client())
    assert refused.value.info.code == 50003
    facts.holds_back = False
    facts.failure = SourceTimeout("away")
    with pytest.raises(ClientError) as refused:
        await node.take(Client())
    assert refused.value.info.code == 50003
    assert state_of(facts) == before
    assert len(node.sessions) == 0


async def test_a_client_that_goes_before_it_has_its_session_leaves_it_as_it_was(
    facts: FactLog, new_node: NewNode
) -> None:
    node = new_node()
    held = await node.take(Client())
    await held.subscribe([Subscription("a", 1)])
    held.leave(expiry_s=None, lost=False)
    await settle()
    before = state_of(facts)
    facts.holds_back = True
    taking = asyncio.create_task(node.take(Client()))
    await settle()
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    facts.holds_back = False
    node.catch_up()
    await settle()
    assert state_of(facts) == before
    assert len(node.sessions) == 0
    assert (await node.take(Client())).present


async def test_a_claim_that_was_taken_back_is_remembered_as_long_as_its_session(
    facts: FactLog, new_node: NewNode
) -> None:
    node = new_node()
    (await node.take(Client(), expiry_s=60)).leave(expiry_s=None, lost=False)
    (await node.take(Client(), Name("app", "bob"), expiry_s=0)).leave(expiry_s=None, lost=False)
    await settle()
    known = node.sessions._table
    assert known.claim(ALICE) is None
    assert known.last_claim(ALICE) is not None
    assert known.last_claim(Name("app", "bob")) is None
    node.now_ms += 61_000
    node.sessions.look_after()
    await settle()
    assert known.last_claim(ALICE) is None
    assert known.generation(ALICE) == 0


async def test_a_session_that_is_over_before_it_was_read_back_leaves_nothing(facts: FactLog, new_node: NewNode) -> None:
    held = await new_node().take(Client())
    held.leave(expiry_s=0, lost=False)
    await settle()
    assert facts.newest() == {}


async def test_there_is_a_most_of_sessions(new_node: NewNode, monkeypatch: pytest.MonkeyPatch) -> None:
    node = new_node()
    await node.take(Client())
    monkeypatch.setattr(table, "SESSIONS_MAX", 2)  # one application has half
    with pytest.raises(ClientError) as refused:
        await node.take(Client(), Name("app", "bob"))
    assert refused.value.info == error(42910, "no more sessions can be kept")
    await node.take(Client())  # who has one keeps it
    await node.take(Client(), Name("other", "bob"))  # who has none may have one
    monkeypatch.setattr(table, "SESSIONS_MAX", 4)
    monkeypatch.setattr(table, "STATE_BYTES", 0)
    with pytest.raises(ClientError):
        await node.take(Client(), Name("app", "bob"))
    assert not (await node.take(Client(), Name("app", "bob"), expiry_s=0)).is_kept


@pytest.mark.parametrize("is_slow", [False, True])
async def test_who_comes_and_goes_while_the_log_is_away_takes_a_bounded_room(
    facts: FactLog, new_node: NewNode, monkeypatch: pytest.MonkeyPatch, is_slow: bool
) -> None:
    monkeypatch.setattr(telling, "WORDS_MAX", 3)
    node = new_node()
    facts.slow, facts.failure = (b"", None) if is_slow else (None, SourceTimeout("away"))
    for number in range(3):
        (await node.take(Client(), Name("app", str(number)), expiry_s=0)).leave(expiry_s=None, lost=False)
    with pytest.raises(ClientError) as refused:
        await node.take(Client(), Name("app", "another"), expiry_s=0)
    assert refused.value.info.code == 42910
    if not is_slow:
        facts.failure = None
        node.sessions.save(1.0)
        await node.take(Client(), Name("app", "another"), expiry_s=0)


async def test_who_has_a_session_keeps_it_with_no_room_for_more(
    new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = new_node()
    held = await node.take(Client())
    await held.subscribe([Subscription("a", 1)])
    held.leave(expiry_s=None, lost=True)
    await settle()
    monkeypatch.setattr(table, "STATE_BYTES", 0)
    held = await node.take(Client())
    assert held.present
    await held.subscribe([Subscription("a", 0)])
    with pytest.raises(ClientError) as refused:
        await held.subscribe([Subscription("b", 1)])
    assert refused.value.info.code == 42910
    assert [one.filter for one in held.subscriptions] == ["a"]
    await held.unsubscribe(["a"])


async def test_no_application_takes_all_the_room(new_node: NewNode, monkeypatch: pytest.MonkeyPatch) -> None:
    node = new_node()
    hog = await node.take(Client(), Name("hog:of-a-token", "x"))
    await settle()
    monkeypatch.setattr(table, "STATE_BYTES", node.sessions.counters()["session_bytes"] * 3 // 2)
    with pytest.raises(ClientError):
        await node.take(Client(), Name("hog", "y"))
    await node.take(Client(), Name("app", "alice"))
    hog.leave(expiry_s=0, lost=False)
    await settle()
    await node.take(Client(), Name("hog", "y"))


async def test_a_session_that_grows_under_wildcards_where_there_is_no_room_is_over(
    facts: FactLog, new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, client = new_node(), Client()
    held = await node.take(client)
    await held.subscribe([Subscription("#", 1)])
    await settle()
    monkeypatch.setattr(table, "STATE_BYTES", 0)
    client.stand(Place("#", "a", "a@3"))
    node.sessions.save(10.0)
    assert client.ended == error(42910, "no more sessions can be kept")
    held.leave(expiry_s=None, lost=True)
    await settle()
    assert state_of(facts) is None


async def test_names_are_counted_until_nothing_is_left_of_them(new_node: NewNode) -> None:
    node = new_node()
    names = node.sessions._table
    first, second = [await node.take(Client(), Name("app", one)) for one in "ab"]
    await settle()
    assert len(names) == 2
    first.leave(expiry_s=None, lost=True)  # its session is kept
    second.leave(expiry_s=0, lost=True)
    await settle()
    assert len(names) == 1
    again = await node.take(Client(), Name("app", "a"))
    again.leave(expiry_s=0, lost=False)
    await settle()
    assert len(names) == 0


async def test_there_is_a_most_of_subscriptions(new_node: NewNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_module, "SUBSCRIPTIONS_MAX", 2)
    held = await new_node().take(Client())
    await held.subscribe([Subscription("a", 1), Subscription("b", 1)])
    await held.subscribe([Subscription("a", 0)])
    with pytest.raises(ClientError) as refused:
        await held.subscribe([Subscription("c", 1)])
    assert refused.value.info.code == 90010
    assert [one.filter for one in held.subscriptions] == ["a", "b"]


@pytest.mark.parametrize("expiry_s", [0, 60])
async def test_a_filter_that_stands_for_no_topic_is_refused(new_node: NewNode, expiry_s: int) -> None:
    held = await new_node().take(Client(), expiry_s=expiry_s)
    with pytest.raises(ClientError) as refused:
        await held.subscribe([Subscription("a/#", 1), Subscription("[?rewind=1]a/#", 1)])
    assert refused.value.info.code == 40010
    assert held.subscriptions == []


async def test_a_session_that_is_too_large_is_neither_written_nor_kept(
    facts: FactLog, new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "RECORD_BYTES", 400)
    node, client = new_node(), Client()
    held = await node.take(client)
    await held.subscribe([Subscription("a", 1)], [Place("a", "a", "a@1")])
    with pytest.raises(ClientError) as refused:
        await held.subscribe([Subscription("b" * 300, 1)])
    assert refused.value.info.code == 90010
    assert [one.filter for one in held.subscriptions] == ["a"]
    client.stand(Place("a", "a", "a@" + "1" * 400))
    node.sessions.save(10.0)
    assert client.ended is not None
    assert client.ended.code == 90010
    held.leave(expiry_s=None, lost=False)
    await settle()
    assert facts.newest() == {}


async def test_what_is_too_large_for_the_log_is_not_tried_for_ever(facts: FactLog, new_node: NewNode) -> None:
    node, client = new_node(), Client()
    held = await node.take(client)
    await held.subscribe([Subscription("a", 1)])
    facts.largest = 150
    client.stand(Place("a", "a", "a@" + "1" * 200))
    held.leave(expiry_s=None, lost=False)
    await settle()
    assert facts.newest() == {}


async def test_a_subscription_that_the_log_does_not_take_is_none(facts: FactLog, new_node: NewNode) -> None:
    held = await new_node().take(Client())
    await held.subscribe([Subscription("a", 1)], [Place("a", "a", "a@1")])
    facts.failure = SourceTimeout("away")
    with pytest.raises(ClientError):
        await held.subscribe([Subscription("a", 0), Subscription("b", 1)], [Place("b", "b", "b@1")])
    assert list(held.subscriptions) == [Subscription("a", 1)]
    assert list(held.places) == [Place("a", "a", "a@1")]


async def test_what_is_no_session_is_skipped(facts: FactLog, new_node: NewNode) -> None:
    node = new_node()
    for kind in ("claim", "state", "release", "retained"):
        node.control.tell(kind, "no name", {"x": 1})
        node.control.tell(kind, '["app","alice"]', {"generation": "x"})
    await settle()
    assert not (await node.take(Client(), ALICE)).present
