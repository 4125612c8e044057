"""What MQTT's connections are made of: names, aliases, filters, reason codes, and who is not let in yet."""

import time

import pytest

from fanout.errors import ClientError, error
from fanout.packets import Properties, Publish
from fanout.session.names import parse_name
from fanout.transports import mqtt_reasons as reasons
from fanout.transports import mqtt_waiting
from fanout.transports.mqtt_ports import Place, Subscription
from fanout.transports.mqtt_publishes import ALIAS_BYTES, ALIASES_MAX, RECEIVE_MAXIMUM, Incoming
from fanout.transports.mqtt_subscriptions import Subscriptions
from fanout.transports.mqtt_topics import Topics, has_wildcard, stands_for_none
from fanout.transports.mqtt_waiting import not_let_in


def publish(topic: str = "t", *, qos: int = 0, packet_id: int = 0, alias: int = 0, retain: bool = False) -> Publish:
    return Publish(topic, b"", qos, False, retain, packet_id, alias, Properties())


class TestTopics:
    def test_a_topic_is_its_channel(self) -> None:
        assert Topics().channel("a/b:c") == "a/b:c"
        assert Topics().topic("[?rewind=1]a/b") == "[?rewind=1]a/b"

    def test_a_separator_changes_places_with_the_slash_and_leaves_qualifiers_alone(self) -> None:
        topics = Topics(":")
        assert topics.channel("a/b:c") == "a:b/c"
        assert topics.channel("[?x=a/b]a/b") == "[?x=a/b]a:b"
        for name in ("a:b", "a/b", "[?p=/]:", "", "["):
            assert topics.channel(topics.topic(name)) == name


