"""A message on its way to the log: the record it becomes, and what becomes of a repeat."""

from collections.abc import Sequence

import pytest

from fanout._core import message_serial
from fanout.errors import ErrorInfo, SourceBusy, SourceError, SourceTimeout, SourceTooLarge
from fanout.publish import RECENT_MAX, WINDOW_S, Publisher
from fanout.sources.base import Appended, Done, NewRecord
from fanout.targets import Targets
from fanout.types import OutMessage
from tests.support.sources import NeverStarted

Result = list[str] | ErrorInfo


class Log(NeverStarted):
    """A source that confirms when the test says so. Every record goes to partition 3."""

    def __init__(self) -> None:
        self.records: list[NewRecord] = []
        self.waiting: list[tuple[Sequence[NewRecord], Done]] = []
        self.busy = False

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        if self.busy:
            raise SourceBusy("full")
        self.waiting.append((records, done))

    def confirm(self) -> None:
        waiting, self.waiting = self.waiting, []
        for records, done in waiting:
            places = []
            for record in records:
                places.append(Appended(record.topic, 3, len(self.records), 1_000))
                self.records.append(record)
            done(places)

    def refuse(self, problem: SourceError) -> None:
        waiting, self.waiting = self.waiting, []
        for _, done in waiting:
            done(problem)


class Seen:
    """What the node has read back."""

    def __init__(self) -> None:
        self.ids: dict[tuple[str, str], str] = {}

    def find(self, channel: str, message_id: str) -> str | None:
        return self.ids.get((channel, message_id))


class Bed:
    """A publisher between a log and a node's memory, both in the test's hands."""

    def __init__(self) -> None:
        self.log = Log()
        self.seen = Seen()
        self.now_s = 1_000.0
        self.publisher = Publisher(self.seen, self.log, Targets("out"), clock=lambda: self.now_s)

    def publish(self, channel: str, *ids: str) -> list[Result]:
        """Publishes messages of these ids; the list holds the answer once there is one."""
        answers: list[Result] = []
        self.publisher.publish(channel, [OutMessage(id=one, data="x") for one in ids], answers.append)
        return answers


@pytest.fixture
def bed() -> Bed:
    return Bed()


def serials(*offsets: int) -> list[str]:
    return [message_serial("out", 3, offset) for offset in offsets]


def record_of(bed: Bed, message: OutMessage) -> NewRecord:
    bed.publisher.publish("chat", [message], lambda _: None)
    bed.log.confirm()
    return bed.log.records[-1]


class TestRecord:
    def test_binary_payload_is_untouched(self, bed: Bed) -> None:
        record = record_of(bed, OutMessage(id="a", data=b"\xff\x00"))
        assert record.value == b"\xff\x00"
        assert dict(record.headers)["fanout.type"] == b"binary"

    def test_no_payload_is_a_null_value(self, bed: Bed) -> None:
        record = record_of(bed, OutMessage(id="a", data=None))
        assert record.value is None
        assert dict(record.headers)["fanout.type"] == b"none"

    def test_everything_else_is_in_headers(self, bed: Bed) -> None:
        record = record_of(
            bed,
            OutMessage(
                id="a",
                data="{}",
                name="greet",
                encoding="json",
                client_id="me",
                connection_id="c1",
                extras={"headers": {"k": 1}},
            ),
        )
        assert dict(record.headers) == {
            "fanout.id": b"a",
            "fanout.type": b"text",
            "fanout.name": b"greet",
            "fanout.encoding": b"json",
            "fanout.clientId": b"me",
            "fanout.connectionId": b"c1",
            "fanout.extras": b'{"headers":{"k":1}}',
        }

    def test_text_that_utf8_cannot_hold_is_refused_and_leaves_nothing_behind(self, bed: Bed) -> None:
        bad = [OutMessage(id="good", data="x"), OutMessage(id="bad", data="\ud800")]
        with pytest.raises(ValueError, match="surrogates"):
            bed.publisher.publish("chat", bad, lambda _: None)
        assert bed.log.waiting == []
        again = bed.publish("chat", "good")
        bed.log.confirm()
        assert again == [serials(0)]


class TestAnswer:
    def test_comes_only_after_the_log_has_all_messages(self, bed: Bed) -> None:
        answers = bed.publish("chat", "a", "b")
        assert answers == []
        bed.log.confirm()
        assert answers == [serials(0, 1)]

    @pytest.mark.parametrize(
        ("problem", "code"),
        [
            (SourceError("no"), 50000),
            (SourceTimeout("late"), 50003),
            (SourceBusy("full"), 42910),
            (SourceTooLarge("big"), 40009),
        ],
    )
    def test_failure_is_numbered_and_hides_what_the_log_said(self, bed: Bed, problem: SourceError, code: int) -> None:
        answers = bed.publish("chat", "a", "b")
        bed.log.refuse(problem)
        (info,) = answers
        assert isinstance(info, ErrorInfo)
        assert info.code == code
        assert str(problem) not in info.message.split()

    def test_full_log_is_answered_at_once_and_may_be_tried_again(self, bed: Bed) -> None:
        bed.log.busy = True
        (info,) = bed.publish("chat", "a")
        assert isinstance(info, ErrorInfo)
        assert (info.code, info.status) == (42910, 429)
        bed.log.busy = False
        again = bed.publish("chat", "a")
        bed.log.confirm()
        assert again == [serials(0)]

    def test_exception_itself_goes_to_callers_inside_the_process(self, bed: Bed) -> None:
        answers: list[list[str] | SourceError] = []
        bed.publisher.write("chat", [OutMessage(id="a", data="x")], answers.append)
        problem = SourceTimeout("late")
        bed.log.refuse(problem)
        assert answers == [problem]


