"""Attaching, moving and leaving channels."""

from typing import Any

import pytest

from fanout.errors import error
from fanout.session.effects import Attach, Detach, Replay, Reply, Retry, Watch
from fanout.session.kinds import Kinds
from fanout.session.limits import Limits
from fanout.session.ports import Outcome
from fanout.wire import Action, Flag
from tests.support.conversation import (
    DETACH,
    Conversation,
    FakePlan,
    error_code,
    only_attach,
    only_close,
    only_frame,
    only_replay,
    only_retry,
)

GRANTED = Flag.PUBLISH | Flag.SUBSCRIBE | Flag.PRESENCE | Flag.PRESENCE_SUBSCRIBE | Flag.ANNOTATION_PUBLISH
READ_ONLY = {"*": ["subscribe"]}
AHEAD = FakePlan(Outcome.AHEAD)


class TestAttached:
    def test_names_the_channel_the_position_and_the_granted_modes(self) -> None:
        client = Conversation(FakePlan(serial="here"))
        assert only_frame(client.attach("news")) == {
            "action": 11, "channel": "news", "channelSerial": "here", "flags": GRANTED,
        }  # fmt: skip

    def test_starts_delivery_from_the_plan(self) -> None:
        plan = FakePlan(serial="here")
        effect = only_attach(Conversation(plan).attach("news"))
        assert (effect.attachment, effect.plan, effect.spelling) == (1, plan, "news")
        every = Kinds.MESSAGES | Kinds.PRESENCE | Kinds.OWN_PRESENCE | Kinds.PUBLISH
        assert (effect.kinds, effect.echo) == (every, True)

    def test_tells_recognised_parameters_back(self) -> None:
        frame = only_frame(Conversation().attach(params={"rewind": "1", "delta": "vcdiff", "agent": "x"}))
        assert frame["params"] == {"rewind": "1", "delta": "vcdiff"}

    def test_who_asks_for_occupancy_is_told(self) -> None:
        attach, watch = Conversation().attach("news", params={"occupancy": "metrics"})
        assert isinstance(attach, Attach)
        assert attach.kinds & Kinds.META
        assert attach.frame["params"] == {"occupancy": "metrics"}
        assert watch == Watch("news")

    def test_one_figure_of_it_may_be_asked_for(self) -> None:
        attach, _ = Conversation().attach("news", params={"occupancy": "metrics.subscribers"})
        assert isinstance(attach, Attach)
        assert attach.kinds & Kinds.META

    def test_who_asks_for_whole_appends_is_given_them(self) -> None:
        attach = only_attach(Conversation().attach("news", params={"appendMode": "full"}))
        assert attach.kinds & Kinds.WHOLE_APPENDS
        assert attach.frame["params"] == {"appendMode": "full"}

    @pytest.mark.parametrize("value", ["", "all", "metrics.", "metrics.nothing"])
    def test_occupancy_that_is_none(self, value: str) -> None:
        refused = Conversation().attach(params={"occupancy": value})
        assert error_code(only_frame(refused)) == (40000, 400)

    def test_occupancy_takes_a_right(self) -> None:
        refused = Conversation(capability=READ_ONLY).attach(params={"occupancy": "metrics"})
        assert error_code(only_frame(refused)) == (40160, 401)

    def test_has_no_parameters_where_none_were_recognised(self) -> None:
        assert "params" not in only_frame(Conversation().attach(params={"agent": "x"}))

    def test_without_the_right_to_publish_grants_subscribing_alone(self) -> None:
        client = Conversation(capability=READ_ONLY)
        assert only_frame(client.attach())["flags"] == Flag.SUBSCRIBE | Flag.PRESENCE_SUBSCRIBE

    def test_without_subscribing_delivers_nothing(self) -> None:
        effect = only_attach(Conversation().attach(flags=Flag.PUBLISH))
        assert effect.frame["flags"] == Flag.PUBLISH
        assert effect.kinds == Kinds.PUBLISH

    def test_gives_every_channel_a_number_of_its_own(self) -> None:
        client = Conversation()
        assert [only_attach(client.attach(name)).attachment for name in ("a", "b", "c")] == [1, 2, 3]

    def test_never_gives_a_number_twice(self) -> None:
        client = Conversation()
        client.attach("a")
        client.say(action=DETACH, channel="a")
        assert only_attach(client.attach("a")).attachment == 2