class TestIncoming:
    def test_an_alias_stands_for_the_topic_that_it_came_with_last(self) -> None:
        incoming = Incoming()
        assert incoming.topic(publish("a")) == "a"
        assert incoming.topic(publish("", alias=1)) is None
        assert incoming.topic(publish("a", alias=1)) == "a"
        assert incoming.topic(publish("b", alias=1)) == "b"
        assert incoming.topic(publish("", alias=1)) == "b"
        assert incoming.topic(publish("c", alias=ALIASES_MAX + 1)) is None

    def test_no_alias_is_kept_for_a_topic_that_no_channel_can_have(self) -> None:
        incoming, longest = Incoming(), "\u00e9" * (ALIAS_BYTES // 2)
        assert incoming.topic(publish(longest, alias=1)) == longest
        assert incoming.topic(publish("", alias=1)) == longest
        assert incoming.topic(publish(longest + "a", alias=1)) == longest + "a"  # to be refused by that name
        assert incoming.topic(publish("", alias=1)) is None

    def test_answers_go_to_the_publishes_they_are_owed_to(self) -> None:
        incoming = Incoming()
        first, second = incoming.begin(publish(qos=1, packet_id=7)), incoming.begin(publish(retain=True))
        assert (first, second) == (0, 1)
        assert (incoming.retains(0), incoming.retains(1)) == (False, True)
        assert incoming.answered(0) == (7, 1, False)
        assert incoming.answered(0) is None

    def test_identifiers_are_used_until_they_are_released(self) -> None:
        incoming = Incoming()
        for packet_id in range(1, RECEIVE_MAXIMUM + 1):
            assert incoming.begin(publish(qos=2, packet_id=packet_id)) is not None
        assert incoming.begin(publish(qos=1, packet_id=RECEIVE_MAXIMUM + 1)) is None
        assert incoming.begin(publish(qos=2, packet_id=1)) is not None  # sent again
        assert incoming.begin(publish()) is not None
        incoming.release(1)
        assert incoming.begin(publish(qos=1, packet_id=RECEIVE_MAXIMUM + 1)) is not None


class TestSubscriptions:
    def test_a_channel_under_two_filters_is_delivered_twice(self) -> None:
        subscriptions = Subscriptions(Topics(":"))
        for number, (subscription, spelling) in enumerate(
            [(Subscription("a/b", 1), "[?filter=1]a:b"), (Subscription("a/+", 0), "[?filter=2]a:b")], 11
        ):
            subscriptions.add(subscription)
            delivery = subscriptions.wanted(subscription, "a/b")
            assert delivery.spelling == spelling
            assert subscriptions.wanted(subscription, "a/b") is delivery
            subscriptions.attached(delivery, number)
        standing = [(11, "p", "q"), (12, "r", None), (13, "unknown", None)]
        assert subscriptions.places(standing) == [Place("a/b", "a/b", "p", "q"), Place("a/+", "a/b", "r")]
        assert subscriptions.find(12) is subscriptions.find("[?filter=2]a:b") is not None
        assert subscriptions.remove("a/+") == ["[?filter=2]a:b"]
        subscriptions.gone("[?filter=2]a:b")
        assert subscriptions.places(standing) == [Place("a/b", "a/b", "p", "q")]
        assert (len(subscriptions), subscriptions.remove("a/+")) == (1, None)

    def test_a_filter_that_comes_again_keeps_its_spelling_and_one_that_was_left_does_not(self) -> None:
        subscriptions = Subscriptions(Topics())
        for qos in (0, 1):
            subscriptions.add(Subscription("t", qos))
            assert subscriptions.spelling("t", "t") == "[?filter=1]t"
        subscriptions.remove("t")
        subscriptions.add(Subscription("t", 0))
        assert subscriptions.spelling("t", "t") == "[?filter=2]t"

    def test_what_took_anothers_place_gives_it_back(self) -> None:
        subscriptions = Subscriptions(Topics())
        before, after = Subscription("t", 1), Subscription("t", 0)
        for one in (before, after):
            subscriptions.add(one)
            subscriptions.wanted(one, "t")
        assert subscriptions.get("t") is after
        subscriptions.restore(before)
        delivery = subscriptions.find("[?filter=1]t")
        assert delivery is not None
        assert subscriptions.get("t") is delivery.subscription is before

    def test_one_that_is_attached_anew_has_its_newer_number_alone(self) -> None:
        subscriptions = Subscriptions(Topics())
        subscriptions.add(Subscription("t", 0))
        delivery = subscriptions.wanted(Subscription("t", 0), "t")
        subscriptions.attached(delivery, 1)
        subscriptions.attached(delivery, 2)
        assert (subscriptions.find(1), subscriptions.find(2), delivery.number) == (None, delivery, 2)
        assert subscriptions.gone(delivery.spelling) is delivery
        assert (subscriptions.find(2), subscriptions.find(delivery.spelling)) == (None, None)

    def test_many_are_left_without_looking_through_them_all_for_each(self) -> None:
        subscriptions = Subscriptions(Topics())
        subscriptions.add(Subscription("#", 0))
        deliveries = [subscriptions.wanted(Subscription("#", 0), f"t/{number}") for number in range(20_000)]
        for number, delivery in enumerate(deliveries):
            subscriptions.attached(delivery, number)
        began = time.process_time()
        for delivery in reversed(deliveries):
            assert subscriptions.gone(delivery.spelling) is delivery
        assert time.process_time() - began < 1

    def test_a_qualifier_of_the_clients_own_is_kept_and_makes_no_two_spellings_one(self) -> None:
        subscriptions = Subscriptions(Topics())
        filters = ["[?filter=2]t", "t", "[?rewind=1]t", "[filter=YQ==]t", "[?filter=2&filter=1]t"]
        for one in filters:
            subscriptions.add(Subscription(one, 0))
        spellings = [subscriptions.spelling(one, one) for one in filters]
        assert spellings[2:4] == ["[?rewind=1&filter=3]t", "[filter=YQ==?filter=4]t"]
        assert len(set(spellings)) == len(filters)
        names = [parse_name(spelling, 100, filtered=True) for spelling in spellings]
        assert {name.channel for name in names} == {"t"}
        assert (names[2].params["rewind"], names[3].filter) == ("1", "a")

    @pytest.mark.parametrize("topic", ["[]t", "[?filter=1", "[mqtt]t", "[", "[?rewind=1]"])
    def test_what_is_no_name_is_none_beside_others_too(self, topic: str) -> None:
        subscriptions = Subscriptions(Topics())
        subscriptions.add(Subscription(topic, 0))
        with pytest.raises(ClientError):
            parse_name(subscriptions.spelling(topic, topic), 100, filtered=True)

    @pytest.mark.parametrize(("name", "wild"), [("a/b", False), ("+", True), ("a/#", True), ("$x/+/b", True)])
    def test_wildcards(self, name: str, wild: bool) -> None:
        assert has_wildcard(name) == wild

    @pytest.mark.parametrize(("name", "none"), [("[?rewind=1]a/#", True), ("[?rewind=1]a", False), ("a/#", False)])
    def test_wildcards_behind_a_qualifier_stand_for_nothing(self, name: str, none: bool) -> None:
        assert stands_for_none(name) == none


class TestReasons:
    @pytest.mark.parametrize(
        ("number", "connack", "suback", "puback", "disconnect"),
        [
            (40101, 0x86, 0x87, 0x87, 0x87),
            (40142, 0x86, 0x87, 0x87, 0x87),
            (40160, 0x87, 0x87, 0x87, 0x87),
            (40010, 0x90, 0x8F, 0x90, 0x90),
            (40012, 0x85, 0x80, 0x80, 0x80),
            (40013, 0x99, 0x80, 0x99, 0x99),
            (40009, 0x95, 0x97, 0x97, 0x95),
            (90010, 0x97, 0x97, 0x97, 0x97),
            (42911, 0x97, 0x97, 0x97, 0x97),
            (42924, 0x80, 0x80, 0x80, 0x96),
            (80003, 0x88, 0x80, 0x80, 0x8B),
            (80016, 0x80, 0x80, 0x80, 0x8E),
            (80020, 0x80, 0x83, 0x83, 0x83),
            (50003, 0x88, 0x80, 0x80, 0x80),
        ],
    )
    def test_of_each_packet(self, number: int, connack: int, suback: int, puback: int, disconnect: int) -> None:
        wrong = error(number)
        told = (reasons.connack(wrong), reasons.suback(wrong), reasons.puback(wrong), reasons.disconnect(wrong))
        assert told == (connack, suback, puback, disconnect)

    def test_return_codes_of_3_1_1(self) -> None:
        told = {reason: reasons.return_code(reason) for reason in (0, 0x84, 0x85, 0x88, 0x86, 0x87, 0x90)}
        assert told == {0: 0, 0x84: 1, 0x85: 2, 0x88: 3, 0x86: 4, 0x87: 5, 0x90: 5}


class Connection:
    def __init__(self) -> None:
        self.is_cut = False

    def cut(self) -> None:
        self.is_cut = True


class TestWaiting:
    def test_the_oldest_makes_room_when_there_are_too_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mqtt_waiting, "CONNECTIONS_MAX", 3)
        waiting, connections = not_let_in(), [Connection() for _ in range(5)]
        for connection in connections[:3]:
            waiting.enter(connection)
        waiting.leave(connections[0])
        for connection in connections[3:]:
            waiting.enter(connection)
        assert [connection.is_cut for connection in connections] == [False, True, False, False, False]
        assert len(waiting) == 3

    def test_the_oldest_makes_room_when_they_say_too_much(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mqtt_waiting, "BYTES_MAX", 100)
        waiting, connections = not_let_in(), [Connection() for _ in range(3)]
        for connection in connections:
            waiting.enter(connection)
            waiting.holds(connection, 30)
        waiting.holds(connections[2], 40)
        assert not any(connection.is_cut for connection in connections)
        waiting.holds(connections[2], 41)
        assert [connection.is_cut for connection in connections] == [True, False, False]
        waiting.holds(connections[0], 1000)  # it waits no more
        waiting.close()
        assert all(connection.is_cut for connection in connections)
