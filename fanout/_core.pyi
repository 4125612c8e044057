"""The bridge to the native engine: handles, ownership, error translation; no policy.

Threads: `records`, `partition` and `progress` belong to one thread at a time (the source's); everything else belongs to
the event loop that made the engine. Bytes that are handed in are copied; those that come out are the caller's.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, final

from fanout.packets import Ack, Connack, Disconnect, Packet, Ping, Publish, Suback, Unsuback
from fanout.rules.route import Rule
from fanout.types import Annotation, Message, PresenceMessage

__all__ = [
    "AHEAD",
    "CONFLATED",
    "DEDUP_WINDOW_MS",
    "FOREIGN",
    "FRESH",
    "GAP",
    "JSON",
    "KIND_ANNOTATIONS",
    "KIND_MESSAGES",
    "KIND_META",
    "KIND_OWN_PRESENCE",
    "KIND_PRESENCE",
    "KIND_PUBLISH",
    "KIND_WHOLE_APPENDS",
    "MQTT",
    "MQTT_FRAMED",
    "MQTT_V5",
    "MSGPACK",
    "PARTIAL",
    "RESUMED",
    "UNREAD",
    "Checkpoints",
    "Cursor",
    "Engine",
    "Filter",
    "Mqtt",
    "MqttReader",
    "Plan",
    "Replay",
    "give_way",
    "headers_of",
    "message_serial",
    "mqtt_encode",
    "set_prompt",
    "summary_shown",
]

JSON: Final = 0
MSGPACK: Final = 1
MQTT: Final = 16  # 3.1.1
MQTT_V5: Final = 1  # added: 5.0
MQTT_FRAMED: Final = 2  # added: in WebSocket binary frames

DEDUP_WINDOW_MS: Final[int]
"""A record with the id of an earlier one is its repeat this long after it, by their timestamps."""

# Outcomes of `locate`.
FRESH: Final = 0  # no position was given: live, or rewound
RESUMED: Final = 1  # continues exactly after the given position
GAP: Final = 2  # messages after the position are no longer held: continues with the earliest that is
FOREIGN: Final = 3  # not a position of this channel in this log: live
AHEAD: Final = 4  # the position is beyond what this node has read so far: ask again in a moment
CONFLATED: Final = 5  # goes on with the newest message of each key: what was superseded meanwhile is left out
PARTIAL: Final = 6  # no position was given, and for some of the newest messages of keys there was no room
UNREAD: Final = 7  # the position names a checkpoint that has to be read back before anything is known: live

# Kinds of entries that an attachment is given; the sum of those that it wants.
KIND_MESSAGES: Final = 1
KIND_PRESENCE: Final = 2
KIND_ANNOTATIONS: Final = 4
KIND_META: Final = 8
KIND_OWN_PRESENCE: Final = 16  # of presence, that of the receiver's own connection
KIND_PUBLISH: Final = 32  # no kind: the attachment may publish, and is counted among publishers
KIND_WHOLE_APPENDS: Final = 64  # no kind: the attachment is given appends as updates with the whole message

@final
class Filter:
    """Which messages of a channel a client wants; made by `Engine.filter`, for any number of attachments."""

@final
class Mqtt:
    """How an attachment of an MQTT connection is given messages; for one attachment, or several alike.

    `qos` is 0 or 1. `subscription_id`, if not 0, goes into each packet (5.0). With `retain_as_published` RETAIN is set
    where `extras.mqtt.retain` is true. With `kept` the connection's `standing` tells of it also if it has QoS 0: so it
    costs a lock for each frame. With QoS 1 what lies below the position `dup_until` has DUP set.
    ValueError for numbers that are out of range.
    """

    def __new__(
        cls,
        *,
        qos: int = ...,
        subscription_id: int = ...,
        retain_as_published: bool = ...,
        kept: bool = ...,
        dup_until: str | None = ...,
    ) -> Mqtt: ...

@final
class Plan:
    """Where an attachment will start; made by `Engine.locate`, used once by `Engine.attach`."""

    @property
    def outcome(self) -> int: ...
    @property
    def serial(self) -> str:
        """The position to put into ATTACHED: the client's own if a backlog follows a resume, the current one else."""
    @property
    def first(self) -> str:
        """The position of who was given nothing yet: of one that is rewound, before the first message of that."""
    @property
    def backlog(self) -> int:
        """Messages that will follow before live ones."""
    @property
    def has_presence(self) -> bool:
        """Whether somebody is present on the channel, at the moment of which `serial` speaks."""