class TestAQualifiedSpelling:
    def test_leads_to_the_channel_and_is_kept_in_frames(self) -> None:
        client = Conversation()
        effect = only_attach(client.attach("[?rewind=3]news"))
        assert client.channels.asked[0] == ("news", None, 3, 0)
        assert effect.spelling == effect.frame["channel"] == "[?rewind=3]news"

    def test_is_an_attachment_beside_the_plain_one(self) -> None:
        client = Conversation()
        assert only_attach(client.attach("news")).attachment == 1
        assert only_attach(client.attach("[?rewind=3]news")).attachment == 2

    def test_gives_way_to_the_frames_own_parameters(self) -> None:
        client = Conversation()
        client.attach("[?rewind=3&echo=false]news", params={"rewind": "5"})
        assert client.channels.asked[0] == ("news", None, 5, 0)
        assert client.replies[0]["params"] == {"rewind": "5", "echo": "false"}


class TestAPosition:
    def test_that_is_held_is_resumed(self) -> None:
        client = Conversation(FakePlan(Outcome.RESUMED, "theirs"))
        frame = only_frame(client.attach(channelSerial="theirs"))
        assert client.channels.asked == [("news", "theirs", 0, 0)]
        assert frame["flags"] == GRANTED | Flag.RESUMED
        assert "error" not in frame

    def test_with_messages_after_it_announces_a_backlog(self) -> None:
        client = Conversation(FakePlan(Outcome.RESUMED, "theirs", backlog=3))
        assert only_frame(client.attach(channelSerial="theirs"))["flags"] == GRANTED | Flag.RESUMED | Flag.HAS_BACKLOG

    def test_of_another_log_goes_on_live_and_says_so(self) -> None:
        frame = only_frame(Conversation(FakePlan(Outcome.FOREIGN)).attach(channelSerial="foreign"))
        assert frame["flags"] == GRANTED
        assert error_code(frame) == (90005, 404)

    @pytest.mark.parametrize(("outcome", "number"), [(Outcome.CONFLATED, 90020), (Outcome.PARTIAL, 90021)])
    def test_of_a_channel_with_snapshots_says_what_is_left_out(self, outcome: Outcome, number: int) -> None:
        frame = only_frame(Conversation(FakePlan(outcome, "here", backlog=2)).attach(channelSerial="theirs"))
        assert (frame["flags"], frame["channelSerial"]) == (GRANTED | Flag.HAS_BACKLOG, "here")
        assert error_code(frame) == (number, 404)

    def test_that_is_empty_is_none(self) -> None:
        client = Conversation()
        assert only_frame(client.attach(channelSerial=""))["flags"] == GRANTED
        assert client.channels.asked == [("news", None, 0, 0)]


