"""Rules of a file on a running server with the embedded log: what reaches clients, and what becomes of the rest."""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fanout import Config, Message, Record, Server, Subscription
from fanout.callbacks import outcome
from fanout.errors import SourceError
from fanout.sources.base import Appended, NewRecord
from fanout.sources.embedded import EmbeddedSource

TOPIC = "orders"
Headers = Sequence[tuple[str, bytes | None]]
Written = tuple[bytes | None, bytes | None, Headers]
COUNTED = ("failed_", "records_un", "tombstones")


class Node:
    """A server with rules, and its log."""

    def __init__(self, directory: Path, rules: str) -> None:
        file = directory / "rules.toml"
        file.write_text(rules)
        self.source = EmbeddedSource(directory / "log")
        config = Config(port=0, data=directory / "data", rules=file)
        self.server = Server(config, source=self.source)

    async def write(self, key: bytes | None, value: bytes | None, headers: Headers = (), topic: str = TOPIC) -> int:
        """Writes a record and returns its offset."""
        record = NewRecord(topic, key, value, headers)
        written: asyncio.Future[list[Appended] | SourceError] = outcome(lambda done: self.source.append([record], done))
        result = await written
        assert not isinstance(result, SourceError)
        return result[0].offset


async def some(subscription: Subscription, count: int) -> list[Message]:
    """The next messages."""
    async with asyncio.timeout(10):
        return [await anext(subscription) for _ in range(count)]