@final
class Replay:
    """What the log holds of a channel behind some places, for attachments that memory does not reach back to; made by
    `Engine.replay`. A plan of its `locate` attaches them. It holds what it is fed until that is dropped.
    """

    @property
    def id(self) -> int:
        """By which "replayed" events name it."""
    @property
    def attachments(self) -> int:
        """How many are on it."""
    @property
    def answers(self) -> tuple[int, int]:
        """Since the last `ask`: how many have said that they stand at the end, and how many cannot go on live yet,
        since memory has forgotten what comes next.
        """
    @property
    def bytes(self) -> int:
        """What it holds, with what was made of that for sharing."""
    def locate(self, serial: str) -> Plan:
        """Where a position lies in it: RESUMED, also ahead of what it has read; GAP before its beginning, or in what it
        has dropped; FOREIGN.
        """
    def advance(self, topic: str, partition: int, next: int) -> None:  # noqa: A002  the contract's word
        """The partition was read up to here, though no record may be left to show it. ValueError if it is not read."""
    def wanted(self, margin: int) -> list[tuple[str, int, int, int]] | None:
        """Topic, partition, and the offsets from and up to which are to be read before its attachments can go on live;
        `margin` offsets are added where there are as many. None if it cannot go on: a topic was made anew.
        """
    def ask(self, hands_over: bool) -> None:
        """Asks all that stand at the end to say so, until it is fed or asked again; with `hands_over` to go on live
        instead, wherever memory holds what comes next. "replayed" events tell of the answers.
        """
    def drop_to(self, bytes: int) -> None:  # noqa: A002  the contract's word
        """Drops the oldest of what it holds until it has no more than so many bytes. Who was not given it is left."""
    def end(self) -> None:
        """Drops all; attachments that are still on it are left. Idempotent."""

@final
class Checkpoints:
    """The checkpoints of an engine; made by `Engine.checkpoints`. See `fanout.checkpoints`."""

    def next(self) -> bytes | None:
        """Lets positions refer to the newest checkpoint that they can refer to, and returns what the next one is to
        say; None while that is not due. To be called some times a second; takes 0.1 ms with 1,000 partitions.
        """
    def whole(self, channel: str, position: str) -> str | int:
        """The position in a form that needs no checkpoint, or the number of the checkpoint that has to be read back
        first. LookupError for one that is yet to be read, ValueError if it is no position of the channel in this log.
        """
    def recall(self, number: int, epoch: int, value: bytes) -> None:
        """Takes a record of their topic that was read back; `number` is its offset. It is kept for a while."""

@final
class Cursor:
    """A subscriber inside this process. It holds nothing but its place in the channel, or in a replay of it."""

    @property
    def outcome(self) -> int: ...
    @property
    def serial(self) -> str:
        """The position at which it began."""
    @property
    def replay(self) -> int:
        """The id of the replay that it is on, which is to be told of each `take`; 0 if it is live."""
    def take(self, limit: int) -> list[Message]:
        """The next messages, at most `limit`, oldest first; empty when none wait. At the end of a replay that asks for
        it, it goes on live.

        Raises `LookupError` once when messages were dropped before they were taken; the next call goes on with the
        earliest held, and of a replay with nothing.
        """
    def close(self) -> None: ...