class TestAPositionThatMemoryDoesNotReach:
    def test_is_looked_for_in_the_log(self) -> None:
        client = Conversation(FakePlan(Outcome.GAP))
        asked = only_replay(client.attach("[?rewind=1]news", channelSerial="old"))
        assert (asked.channel, asked.serial) == ("news", "old")
        plan = FakePlan(Outcome.RESUMED, "old", backlog=1)
        effect = only_attach(client.replay(asked, plan))
        assert (effect.plan, effect.attachment) == (plan, 1)
        assert effect.frame["flags"] == GRANTED | Flag.RESUMED | Flag.HAS_BACKLOG
        assert (effect.frame["channelSerial"], "error" in effect.frame) == ("old", False)

    def test_and_that_the_log_does_not_either_goes_on_with_what_is_and_says_so(self) -> None:
        client = Conversation(FakePlan(Outcome.GAP))
        asked = only_replay(client.attach(channelSerial="old"))
        frame = only_frame(client.replay(asked, FakePlan(Outcome.GAP, "earliest", backlog=9)))
        assert (frame["flags"], frame["channelSerial"]) == (GRANTED | Flag.HAS_BACKLOG, "earliest")
        assert error_code(frame) == (90003, 404)

    def test_and_that_the_log_has_no_place_for_is_left_to_memory(self) -> None:
        client = Conversation(FakePlan(Outcome.GAP), FakePlan(Outcome.FOREIGN), FakePlan(Outcome.GAP))
        asked = only_replay(client.attach(channelSerial="old"))
        assert error_code(only_frame(client.replay(asked, None))) == (90005, 404)
        asked = only_replay(client.attach("b", channelSerial="old"))
        assert error_code(only_frame(client.replay(asked, None))) == (90003, 404)

    def test_that_only_the_log_understands_is_looked_for_there_and_else_of_another_log(self) -> None:
        client = Conversation(FakePlan(Outcome.UNREAD), FakePlan(Outcome.UNREAD), FakePlan(Outcome.UNREAD))
        asked = only_replay(client.attach(channelSerial="old"))
        assert only_frame(client.replay(asked, FakePlan(Outcome.RESUMED, "whole")))["channelSerial"] == "whole"
        asked = only_replay(client.attach("b", channelSerial="old"))
        assert error_code(only_frame(client.replay(asked, None))) == (90005, 404)

    def test_is_not_looked_for_by_who_is_given_nothing_of_the_log(self) -> None:
        client = Conversation(FakePlan(Outcome.GAP))
        assert error_code(only_frame(client.attach(channelSerial="old", flags=Flag.PUBLISH))) == (90003, 404)

    def test_is_forgotten_when_the_client_detaches_or_attaches_again(self) -> None:
        client = Conversation(FakePlan(Outcome.GAP))
        first = only_replay(client.attach(channelSerial="old"))
        second = only_replay(client.attach(channelSerial="old"))
        assert client.replay(first, FakePlan(Outcome.RESUMED)) == []
        client.say(action=DETACH, channel="news")
        assert client.replay(second, FakePlan(Outcome.RESUMED)) == []

    def test_is_forgotten_when_the_connection_ends(self) -> None:
        client = Conversation(FakePlan(Outcome.GAP))
        asked = only_replay(client.attach(channelSerial="old"))
        client.session.closed()
        assert client.replay(asked, FakePlan(Outcome.RESUMED)) == client.replay(asked, error(50003)) == []

    def test_counts_as_a_channel(self) -> None:
        client = Conversation(FakePlan(Outcome.GAP), limits=Limits(attachments=1))
        client.attach("a", channelSerial="old")
        assert error_code(only_frame(client.attach("b"))) == (90010, 400)

    def test_who_is_left_by_a_replay_is_sent_away_to_come_back(self) -> None:
        client = Conversation()
        client.attach()
        effects = client.session.left()
        assert error_code(only_frame(effects)) == (80003, 400)
        assert only_close(effects).resumable


class TestALogThatCannotBeAsked:
    """What came back with a position waits, and nothing else does."""

    def waiting(self, client: Conversation, **fields: Any) -> Retry:
        asked = only_replay(client.attach(channelSerial="old", **fields))
        return only_retry(client.replay(asked, error(50003)))

    def test_leaves_the_channel_without_an_answer_and_others_go_on(self) -> None:
        client = Conversation(FakePlan(Outcome.GAP), FakePlan())
        retry = self.waiting(client)
        assert retry.unanswered
        assert only_frame(client.attach("b"))["channel"] == "b"
        assert len(client.publish(0, channel="news")) == 1
        client.now_ms += retry.after_ms
        client.channels.plans = [FakePlan(Outcome.GAP)]
        again = only_replay(client.hand(retry.frame))
        assert (again.channel, again.serial, again.again) == ("news", "old", True)
        frame = only_frame(client.replay(again, FakePlan(Outcome.RESUMED, "old")))
        assert (frame["channelSerial"], frame["flags"]) == ("old", GRANTED | Flag.RESUMED)

    def test_is_asked_again_the_later_the_longer_it_lasts(self) -> None:
        client = Conversation(FakePlan(Outcome.GAP))
        retry, begun = self.waiting(client), client.now_ms
        times = []
        while client.now_ms - begun < 60_000:
            client.now_ms += retry.after_ms
            times.append(retry.after_ms)
            retry = only_retry(client.replay(only_replay(client.hand(retry.frame)), error(50003)))
        assert times[0] == 500
        assert times == sorted(times)
        assert times[-1] == 5_000

    def test_an_attach_without_a_position_goes_on_waiting_with_that_of_before(self) -> None:
        client = Conversation(FakePlan(Outcome.GAP))
        first = self.waiting(client)
        asked = only_replay(client.attach(params={"rewind": "5"}))
        assert asked.serial == "old"
        assert client.hand(first.frame) == [], "the older question has ended"
        assert only_frame(client.replay(asked, FakePlan(Outcome.RESUMED, "old")))["flags"] == GRANTED | Flag.RESUMED

    def test_an_attach_with_a_position_takes_that(self) -> None:
        client = Conversation(FakePlan(Outcome.GAP))
        first = self.waiting(client)
        assert only_replay(client.attach(channelSerial="newer")).serial == "newer"
        assert client.hand(first.frame) == []

    def test_a_detach_forgets_the_position(self) -> None:
        client = Conversation(FakePlan(Outcome.GAP))
        retry = self.waiting(client)
        assert only_frame(client.say(action=DETACH, channel="news"))["action"] == Action.DETACHED
        assert client.hand(retry.frame) == []
        client.channels.plans = [FakePlan()]
        assert only_frame(client.attach())["channelSerial"] == "here"
        assert client.channels.asked[-1] == ("news", None, 0, 0)

    def test_who_was_attached_has_been_told_more_since(self) -> None:
        client = Conversation(FakePlan(), FakePlan(Outcome.GAP), FakePlan())
        client.attach()
        self.waiting(client)
        only_attach(client.attach())
        assert client.channels.asked[-1] == ("news", None, 0, 0)

    def test_is_forgotten_when_the_connection_ends(self) -> None:
        client = Conversation(FakePlan(Outcome.GAP))
        retry = self.waiting(client)
        client.session.closed()
        assert client.hand(retry.frame) == []

    def test_counts_as_a_channel(self) -> None:
        client = Conversation(FakePlan(Outcome.GAP), limits=Limits(attachments=1))
        self.waiting(client)
        assert error_code(only_frame(client.attach("b"))) == (90010, 400)