class TestRepeat:
    def test_of_what_was_read_back_gets_the_first_serial_and_no_record(self, bed: Bed) -> None:
        bed.seen.ids["chat", "a"] = "first"
        assert bed.publish("chat", "a") == [["first"]]
        assert bed.log.waiting == []

    def test_of_what_is_confirmed_but_not_read_back_gets_the_first_serial(self, bed: Bed) -> None:
        bed.publish("chat", "a")
        bed.log.confirm()
        assert bed.publish("chat", "a") == [serials(0)]
        assert len(bed.log.records) == 1

    def test_of_what_is_being_written_waits_for_the_first_ones_answer(self, bed: Bed) -> None:
        first, second = bed.publish("chat", "a"), bed.publish("chat", "a")
        assert second == []
        bed.log.confirm()
        assert first == second == [serials(0)]
        assert len(bed.log.records) == 1

    @pytest.mark.parametrize("problem", [None, SourceError("gone")])
    def test_is_answered_also_if_the_first_cannot_be(
        self, bed: Bed, problem: SourceError | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_: Result) -> None:
            raise OverflowError("nobody is there")

        bed.publisher.publish("chat", [OutMessage(id="a", data="x")], fail)
        repeat = bed.publish("chat", "a")
        if problem is None:
            bed.log.confirm()
        else:
            bed.log.refuse(problem)
        assert len(repeat) == 1
        assert "nobody is there" in caplog.text

    def test_shares_the_first_ones_failure(self, bed: Bed) -> None:
        first, second = bed.publish("chat", "a"), bed.publish("chat", "a")
        bed.log.refuse(SourceTimeout("late"))
        assert first == second
        assert isinstance(first[0], ErrorInfo)

    def test_within_one_publish_is_one_record(self, bed: Bed) -> None:
        answers = bed.publish("chat", "a", "a")
        bed.log.confirm()
        assert answers == [serials(0, 0)]

    def test_and_new_messages_in_one_publish_are_answered_together(self, bed: Bed) -> None:
        bed.publish("chat", "a")
        bed.log.confirm()
        bed.publish("chat", "b")
        answers = bed.publish("chat", "a", "b", "c")
        assert answers == []
        bed.log.confirm()
        assert answers == [serials(0, 1, 2)]

    def test_is_answered_once_though_two_firsts_fail(self, bed: Bed) -> None:
        bed.publish("chat", "a")
        bed.publish("chat", "b")
        answers = bed.publish("chat", "a", "b")
        bed.log.refuse(SourceError("no"))
        assert len(answers) == 1

    def test_of_another_channel_is_none(self, bed: Bed) -> None:
        bed.publish("chat", "a")
        bed.publish("news", "a")
        bed.log.confirm()
        assert [record.key for record in bed.log.records] == [b"chat", b"news"]

    def test_is_one_for_the_window_of_the_readers_and_no_longer(self, bed: Bed) -> None:
        bed.publish("chat", "a")
        bed.now_s += 100  # the log takes its time
        bed.log.confirm()
        bed.now_s += WINDOW_S - 100
        assert bed.publish("chat", "a") == [serials(0)]
        bed.now_s += 1
        again = bed.publish("chat", "a")
        bed.log.confirm()
        assert again == [serials(1)], "written, not taken for a repeat"
        bed.now_s += WINDOW_S
        assert bed.publish("chat", "a") == [serials(1)]

    def test_is_none_after_its_own_window_though_an_older_answer_is_still_good(self, bed: Bed) -> None:
        bed.publish("chat", "slow")
        slow, bed.log.waiting = bed.log.waiting, []
        bed.now_s += 60
        bed.publish("chat", "quick")
        bed.log.confirm()
        bed.log.waiting = slow
        bed.log.confirm()
        bed.now_s += WINDOW_S - 59
        late = bed.publish("chat", "slow")
        bed.log.confirm()
        assert late == [serials(2)]

    def test_is_forgotten_after_the_window(self, bed: Bed) -> None:
        bed.publish("chat", *(f"{number}" for number in range(100)))
        bed.log.confirm()
        bed.now_s += WINDOW_S + 1
        bed.publish("chat", "other")
        assert len(bed.publisher._recent) == 0

    def test_memory_is_bounded(self, bed: Bed) -> None:
        for number in range(RECENT_MAX + 1):
            bed.publish("chat", str(number))
        bed.log.confirm()
        assert bed.publish("chat", "1") == [serials(1)]
        assert bed.publish("chat", "0") == []  # forgotten: by now the node has read it back


def test_counts_tell_published_repeated_and_failed(bed: Bed) -> None:
    bed.publish("chat", "a", "b")
    bed.log.confirm()
    bed.publish("chat", "a")
    bed.publish("chat", "c")
    bed.log.refuse(SourceError("no"))
    assert bed.publisher.counts == {"published": 2, "repeated": 1, "failed": 1}