@final
class Engine:
    """Channels, rings, attachments and the threads that write to sockets. See ARCHITECTURE.md."""

    def __init__(
        self,
        *,
        io_threads: int = 1,
        history_ms: int = 120_000,
        secret: bytes,
        max_idle_ms: int = 15_000,
        history_bytes: int = 512 << 20,
    ) -> None:
        """`io_threads=0`: the same shards run on the loop; call `run_shards` when `shard_fd` is readable.
        `secret` has at least 16 bytes; all nodes of one log share it. Raises ValueError for what is out of range.
        """

    # -- what the source delivers (Sink) --
    def rules(self, rules: Sequence[Rule]) -> None:
        """In order; the first whose topic matches counts. ValueError names a bad template. To be called before the
        first `partition`.
        """
    def failures(
        self, take: Callable[[Sequence[Any], Sequence[tuple[tuple[str, int, int], int, str, str]]], None]
    ) -> None:
        """`take` hears of records of a batch that failed their rules, on the source's thread: of rules that only count
        them, the first of each cause. Each is told by topic, partition and offset, the rule's number, cause and reason.
        It must not raise. To be called before the first record.
        """
    def router(self, route: Callable[[Any], tuple[str, ...]] | None) -> None:
        """A Python callable in the place of the rules: record -> channels, none to skip. It is called on the
        source's thread, by `decode` on the caller's, and must not raise (`fanout.routing.guarded`); an impossible name
        is counted and skipped.
        """
    def facts(self, topic: str, take: Callable[[list[tuple[bytes | None, bytes | None]]], None]) -> None:
        """Keys and values of that topic's records go to `take`, on the source's thread, and no further; it must not
        raise. To be called before the first record, for each such topic.
        """
    def dead_letters(self, topics: Sequence[str], take: Callable[[Sequence[Any]], None]) -> None:
        """Records of those topics go to `take`, on the source's thread, and no further; it must not raise. To be called
        before the first `partition`.
        """
    def presence_topic(self, topic: str) -> None:
        """The records of that topic make the presence sets, and positions do not speak of it. Those written more than a
        history window ago change the sets, and are no news to anybody. To be called before its first `partition`.
        """
    def topic(self, topic: str, topic_id: bytes, partitions: int, /) -> None:
        """The topic has so many partitions: where a rule names the partitioner, that of a channel is known then.

        To be called before the topic's first `partition`, and again when there are more.
        """
    def read_since(self, topic: str, topic_id: bytes, since: Sequence[int], /) -> None:
        """From these offsets on, by number, the topic's partitions are read for clients: who comes back with a position
        from before there was a rule for it goes on from there. From any thread.
        """
    def needed(self) -> list[tuple[str, int]]:
        """The same of all channels that somebody is attached or subscribed to. From any thread; lets go of the lock."""
    def partitions_of(self, channel: str, /) -> list[tuple[str, int]]:
        """Topic and number of each partition that is known to be this channel's, read or not. From any thread."""
    def partition(self, topic: str, topic_id: bytes, partition: int, start: int, /) -> None: ...
    def let_go(self, topic: str, partition: int, /) -> None:
        """The partition is read no more. Its channels stand where they are until `partition` is said of it again; then
        memory drops all that it has of it, and nobody may be attached to one.
        """
    def gone(self, topic: str, /) -> None:
        """The topic is no more: what positions say of it is not to be had here, and no new one speaks of it, until
        `partition` is said of it again.
        """
    def records(self, batch: Sequence[Any], /) -> None: ...
    def progress(self, topic: str, partition: int, next_offset: int, /) -> None: ...

    # -- connections --
    def register(self, fd: int, wire: int, connection_id: str, heartbeat_frames: bool) -> int:
        """Takes over the outgoing side of a connected, non-blocking socket; returns the connection's handle (> 0).
        The engine never closes `fd`. `heartbeat_frames`: idle time is filled with HEARTBEAT frames, not pings alone.
        `wire` is JSON, MSGPACK, or of streams 2 (events) or 3 (lines), 4 more if bare, 8 more for several channels:
        then nothing is given before an attachment came with a reply that is not empty, which is the last one's; or MQTT
        with what is added to it. An MQTT connection gets no heartbeats, and is not cut off for its silence.
        """
    def register_pipe(self, wire: int, connection_id: str, heartbeat_frames: bool) -> int:
        """Makes a connection whose outgoing bytes the loop writes itself; returns its handle. What it would be written
        as a socket, WebSocket frames, waits for `take`, 64 KiB at most; its attachments stay where they are meanwhile.
        """
    def take(self, connection: int, limit: int) -> bytes | None:
        """The oldest bytes of a pipe, at most `limit`; empty when none wait; None when nothing will come any more. To
        be called after a "write" event until it returns no bytes: only then is there another event.
        """
    def unregister(self, connection: int) -> None:
        """The socket is about to be closed. After this returns `fd` is never touched again. Unknown is ignored."""
    def send(self, connection: int, payload: bytes, opcode: int = 0) -> None:
        """Queues one WebSocket message, HTTP chunk or MQTT packet, in order with everything else. `opcode` 0 stands for
        the connection's wire's (1 text, 2 binary; 9 ping, 10 pong).
        """
    def finish(self, connection: int, code: int = ..., reason: str = ...) -> None:
        """Queues a CLOSE frame, but not for bare MQTT; when all is written the engine shuts the socket down. The
        loop then sees its end.
        """
    def abort(self, connection: int) -> None:
        """Shuts the socket down at once."""
    def heard(self, connection: int) -> None:
        """The peer has sent something: it is alive."""
    def window(self, connection: int, receive_maximum: int, packet_max: int) -> None:
        """What an MQTT client takes (5.0 §3.1.2.11): so many messages with QoS 1 before it acknowledges one, 1,024 at
        most, 64 if it says nothing or, which is the same, 65,535; and packets of so many bytes, 0 for any. What is
        larger it is not given.
        """
    def packet_id(self, connection: int) -> int:
        """Takes a place in an MQTT connection's window, for a message with QoS 1 that the loop sends itself: its packet
        id, or 0 if the window is full: then nothing is delivered with QoS 1 before `window_free`. `acked` gives the
        place back.
        """
    def window_free(self, connection: int) -> None:
        """The loop has sent all messages that `packet_id` had no place for."""
    def acked(self, connection: int, packet_id: int) -> None:
        """An MQTT client has acknowledged a message. An id that is not under way is counted and ignored."""
    def standing(self, connection: int, attachment: int | None = ...) -> list[tuple[int, str, str | None]]:
        """Where an MQTT client goes on if it comes back: for each attachment with QoS 1, and each that is `kept`, or
        for that one alone: its number, the position behind what is acknowledged (QoS 0: was given), and the one behind
        what was given, if that is another: `Mqtt.dup_until` then. Exact until `unregister`, also for one that was
        stopped. Some us for each.
        """

    # -- attachments --
    def locate(self, channel: str, serial: str | None, rewind_count: int, rewind_ms: int, now_ms: int, /) -> Plan:
        """Finds where an attachment starts. Without a serial: at the earliest held message that is among the last
        `rewind_count` (100 at most) and not older than `rewind_ms`; 0 = no such limit, both 0 = live. ValueError for an
        empty or endless name.
        """
    def filter(self, expression: str, /) -> Filter:
        """Compiles a JMESPath expression over a message's `name` and `headers`, once for all who use it. ValueError,
        fit for the client, for one that is none, too long, or of a kind that is not offered.
        """
    def attach(
        self,
        connection: int,
        attachment: int,
        plan: Plan,
        spelling: str,
        kinds: int,
        echo: bool,
        reply: bytes,
        *,
        delta: bool = ...,
        filter: Filter | None = ...,  # noqa: A002  the protocol's word
        mqtt: Mqtt | None = ...,
    ) -> None:
        """Queues `reply` (a whole ATTACHED payload), then delivers from the plan's place on. Replaces the attachment of
        the same number. `attachment` is the session's own number, unique on its connection. `spelling` is the channel's
        name as the client wrote it, put into every frame. `kinds` is the sum of the `KIND_*` that are delivered;
        ValueError for bits without meaning. With `KIND_PRESENCE` and a plan that has presence, SYNC pages follow: the
        last has an empty cursor. `echo`: whether the connection's own messages are among them. `delta`: whether
        payloads are given as deltas where there are some (RFC 3284). `filter`: which messages are given, if not all.
        `mqtt`: how they are on an MQTT connection, if not with QoS 0 alone; `spelling` is the topic there, and `reply`
        any packets.
        """
    def regrant(self, connection: int, attachment: int, plan: Plan, spelling: str, kinds: int, echo: bool) -> None:
        """Changes what an attachment is given and leaves it where it is, without a word to the client. The plan counts
        for one that was given nothing; an attachment that is not there is let be. ValueError as for `attach`.
        """
    def hold(self, connection: int, attachment: int, place: str) -> None:
        """Has every event of a stream of several channels say that an attachment stands at this position, which is yet
        to begin. To be called for all of them, in their order, before any of them is attached.
        """
    def sync(self, connection: int, attachment: int) -> None:
        """Gives an attachment the presence set once more, from the beginning, in place of a giving under way. Does
        nothing for an attachment that is not given presence.
        """
    def detach(self, connection: int, attachment: int, reply: bytes | None) -> None: ...

    # -- events for the loop --
    @property
    def event_fd(self) -> int:
        """Readable when `events()` has something."""
    def events(self) -> list[tuple[str, int, int]]:
        """Takes what happened: ("lost", connection, attachment): continuity was lost, deliveries stopped until the next
        `attach`; ("left", connection, attachment): a replay did not wait for it, deliveries stopped likewise;
        ("replayed", replay id, 0): see `Replay.ask`;
        ("evicted", connection, cause): the engine shut the socket down (cause: 1 control queue full, 2 peer
        dead); ("write", connection, 0): a pipe has bytes to `take`, or has ended; ("wake", cursor id, 0): a Cursor has
        messages waiting; ("births", 0, 0): see `born`.
        """
    def lost_at(self, connection: int, attachment: int) -> str | None:
        """The position of an attachment that is lost by the `events()` taken last: behind all that it was given. None
        if that is not known.
        """
    @property
    def shard_fd(self) -> int:
        """With `io_threads=0`: readable when `run_shards` has work; -1 else."""
    def run_shards(self) -> None: ...

    # -- questions --
    def find(self, channel: str, message_id: str) -> str | None:
        """The serial of the message with this id, if the de-duplication window holds it."""
    def places(self, channel: str, position: str | None) -> list[tuple[str, int, int]]:
        """Topic, partition and next offset of a position; without one, of how far this node has read. ValueError for
        what is no position of this channel in this log.
        """
    def unheld(self, channel: str, position: str) -> list[tuple[str, int]]:
        """Topic and number of the partitions in which memory does not hold all of the channel from its place in the
        position on. ValueError for what is no position of this channel in this log.
        """
    def entry(self, topic: str, partition: int) -> tuple[int, int, int]:
        """The entry that stands for a partition: its number, where its reading began, how far it was read. One of the
        first two is another as soon as the topic is known to be made anew, the log to have been cut, something to have
        been lost, or the partition is read again after it was let go. ValueError for a partition that is not read.
        """
    def doubts(self, channel: str, position: str) -> list[tuple[str, int, int, int]]:
        """The places of a position of which the records that this node has read do not tell whether the log was cut
        there since, each with the newest leader epoch that was below it; none for what is no position. `saw` settles
        them.
        """
    def saw(self, topic: str, partition: int, epoch: int, first: int, until: int) -> None:
        """A record of that leader epoch lies at `first`, and none of a newer one below `until`. Any thread."""
    def position_at(self, channel: str, places: Sequence[tuple[str, int, int]]) -> str:
        """The position of these places. ValueError for partitions that are not read."""
    def held(
        self,
        channel: str,
        places: Sequence[tuple[str, int, int]],
        start_ms: int,
        end_ms: int,
        forwards: bool,
        limits: tuple[int, int],
    ) -> tuple[list[Message], list[int], list[int], bool]:
        """The messages in memory from these places on or, backwards, before them, which lie within the times; for each
        place, the one to go on from; for each, its floor, from which on memory holds all of the channel; whether it
        holds more than `limits`: messages, and bytes of what they say, but one message in any case. Forwards, there
        are none while a place lies below its floor.
        """
    def blocks(self, channel: str, topic: str, partition: int, start: int, stop: int) -> list[tuple[int, int]]:
        """The ranges of offsets within `start` to `stop` that may hold the channel, in order and apart: what this node
        has not read, or its index has given up, may hold any. Any thread. A million offsets take 0.05 to 0.4 ms; what
        lies behind four million records is not looked at, and may. ValueError for a partition that is not read.
        """
    def decode(self, channel: str, records: Sequence[Any]) -> list[Message | None]:
        """What each of these records, read back from the log, is to the channel: a message, or nothing. A repeat is
        nothing if its first is among them.
        """
    def channels_of(self, records: Sequence[Any]) -> dict[str, list[int]]:
        """By channel, the numbers of those of these records, read back from the log, that may be messages of it."""
    def replay(self, channel: str, places: Sequence[tuple[str, int, int]]) -> Replay:
        """A replay of the channel from these places on. ValueError for partitions that are not read."""
    def feed(self, replay: Replay, records: Sequence[Any], *, ids_only: bool = ..., clock_ms: int) -> None:
        """Gives a replay records that were read back, in the order of each partition. With `ids_only` they are from
        before its beginning, and say which of those behind it are repeats. `clock_ms`: all its partitions have been
        read up to there, by their records' timestamps.
        """
    def presence_history(
        self, channel: str, start_ms: int, end_ms: int, forwards: bool, limit: int, cursor: str | None
    ) -> tuple[list[PresenceMessage], str | None]:
        """A page of the presence events that are held, 1000 at most, and the cursor of the next page. ValueError for a
        foreign cursor.
        """
    def members(
        self, channel: str, client_id: str | None, connection_id: str | None, cursor: str | None, limit: int
    ) -> tuple[list[PresenceMessage], str | None]:
        """A page of those present (action 1), in the order of connection and client ids, 1000 at most; only those of
        the client or connection, if one is given. The cursor of the next page comes with it: a page looks at 10,000
        members at most, so it may be empty and not the last. ValueError for what is no cursor.
        """
    def member(self, channel: str, connection_id: str, client_id: str, /) -> tuple[str, str, int] | None:
        """The id of a member's last event (empty if clients could not read it), the node that answers for it, and the
        generation of its connection; None if it is not there.
        """
    def presence_size(self, channel: str, /) -> tuple[int, int]:
        """Members of a channel, and the bytes of their client ids, data and extras."""
    def presence_nodes(self) -> dict[str, int]:
        """How many members each node answers for, by what their records say in `fanout.node`."""
    def members_of(self, node: str, limit: int, /) -> list[tuple[str, str, str]]:
        """Some of a node's members, at most so many: channel, connection id and client id of each."""
    def message(self, channel: str, serial: str) -> tuple[int, Message | None, int, str | None, int]:
        """What is known of a message: outcome (0 known, 1 its record is yet to be read here, 2 unknown); the message as
        it is now, None if only its annotations are known; when the newest record with the whole of it was written; the
        state of its summary (see `summary_shown`), None if not all annotations are known; and when the newest record
        was written from which on that can be told.
        """
    def versions(self, channel: str, serial: str) -> list[Message]:
        """The message as it was published, and each update and delete, as far as they are held; oldest first."""
    def annotations(self, channel: str, serial: str) -> list[Annotation]:
        """The annotations of a message that are held, oldest first."""
    def cursor(self, channel: str, since: str | None, cursor_id: int) -> Cursor: ...
    def cursor_at(self, plan: Plan, cursor_id: int) -> Cursor:
        """One that begins where a plan says. ValueError for a plan that was used."""
    def position(self, channel: str) -> str:
        """Where the channel stands now."""
    def occupancy(self, channel: str) -> dict[str, int]:
        """Attachments on this node by what they may do: `connections` (all), `publishers` (`KIND_PUBLISH`),
        `subscribers`, `presenceConnections` (`KIND_OWN_PRESENCE`), `presenceSubscribers`, `watchers` (`KIND_META`);
        `presenceMembers` of all nodes; `messages` held in memory.
        """
    def checkpoints(self, topic: str) -> Checkpoints:
        """The records of that topic are checkpoints, and positions do not speak of it. To be called once, before its
        first `partition`.
        """
    def inject(self, channel: str, name: str, data: str) -> None:
        """Says something to the attachments on this node that have `KIND_META`, in no log: a message of that name with
        the JSON text `data`. Nothing, if there is none.
        """
    def names(self, realm: str, prefix: str, after: str, limit: int, *, known: bool = ...) -> list[str]:
        """The channels in use on this node that `realm` stands before, and no other, whose names behind it begin with
        `prefix` and stand behind `after`, in order, the first `limit`; with `known` those too that hold nothing now and
        are not forgotten yet. Any thread; 5 ms with 100,000 channels.
        """
    def watch_births(self, watched: bool) -> None:
        """Whether channels that begin are noted. What was noted is forgotten."""
    def born(self) -> list[str] | None:
        """The names of channels that began since the last call: that hold messages and held none before, perhaps one
        twice. None if more began than are kept, 65,536: `names` tells which there are. A "births" event says when
        to ask. With the `places` from before the last call, what a channel began with lies behind
        `position_at(name, places)`.
        """
    def stats(self) -> dict[str, int]:
        """Counters and gauges, by name."""
    def close(self) -> None:
        """Stops the threads. Idempotent."""