class TestAPositionAheadOfThisNode:
    def test_is_asked_for_again_in_a_moment(self) -> None:
        client = Conversation(AHEAD, FakePlan(Outcome.RESUMED, "theirs"))
        retry = only_retry(client.attach(channelSerial="theirs"))
        assert retry.after_ms == 20
        frame = only_frame(client.hand(retry.frame))
        assert frame["flags"] == GRANTED | Flag.RESUMED
        assert client.channels.asked == [("news", "theirs", 0, 0)] * 2

    def asks_the_log(self, client: Conversation) -> Replay:
        retry = only_retry(client.attach(channelSerial="theirs"))
        client.now_ms += 4_999
        retry = only_retry(client.hand(retry.frame))
        client.now_ms += 1
        (replay,) = client.hand(retry.frame)
        assert isinstance(replay, Replay)
        assert (replay.channel, replay.serial) == ("news", "theirs")
        return replay

    def test_waits_on_if_the_log_has_got_there_and_looks_in_memory_first(self) -> None:
        client = Conversation(AHEAD)
        retry = only_retry(client.replay(self.asks_the_log(client), error(50003)))
        assert retry.after_ms == 2_500
        client.now_ms += retry.after_ms
        replay = only_replay(client.hand(retry.frame))
        retry = only_retry(client.replay(replay, error(50003)))
        client.channels.plans = [FakePlan(Outcome.RESUMED, "theirs")]
        assert only_frame(client.hand(retry.frame))["flags"] == GRANTED | Flag.RESUMED

    def test_is_given_up_if_the_log_has_not_got_there_either(self) -> None:
        client = Conversation(AHEAD)
        replay = self.asks_the_log(client)
        client.channels.plans = [AHEAD, FakePlan(serial="live")]
        frame = only_frame(client.session.replayed(replay.attach, None, client.now_ms))
        assert (frame["channelSerial"], frame["flags"]) == ("live", GRANTED)
        assert error_code(frame) == (90003, 404)
        assert client.channels.asked[-1] == ("news", None, 0, 0)

    def test_is_forgotten_when_the_client_detaches(self) -> None:
        client = Conversation(AHEAD)
        retry = only_retry(client.attach(channelSerial="theirs"))
        assert only_frame(client.say(action=DETACH, channel="news")) == {"action": 13, "channel": "news"}
        assert client.hand(retry.frame) == []

    def test_is_forgotten_when_the_client_attaches_again(self) -> None:
        client = Conversation(AHEAD, FakePlan())
        retry = only_retry(client.attach(channelSerial="theirs"))
        only_attach(client.attach())
        assert client.hand(retry.frame) == []

    def test_is_forgotten_when_the_connection_ends(self) -> None:
        client = Conversation(AHEAD)
        retry = only_retry(client.attach(channelSerial="theirs"))
        client.session.closed()
        assert client.hand(retry.frame) == []

    def test_counts_as_a_channel(self) -> None:
        client = Conversation(AHEAD, limits=Limits(attachments=1))
        client.attach("a", channelSerial="theirs")
        assert error_code(only_frame(client.attach("b"))) == (90010, 400)