async def until(condition: Callable[[], object]) -> None:
    """Waits until something is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  it is a counter's
            await asyncio.sleep(0.01)


def route(topic: str = TOPIC, **fields: Any) -> str:
    """One table of a file of rules."""
    said = {"topic": topic, **fields}
    return "\n".join(["[[route]]", *(f"{name} = {json.dumps(value)}" for name, value in said.items()), ""])


# Each is a rule's channel, what else it says, a record, and the counter that rises.
BAD = [
    ("#{key}", {}, (None, b"v", ()), "failed_key"),
    ("#{key}", {}, (b"\xff", b"v", ()), "failed_key"),
    ("#{key}", {}, (b"", b"v", ()), "failed_channel"),
    ("#{key}", {}, (b":x", b"v", ()), "failed_channel"),
    ("#{key}", {}, (b"x" * 2_000, b"v", ()), "failed_channel"),
    ("#{key}", {"key": "json"}, (b"{", b"v", ()), "failed_key"),
    ("#{key.id}", {}, (b'{"no":1}', b"v", ()), "failed_field"),
    ("#{header.room}", {}, (b"k", b"v", ()), "failed_header"),
    ("#{header.room}", {}, (b"k", b"v", (("room", None),)), "failed_header"),
    ("#{header.room}", {}, (b"k", b"v", (("room", b"\xff"),)), "failed_header"),
    ("#{value.id}", {}, (b"k", None, ()), "failed_value"),
    ("#{value.id}", {}, (b"k", b"", ()), "failed_value"),
    ("#{value.id}", {}, (b"k", b"no json", ()), "failed_value"),
    ("#{value.id}", {}, (b"k", b"\xff\xfe", ()), "failed_value"),
    ("#{value.id}", {}, (b"k", b'{"id":', ()), "failed_value"),
    ("#{value.id}", {}, (b"k", b"{}", ()), "failed_field"),
    ("#{value.id}", {}, (b"k", b'{"id":null}', ()), "failed_field"),
    ("#{value.id}", {}, (b"k", b'{"id":{}}', ()), "failed_field"),
    ("#{value.id}", {}, (b"k", b"[1]", ()), "failed_field"),
    ("#{value.ids[]}", {}, (b"k", b'{"ids":"a"}', ()), "failed_field"),
    ("#{value.ids[]}", {}, (b"k", b'{"ids":[]}', ()), "records_unrouted"),
    ("#{value.ids[]}", {}, (b"k", b'{"ids":[' + b",".join(b"%d" % n for n in range(65)) + b"]}", ()), "failed_channel"),
    ("c", {"name": "#{header.event}"}, (b"k", b"v", ()), "failed_header"),
    ("c", {"value": "text"}, (b"k", b"\xff", ()), "failed_value"),
    ("c", {"value": "json"}, (b"k", b"{", ()), "failed_value"),
    ("c", {"tombstone": "skip"}, (b"k", None, ()), "tombstones_skipped"),
    ("c-#{value.id}", {}, (b"k", b'{"x":"' + b"y" * 10_000_000 + b'"}', ()), "failed_field"),
]


@pytest.mark.parametrize(("channel", "more", "record", "counter"), BAD)
async def test_bad_input_is_counted_under_its_cause_and_the_stream_goes_on(
    channel: str,
    more: dict[str, Any],
    record: tuple[bytes | None, bytes | None, Headers],
    counter: str,
    tmp_path: Path,
) -> None:
    node = Node(tmp_path, route(channel=channel, **more) + route(topic="good", channel="good"))
    async with node.server as server:
        good = server.subscribe("good")
        before = server.stats()
        await node.write(*record)
        await node.write(b"k", b"behind", topic="good")
        assert [message.data for message in await some(good, 1)] == ["behind"]
        await until(lambda: server.stats()["records_in"] == before["records_in"] + 2)
        after = server.stats()
        risen = {name for name in after if name.startswith(COUNTED) and after[name] > before[name]}
        assert risen == {counter}
        assert after["messages"] == 1
        assert server.health().ok


async def test_a_record_of_ten_megabytes_is_delivered(tmp_path: Path) -> None:
    node = Node(tmp_path, route(channel="#{value.to}"))
    async with node.server as server:
        heard = server.subscribe("big")
        text = '{"to":"big","x":"' + "y" * 10_000_000 + '"}'
        await node.write(None, text.encode())
        assert (await some(heard, 1))[0].data == text


async def test_what_a_rule_says_of_a_message(tmp_path: Path) -> None:
    rules = route(
        topic="orders.*",
        channel="room:#{value.rooms[]}",
        name="#{topic}/#{header.event}",
        client_id="#{key.user}",
        value="json",
        expose=True,
    )
    node = Node(tmp_path, rules)
    value = b'{"rooms":["a","b"],"n":1}'
    async with node.server as server:
        first, second = server.subscribe("room:a"), server.subscribe("room:b")
        await node.write(b'{"user":"me"}', value, [("event", b"made")], topic="orders.eu")
        for subscription in (first, second):
            [message] = await some(subscription, 1)
            assert (message.name, message.client_id, message.data) == ("orders.eu/made", "me", value.decode())
            assert message.encoding == "json"
            assert message.extras == {
                "headers": {"event": "made", "key": '{"user":"me"}', "offset": 0, "partition": 0, "topic": "orders.eu"}
            }


async def test_a_tombstone_can_be_a_delete(tmp_path: Path) -> None:
    node = Node(tmp_path, route(channel="prices", name="#{key}", tombstone="delete"))
    async with node.server as server:
        heard = server.subscribe("prices")
        await node.write(b"eur", b"1.1")
        await node.write(b"eur", None)
        messages = await some(heard, 2)
        assert [(m.action, m.name, m.data) for m in messages] == [(0, "eur", "1.1"), (2, "eur", None)]
        assert messages[1].version is not None
        assert messages[1].version["serial"] == messages[1].serial


async def test_failing_records_become_dead_letters(tmp_path: Path) -> None:
    rules = route(channel="#{value.id}", on_failure="dead-letter", dead_letter="failed")
    node = Node(tmp_path, rules)
    async with node.server as server:
        heard = server.subscribe("good")
        await node.write(b"k", b"no json", [("h", b"x")])
        await node.write(b"k", b'{"id":"good"}')
        assert len(await some(heard, 1)) == 1
        letters: list[Record] = []
        async with asyncio.timeout(10):
            while not letters:
                await asyncio.sleep(0.1)
                letters = list((await node.source.read("failed", 0, 0, 10)).records)
        assert [(letter.key, letter.value) for letter in letters] == [(b"k", b"no json")]
        headers = dict(letters[0].headers or ())
        assert headers["h"] == b"x"
        assert headers["fanout.failed.topic"] == TOPIC.encode()
        assert headers["fanout.failed.offset"] == b"0"
        assert headers["fanout.failed.reason"] == b"its value is not JSON"
        assert server.health().ok
    again = Node(tmp_path, rules)
    async with again.server as server:
        await server.ready()
        await asyncio.sleep(2.5)  # longer than a dead letter waits for another node's
        assert len((await again.source.read("failed", 0, 0, 10)).records) == 1


async def test_a_rule_that_stops_makes_the_node_unready_and_another_rule_goes_on(tmp_path: Path) -> None:
    rules = route(channel="#{value.id}", on_failure="stop") + route(topic="other", channel="other")
    node = Node(tmp_path, rules)
    async with node.server as server:
        heard, other = server.subscribe("good"), server.subscribe("other")
        await node.write(b"k", b'{"id":"good"}')
        [last] = await some(heard, 1)
        await node.write(b"k", b"no json")
        await node.write(b"k", b'{"id":"good","n":2}')
        await until(lambda: not server.health().ok)
        assert "the rule for 'orders' has stopped at offset 1 of partition 0" in server.health().reason
        await node.write(b"k", b"v", topic="other")
        assert len(await some(other, 1)) == 1
        assert server.stats()["records_held_back"] == 1
    mended = Node(tmp_path, rules.replace("stop", "skip"))
    async with mended.server as server:
        await server.ready()
        heard = server.subscribe("good", since=last.position)
        assert [message.data for message in await some(heard, 1)] == ['{"id":"good","n":2}']
