"""The contract of a source: where a node reads its records, and where it writes them.

What a source promises, whatever log is behind it (one suite of tests asks each implementation the same questions):

- **Order.** Records of one partition reach the sink in the order of their offsets, each exactly once. Offsets rise but
  need not be dense. Nothing is promised between partitions.
- **Start.** Before the first record of a partition the sink learns of it (`Sink.partition`) with the offset at which
  reading begins. Reading begins where the log stood `history_ms` ago, and nothing older is delivered.
- **Topics.** Before the first partition of a topic the sink learns how many it has (`Sink.topic`), and again when there
  are more, before the first of those. When a topic is deleted it hears of that (`Sink.gone`), once that has stood for
  some seconds; if the topic is there again, all of this is said again.
- **On demand.** Of a topic that is read on demand no partition is read before `read_partition` asks for it. Then it
  begins where the log stood `history_ms` ago, or at its own beginning; and when what the log held at that moment has
  been delivered, the sink hears of it (`Sink.caught_up`). What is asked for while the log is away is read when it is
  back. `let_go` ends that; when nothing more of it comes, the sink hears of that too (`Sink.let_go`), and then it may
  be asked for anew.
- **Patterns.** A topic to read that begins with `^` is a regular expression, matched from the beginning of names. What
  it matches is read like what is named, within seconds also a topic that appears later, that from its beginning; but
  none is made for it, none is missed when it goes, and topics of state are never meant.
- **State.** A topic of state tells what is so, key by key: of each key the newest record counts, and one without a
  value takes the key back. It is read from its beginning whatever the history window. Of what is older than that window
  the log keeps the newest of each key, so that reading it whole stays short; a record without a key is refused.
- **Ready.** `Sink.ready` is called once, when everything that the log held at the start has been delivered, that of
  topics of state included. A partition of another topic that cannot be read then (`Health.held`) is not waited for.
- **Progress.** The sink is told how far a partition has been read also where no record is left to deliver
  (transaction markers, compacted tails): `Sink.progress`.
- **Append.** `append` writes records next to each other and in the order of the calls, per partition. `done` hears of
  it once, on the loop: the coordinates, after the log has them durably; or the error. A record that was appended is
  read back like any other: there is no second path to the subscribers.
- **Reading back.** `read` gives what the log holds of a range of offsets, below those that were delivered too; `bounds`
  and `since` tell which there are. It takes nothing from what is delivered meanwhile. At most `LIMITS.reads` wait; past
  that it raises SourceBusy. One that takes 10 s ends with SourceTimeout. A partition that does not answer holds up who
  asks for it, and nobody else.
- **Bounds.** At most `LIMITS.append_records` records of `LIMITS.append_bytes` wait to be appended; past that `append`
  raises `SourceBusy` and takes nothing.
- **Threads.** `start`, `append`, `read_partition`, `let_go`, `read`, `bounds`, `since`, `health`, `lag`, `stop` belong
  to the loop. The sink is called from threads of the source's own, never from two at once, and must not raise.
- **Failure.** When the log is away the source keeps trying; `health()` says no and why, and reading goes on by itself
  once the log is back. A partition of which alone nothing can be read is named by `Health.held`. One whose position is
  lost, or whose topic was made anew, is told to the sink by `Sink.partition` again, with the new start. Below what was
  delivered, of the same topic, it is where the log was cut: what was delivered from there on is no more, and other
  records have these offsets.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from fanout.errors import SourceError
from fanout.types import Record

__all__ = [
    "LIMITS",
    "Appended",
    "Appends",
    "Done",
    "Health",
    "Held",
    "Limits",
    "NewRecord",
    "Record",
    "Sink",
    "Slice",
    "Source",
]


class NewRecord(NamedTuple):
    """One record to write. The log chooses the partition by the key and the offset."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]

    @property
    def size(self) -> int:
        """Bytes of key, value and headers."""
        headers = sum(len(name) + len(content or b"") for name, content in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


class Appended(NamedTuple):
    """Where the log put a record. `timestamp` is in ms."""

    topic: str
    partition: int
    offset: int
    timestamp: int


Done = Callable[["list[Appended] | SourceError"], None]


class Appends(Protocol):
    """What takes records to write: a source, or what stands before it."""

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        """See `Source.append`."""


class Slice(NamedTuple):
    """Records of one range of offsets, in their order: those, and no others, below `next` that the log still holds.

    They are `Record`s or confluent-kafka `Message`s.
    """

    records: Sequence[Any]
    next: int


class Held(NamedTuple):
    """A partition that stands still though the log answers: for how many seconds, and why, in words for people."""

    seconds: float
    reason: str


class Health(NamedTuple):
    """Whether the log answers; `reason` is one line for people, empty when all is well: what is damaged is told though
    the log answers.

    `held` are the partitions, by topic and number, of which nothing can be read now: their channels stand still, all
    others go on.
    """

    ok: bool
    reason: str
    held: Mapping[tuple[str, int], Held] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of every source."""

    append_records: int = 20_000  # waiting to be confirmed; a second's worth at the rate one node publishes
    append_bytes: int = 64 << 20  # of keys, values and headers waiting to be confirmed; 20,000 records of 3 KiB
    read_batch: int = 1_000  # records handed to the sink at once: 1 ms of the reading thread with 100 bytes each
    slice_records: int = 1_000  # read back at once
    slice_bytes: int = 4 << 20  # of values read back at once, that of the record which reaches it included
    reads: int = 64  # waiting to be done: what is read back in seconds


LIMITS = Limits()


class Sink(Protocol):
    """What a source delivers to. Every method is called on a thread of the source's, one call at a time."""

    def topic(self, topic: str, topic_id: bytes, partitions: int, /) -> None:
        """The topic has so many partitions. One that keeps another topic's keys in it may say nothing: then the keys of
        the topic are not taken to lie anywhere.
        """

    def gone(self, topic: str, /) -> None:
        """The topic is no more: what was in it can never be read again."""

    def partition(self, topic: str, topic_id: bytes, partition: int, start: int, /) -> None:
        """Reading of a partition begins at offset `start`. `topic_id` has 16 bytes: a topic made anew has another."""

    def records(self, batch: Sequence[Any], /) -> None:
        """Delivers `Record`s or confluent-kafka `Message`s without error, in order within each partition."""

    def progress(self, topic: str, partition: int, next_offset: int, /) -> None:
        """Everything below `next_offset` has been delivered or will never exist."""

    def caught_up(self, topic: str, partition: int, /) -> None:
        """All that a partition which is read on demand held when it was asked for has been delivered."""

    def let_go(self, topic: str, partition: int, /) -> None:
        """Nothing more of a partition that was read on demand is delivered, before `partition` is said of it again."""

    def ready(self) -> None:
        """All that the log held at the start has been delivered, as far as it can be read."""


class Source(Protocol):
    """A log. See the module's text for what it promises."""

    async def start(
        self,
        sink: Sink,
        topics: Sequence[str],
        history_ms: int,
        state_topics: Sequence[str] = (),
        on_demand: Sequence[str] = (),
    ) -> None:
        """Begins to read `topics` from one history window ago, and `state_topics`, others than those, from their
        beginning; returns without waiting for the log to answer. Those of `topics` that are `on_demand`, all of them
        names, are read as far as `read_partition` asks for it.

        `sink.ready` tells when the node has caught up. Missing topics are created if the log permits it.
        """

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        """Writes records next to each other; `done` is called once, on the loop.

        It gets one `Appended` a record, in order; or SourceTimeout, or another SourceError, after which some of the
        records may be in the log all the same. Raises SourceBusy, and SourceError when the source is not running: then
        nothing was taken and `done` is not called.
        """

    def read_partition(self, topic: str, partition: int, *, whole: bool = False) -> None:
        """Begins to read a partition of a topic that is read on demand; `whole`: from its beginning. To be called once
        for each, and once more when it has been let go.
        """

    def let_go(self, topic: str, partition: int) -> None:
        """Ends to read a partition that is read on demand, and has caught up."""

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Slice:
        """What the log holds from offset `start` on, below `stop`; of a topic that is read.

        At most `LIMITS.slice_records` and `LIMITS.slice_bytes`, and one record if there is any: read on from
        `Slice.next` until that is `stop`. It never is if `stop` lies behind the end. Raises SourceBusy, SourceTimeout,
        SourceDamaged or another SourceError. May be cancelled.
        """

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        """By partition, the earliest offset there is, and the one behind the last; of these `partitions`, or of all
        that are read. Those that there are not are left out, all of a topic that is no more, and no others: one of
        which nothing is read just now is asked for all the same. Raises as `read`.
        """

    async def since(self, topic: str, timestamp: int, partitions: Collection[int] | None = None) -> dict[int, int]:
        """By partition, of these or all that are read, the first offset whose record is not older than `timestamp`, in
        ms; the end if there is none.

        Everything before it is older; what comes behind it need not be younger. Raises as `read`.
        """

    def health(self) -> Health:
        """Whether the log answers now."""

    def lag(self) -> dict[tuple[str, int], int]:
        """Records not yet delivered, per topic and partition; an upper bound, since offsets have gaps."""

    async def stop(self) -> None:
        """Waits for what is being appended (10 s at most), then stops reading and frees everything. Idempotent."""