class TestRewind:
    @pytest.mark.parametrize(
        ("params", "asked"),
        [
            ({"rewind": "1"}, ("news", None, 1, 0)),
            ({"rewind": "100"}, ("news", None, 100, 0)),
            ({"rewind": 10}, ("news", None, 10, 0)),
            ({"rewind": "2m", "rewindLimit": "10"}, ("news", None, 10, 120_000)),
        ],
    )
    def test_is_asked_of_the_channel(self, params: dict[str, Any], asked: tuple[str, None, int, int]) -> None:
        client = Conversation(FakePlan(backlog=1))
        frame = only_frame(client.attach(params=params))
        assert client.channels.asked == [asked]
        assert frame["flags"] == GRANTED | Flag.HAS_BACKLOG
        assert "error" not in frame

    @pytest.mark.parametrize(("text", "ms"), [("101", 0), ("2m", 120_000)])
    def test_beyond_the_limit_is_cut_off_and_says_so(self, text: str, ms: int) -> None:
        client = Conversation(FakePlan(backlog=101), FakePlan(backlog=100))
        effect = only_attach(client.attach(params={"rewind": text}))
        assert client.channels.asked == [("news", None, 101, ms), ("news", None, 100, ms)]
        assert effect.plan == FakePlan(backlog=100)
        assert error_code(effect.frame) == (90004, 404)

    @pytest.mark.parametrize("text", ["500", "2m"])
    def test_of_more_than_there_is_is_not_cut_off(self, text: str) -> None:
        client = Conversation(FakePlan(backlog=100))
        assert "error" not in only_frame(client.attach(params={"rewind": text}))
        assert len(client.channels.asked) == 1

    def test_is_for_fresh_attachments_alone(self) -> None:
        client = Conversation()
        client.attach(params={"rewind": "5"}, channelSerial="theirs")
        client.attach(params={"rewind": "5"}, flags=Flag.ATTACH_RESUME)
        assert client.channels.asked == [("news", "theirs", 0, 0), ("news", None, 0, 0)]


class TestEcho:
    @pytest.mark.parametrize(
        ("connection", "params", "echo"),
        [
            (True, {}, True),
            (True, {"echo": False}, False),
            (True, {"echo": "false"}, False),
            (False, {"echo": "true"}, False),
        ],
    )
    def test_is_on_unless_the_connection_or_the_channel_declines(
        self, connection: bool, params: dict[str, Any], echo: bool
    ) -> None:
        assert only_attach(Conversation(echo=connection).attach(params=params)).echo is echo


class TestAttachingAgain:
    def test_moves_the_same_attachment(self) -> None:
        client = Conversation(FakePlan(), FakePlan(Outcome.RESUMED, "theirs"))
        client.attach()
        effect = only_attach(client.attach(channelSerial="theirs", flags=Flag.SUBSCRIBE, params={"echo": "false"}))
        assert (effect.attachment, effect.echo) == (1, False)
        assert effect.frame["flags"] == Flag.SUBSCRIBE | Flag.RESUMED

    def test_is_possible_with_all_attachments_in_use(self) -> None:
        client = Conversation(limits=Limits(attachments=1))
        client.attach()
        assert only_attach(client.attach()).attachment == 1

    def test_there_may_be_more_where_a_driver_says_so(self) -> None:
        client = Conversation(limits=Limits(attachments=1))
        client.session.allow(2)
        client.attach()
        assert only_attach(client.attach("other")).attachment == 2
        (refused,) = client.attach("a third")
        assert isinstance(refused, Reply)
        assert error_code(refused.frame) == (90010, 400)

    def test_in_vain_fails_the_channel_and_stops_delivery(self) -> None:
        client = Conversation()
        client.attach()
        _, effect = client.attach(params={"rewind": "nonsense"})
        assert isinstance(effect, Detach)
        assert effect.attachment == 1
        assert (effect.frame["action"], effect.frame["channel"], error_code(effect.frame)) == (9, "news", (40000, 400))