@final
class MqttReader:
    """One MQTT client's packets, cut from what it sends and checked. Belongs to the event loop."""

    def __new__(cls, limit: int) -> MqttReader:
        """Packets have at most `limit` bytes."""
    @property
    def held(self) -> int:
        """Bytes that wait: what was not taken, and a packet that is not whole."""
    @property
    def version(self) -> int:
        """4 or 5 once the head of CONNECT was read, whatever is wrong with the rest; 0 before."""
    def set_limit(self, limit: int) -> None:
        """Packets may have so many bytes from now on."""
    def feed(self, data: bytes) -> None:
        """Takes what came, in whatever pieces. Dropped after a fault."""
    def take(self) -> Packet | None:
        """The next packet; None if it is not whole yet. A `Fault` is the last."""

def mqtt_encode(
    packet: Connack | Suback | Unsuback | Ack | Publish | Ping | Disconnect,
    version: int,
    text: str | None = None,
    reference: str | None = None,
) -> bytes:
    """The bytes of a server's packet. `version` is 4 or 5; with 4, reason codes are return codes, and DISCONNECT is
    nothing. `text` says to people why, `reference` where else to go (MQTT 5.0 §4.11). ValueError for what cannot be
    said.
    """

def give_way() -> None:
    """Offers the interpreter and the core to whoever waits for them. Any thread."""

def headers_of(message: Any) -> Sequence[tuple[str, bytes | None]] | None:
    """The headers of a confluent-kafka `Message`; None if there are none, or one has a name that is not UTF-8."""

def message_serial(topic: str, partition: int, offset: int) -> str:
    """The serial of the message at these coordinates; rises with the offset within a partition."""

def set_prompt(prompt: bool) -> None:
    """Has the calling thread, and those that it starts from now on, run soon after they wake; or as others do again.

    Does nothing where the kernel knows no such thing (before Linux 6.12), or the thread is not scheduled as most are.
    """

def summary_shown(state: str, client_id: str | None) -> str | None:
    """The JSON that shows what annotations come to: of each name the first clients, or `client_id` alone if it is among
    them. None if `state` is none.
    """
