"""What the log says that subscribers must be given."""

from fanout._core import DEDUP_WINDOW_MS
from fanout.audit.expected import by_channel
from fanout.audit.views import Received
from fanout.types import Record
from tests.unit.audit.entries import expected, record


def plain(value: bytes | None, **fields: bytes) -> Record:
    return Record("t", 3, 7, 0, 0, b"c", value, [(name.replace("_", "."), given) for name, given in fields.items()])


class TestExpect:
    def test_messages_come_by_channel_in_the_order_of_the_log(self) -> None:
        found = expected([record(0), record(1, key="d"), record(2)])
        assert found.texts("c") == ["text 0", "text 2"]
        assert found.texts("d") == ["text 1"]
        assert found.texts("nobody's") == []

    def test_a_record_that_is_routed_nowhere_is_nobodys(self) -> None:
        assert expected([record(0, key="")]).channels == {}

    def test_a_repeat_is_the_second_record_with_an_id_in_a_channel(self) -> None:
        repeat = record(2, message_id="id0", timestamp=DEDUP_WINDOW_MS)
        found = expected([record(0), record(1, message_id="id0", key="d"), repeat])
        assert found.texts("c") == ["text 0"]
        assert found.texts("d") == ["text 1"]
        assert found.repeated == [repeat]

    def test_past_the_window_an_id_is_a_new_messages(self) -> None:
        later = record(1, message_id="id0", timestamp=DEDUP_WINDOW_MS + 1)
        last = record(2, message_id="id0", timestamp=DEDUP_WINDOW_MS + 2)
        found = expected([record(0), later, last])
        assert found.texts("c") == ["text 0", "text 1"]
        assert found.repeated == [last]

    def test_a_plain_records_id_is_its_place(self) -> None:
        assert expected([plain(b"x")]).channels["c"][0].message == Received("t:3:7", "x")

    def test_payloads_are_text_and_bytes_are_hex(self) -> None:
        messages = [
            expected([one]).channels["c"][0].message.text
            for one in (plain(b"ab", fanout_type=b"binary"), plain(b"\xff\x00"), plain(None), plain(b"ab"))
        ]
        assert messages == ["6162", "ff00", "", "ab"]


class TestByChannel:
    def test_the_key_is_the_channel_unless_a_header_names_it(self) -> None:
        route = by_channel("run:")
        assert route(record(0, key="run:1")) == "run:1"
        assert route(record(0, key="other", fanout_channel=b"run:2")) == "run:2"

    def test_what_others_publish_is_left_alone(self) -> None:
        route = by_channel("run:")
        assert route(record(0, key="chat:1")) is None
        assert route(record(0, key="run:1", fanout_channel=b"chat:1")) is None
        assert route(record(0, key="run:1")._replace(key=b"\xff")) is None