class TestARefusal:
    def refused(self, client: Conversation, *args: Any, **fields: Any) -> tuple[int, int]:
        """The error of an ATTACH that fails its channel and leaves the connection as it is."""
        (effect,) = client.attach(*args, **fields)
        assert isinstance(effect, Reply)
        assert effect.frame["action"] == 9
        assert effect.frame["channel"] == (args[0] if args else "news")
        assert client.say(action=0) != []
        return error_code(effect.frame)

    @pytest.mark.parametrize("name", ["", ":x", "a\nb", "[meta]log", "[filter=eA=]news", "[?rewind=1", "x" * 1_025])
    def test_of_a_name(self, name: str) -> None:
        assert self.refused(Conversation(), name) == (40010, 400)

    @pytest.mark.parametrize("params", [{"rewind": "soon"}, {"rewind": True}, {"modes": "fly"}, {"echo": 5}])
    def test_of_parameters(self, params: dict[str, Any]) -> None:
        assert self.refused(Conversation(), params=params) == (40000, 400)

    def test_without_any_right(self) -> None:
        assert self.refused(Conversation(capability={"other": ["*"]})) == (40160, 401)

    def test_without_any_mode_that_is_offered(self) -> None:
        assert self.refused(Conversation(), flags=Flag.OBJECT_PUBLISH) == (40160, 401)

    def test_past_the_limit_of_channels(self) -> None:
        client = Conversation()
        for number in range(200):
            only_attach(client.attach(f"channel {number}"))
        assert self.refused(client, "one more") == (90010, 400)
        client.say(action=DETACH, channel="channel 7")
        only_attach(client.attach("one more"))


class TestDetach:
    def test_stops_delivery_then_says_detached(self) -> None:
        client = Conversation()
        client.attach()
        _, effect = client.say(action=DETACH, channel="news")
        assert isinstance(effect, Detach)
        assert effect.attachment == 1
        assert effect.frame == {"action": 13, "channel": "news"}

    @pytest.mark.parametrize("name", ["news", "", "[meta]log"])
    def test_of_what_is_not_attached_says_detached_all_the_same(self, name: str) -> None:
        (effect,) = Conversation().say(action=DETACH, channel=name)
        assert isinstance(effect, Reply)
        assert effect.frame == {"action": 13, "channel": name}


class TestLostContinuity:
    def test_is_told_and_goes_on_live(self) -> None:
        client = Conversation(FakePlan(), FakePlan(serial="live"))
        client.attach("[?echo=false]news")
        (effect,) = client.session.lost(1, client.now_ms)
        attach = only_attach([effect])
        assert (attach.attachment, attach.spelling, attach.echo) == (1, "[?echo=false]news", False)
        assert (attach.frame["channelSerial"], attach.frame["flags"]) == ("live", GRANTED)
        assert attach.frame["params"] == {"echo": "false"}
        assert error_code(attach.frame) == (80020, 400)
        assert client.channels.asked[-1] == ("news", None, 0, 0)

    def test_that_skips_what_was_superseded_is_said_as_such(self) -> None:
        client = Conversation()
        client.attach()
        (effect,) = client.session.conflated(1, client.now_ms)
        assert isinstance(effect, Attach)
        assert error_code(effect.frame) == (90020, 404)
        assert not effect.frame["flags"] & Flag.RESUMED
        assert client.session.conflated(2, client.now_ms) == []
        client.session.closed()
        assert client.session.conflated(1, client.now_ms) == []

    def test_of_a_channel_left_meanwhile_is_nothing(self) -> None:
        client = Conversation()
        client.attach()
        client.say(action=DETACH, channel="news")
        assert client.session.lost(1, client.now_ms) == []

    def test_of_an_ended_connection_is_nothing(self) -> None:
        client = Conversation()
        client.attach()
        client.session.closed()
        assert client.session.lost(1, client.now_ms) == []


class TestAFrameWithoutAChannel:
    @pytest.mark.parametrize("action", [10, 12, 15])
    def test_ends_the_connection_with_an_error_that_names_no_channel(self, action: int) -> None:
        effects = Conversation().say(action=action, channel=None, msgSerial=0)
        frame = only_frame(effects)
        assert (frame["action"], error_code(frame)) == (9, (40000, 400))
        assert "channel" not in frame
        assert not only_close(effects).resumable
