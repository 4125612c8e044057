"""Presence members on their way to the log: those of this node's connections, from entering to leaving.

The set itself is the engine's, made of what is read back; this module decides what is written.

- One event, one record; the record's node answers for the member. An event that changes nothing is answered and not
  written: a re-entry under the same id, a leave of somebody absent.
- A channel that is full refuses who is new (91003, 91006); what a frame does counts as a whole. Nodes that let members
  in at the same moment do not know of each other's, so a set may exceed its bound by what they have under way.
- Members of a connection that has ended or left the channel leave at once. Those of one that was lost leave when its
  time is up, unless it is continued: here, or on another node, which then answers for them, as the set shows. Such
  leaves are written in bounded groups, one after another, and again until the log has them.
- A node that was frozen or cut off writes late what its clients said before they went on elsewhere. Each record says of
  which generation of its connection it is, and one of an older generation changes nothing.
- What the set lacks of this node's members is written again: another node may have taken this one for gone. What it
  has of this node's that are nobody's any more, leaves: a leave can be overruled by a clock that was set back.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from fanout.errors import ClientError, ErrorInfo, SourceError, error, not_written
from fanout.presence.members import Group, Member, Members
from fanout.presence.records import LEAVE, Key, event_record, leave_record
from fanout.routing import PRESENCE_TOPIC
from fanout.sources.base import Appended, Appends, NewRecord, Source
from fanout.types import PresenceEvent

__all__ = ["DATA_BYTES", "SLICE", "Presence", "PresenceSet", "leaves_of"]

DATA_BYTES: Final = 16 << 20
"""Client ids, data and extras of all members of one channel: every new subscriber is sent them. 800 bytes for each of
20,000 members."""

SLICE: Final = 500  # members looked at, or leaves written, in one go: under 5 ms of the loop
TICK_S: Final = 0.25
REPAIR_S: Final = 5.0  # between two comparisons with the set, and until what was written must have been read back

log = logging.getLogger(__name__)

Done = Callable[[list[None] | ErrorInfo], None]


class PresenceSet(Protocol):
    """The presence set as this node has read it; `fanout._core.Engine` answers this."""

    def member(self, channel: str, connection_id: str, client_id: str, /) -> tuple[str, str, int] | None:
        """Id and node of a member, and the generation of its connection; None if it is not there."""

    def presence_size(self, channel: str, /) -> tuple[int, int]:
        """Members of a channel, and the bytes of their client ids, data and extras."""

    def presence_nodes(self) -> dict[str, int]:
        """How many members each node has."""

    def members_of(self, node: str, limit: int, /) -> list[tuple[str, str, str]]:
        """Some of a node's members: channel, connection id and client id of each."""


class Presence:
    """The members of one node's connections. Belongs to the event loop; nothing blocks."""

    def __init__(
        self,
        present: PresenceSet,
        source: Source,
        node: str,
        *,
        log: Appends,
        members_max: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`node` is this node's name for as long as it runs; what is decided goes to `log`. A channel has
        `members_max` members at most; `clock` reads seconds that never go back.
        """
        self.members = Members()
        self._present = present
        self._source = source
        self._node = node
        self._log = log
        self._members_max = members_max
        self._clock = clock
        self._lost: dict[str, float] = {}  # connections with members, and when those leave; bounded by the members
        self._leaving: deque[Group] = deque()
        self._writing_leaves = False
        self._repaired_at = clock()
        self.counts = {"entered": 0, "left": 0, "removed": 0, "repaired": 0, "failed": 0}  # for the metrics

    # -- what clients say --

    def write(self, connection_id: str, channel: str, events: Sequence[PresenceEvent], done: Done) -> None:
        """Writes the events next to each other.

        `done` is called once, on the loop, perhaps before this returns: with None for each event when the log has all
        of them durably; or with the numbered error: 91003 too many members, 91006 too much data, or the log's.
        """
        changes: dict[Key, Member | None] = {}  # the newest of each member
        records: list[NewRecord] = []
        for event in events:
            self._plan(Key(channel, connection_id, event.client_id), event, changes, records)
        before = {key: self.members.find(key) for key in changes}
        try:
            self._check_room(channel, changes, before)
        except ClientError as refused:
            done(refused.info)
            return
        self._apply(changes)

        def appended(result: list[Appended] | SourceError) -> None:
            if isinstance(result, SourceError):
                self.counts["failed"] += len(records)
                self._undo(changes, before)
                done(not_written(result, "presence event"))
                return
            now = self._clock()
            for key, member in changes.items():
                self.counts["left" if member is None else "entered"] += (member is None) != (before[key] is None)
                if member is not None:
                    member.written_at, member.entered = now, True
            done([None] * len(events))

        try:
            if records:
                self._log.append(records, appended)
            else:
                appended([])
        except SourceError as problem:
            self.counts["failed"] += len(records)
            self._apply(before)
            done(not_written(problem, "presence event"))

    def _apply(self, changes: Mapping[Key, Member | None]) -> None:
        for key, member in changes.items():
            if member is None:
                self.members.drop(key)
            else:
                self.members.put(member)

    def _plan(
        self, key: Key, event: PresenceEvent, changes: dict[Key, Member | None], records: list[NewRecord]
    ) -> None:
        """Adds one event to what is about to be changed and written."""
        mine = changes[key] if key in changes else self.members.find(key)
        seen = None if key in changes else self._present.member(*key)
        if event.action == LEAVE:
            if mine is not None or seen is not None:
                changes[key] = None
                records.append(event_record(key, event, self._node))
            return
        record = event_record(key, event, self._node)
        entered = seen is not None or (mine is not None and mine.entered)
        changes[key] = Member(key, event, record, entered=entered)
        is_known = mine is not None and (mine.id, mine.generation) == (event.id, event.generation)
        if not is_known or seen != (event.id, self._node, event.generation):
            records.append(record)

    def _check_room(
        self, channel: str, changes: Mapping[Key, Member | None], before: Mapping[Key, Member | None]
    ) -> None:
        """What a frame does as a whole has to fit, in the set and in what is mine. Raises ClientError 91003, 91006.

        Who continues a member that the set has already is not charged; nor is who makes nothing larger.
        """
        (seen, seen_data), (mine, mine_data) = self._present.presence_size(channel), self.members.size(channel)
        seen_more = mine_more = new = data_more = 0
        for key, member in changes.items():
            earlier, is_seen = before[key], self._present.member(*key) is not None
            seen_more += (member is not None) - is_seen
            mine_more += (member is not None) - (earlier is not None)
            new += member is not None and earlier is None and not is_seen
            if earlier is not None or not is_seen:
                data_more += (member.size if member else 0) - (earlier.size if earlier else 0)
        counts = ((seen, seen_more), (mine, mine_more))
        if new and any(more > 0 and count + more > self._members_max for count, more in counts):
            raise ClientError(error(91003, f"{self._members_max} is the limit"))
        if data_more > 0 and max(seen_data, mine_data) + data_more > DATA_BYTES:
            raise ClientError(error(91006, f"{DATA_BYTES} bytes are the limit"))

    def _undo(self, changes: dict[Key, Member | None], before: dict[Key, Member | None]) -> None:
        """The log failed, and may have the records or not: who was there before stays, who was not has to leave."""
        undone = Group()
        for key, member in changes.items():
            earlier = before[key]
            if member is not None:
                member.failed = True
                member.entered |= earlier is not None and earlier.entered
            if self.members.find(key) is not member:
                continue  # it has moved on since
            if member is not None and member.entered:
                self.members.put(member if earlier is None or earlier.failed else earlier)
                continue
            self.members.drop(key)
            if (gone := member or earlier) is not None:
                undone[key.client_id] = gone
        self._leave([undone])

    # -- what becomes of connections: see `fanout.session.ports.Members` --

    def lost(self, connection_id: str, remain_ms: int) -> None:
        """The transport is gone: the members leave after so long, unless the connection is continued."""
        if self.members.has_connection(connection_id):
            self._lost[connection_id] = self._clock() + remain_ms / 1000

    def resumed(self, connection_id: str) -> None:
        """A lost connection is continued: its members stay."""
        self._lost.pop(connection_id, None)

    def ended(self, connection_id: str) -> None:
        """The connection is over: its members leave now."""
        self._lost.pop(connection_id, None)
        self._leave(self.members.drop_connection(connection_id))

    def leave(self, connection_id: str, channel: str) -> None:
        """The connection leaves the channel, and its members with it."""
        self._leave(self.members.drop_channel(connection_id, channel))

    # -- leaves that nobody said --

    def _leave(self, groups: Sequence[Group]) -> None:
        self._leaving.extend(group for group in groups if group)
        self._write_leaves()

    def _write_leaves(self) -> None:
        """Writes the next leaves, unless some are under way."""
        if self._writing_leaves:
            return
        taken: list[Member] = []
        while self._leaving and len(taken) < SLICE:
            group = self._leaving[0]
            while group and len(taken) < SLICE:
                taken.append(group.popitem()[1])
            if not group:
                self._leaving.popleft()
        leaving = [member for member in taken if self._must_leave(member.key)]
        if not leaving:
            if self._leaving:
                asyncio.get_running_loop().call_soon(self._write_leaves)
            return
        self._writing_leaves = True

        def appended(result: list[Appended] | SourceError) -> None:
            self._writing_leaves = False
            if isinstance(result, SourceError):
                self._retry(leaving)  # with the next tick
                return
            self.counts["removed"] += len(leaving)
            self._write_leaves()

        try:
            self._log.append([leave_record(member.key, self._node, member.generation) for member in leaving], appended)
        except SourceError:
            self._writing_leaves = False
            self._retry(leaving)

    def _must_leave(self, key: Key) -> bool:
        """Not if it has entered again since, nor if another node answers for it. One not read back yet does."""
        if self.members.find(key) is not None:
            return False
        seen = self._present.member(*key)
        return seen is None or seen[1] == self._node

    def _retry(self, leaving: Sequence[Member]) -> None:
        self.counts["failed"] += len(leaving)
        again: dict[tuple[str, str], Group] = {}
        for member in leaving:
            again.setdefault(member.key[:2], Group())[member.key.client_id] = member
        self._leaving.extend(again.values())

    # -- time --

    async def run(self) -> None:
        """Lets members leave whose time is up, and repairs what the set lacks, until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                if self.expire():
                    continue  # the rest comes with the next tick
                if self._clock() - self._repaired_at >= REPAIR_S:
                    await self.repair()
            except Exception:  # whatever it was, the members of the next connection must leave in time
                log.exception("presence could not be brought up to date")

    def expire(self) -> bool:
        """Lets the members of lost connections leave whose time is up; whether there are more of them."""
        now = self._clock()
        due = [connection_id for connection_id, at in self._lost.items() if at <= now]
        groups: list[Group] = []
        for connection_id in due[:SLICE]:
            del self._lost[connection_id]
            groups += self.members.drop_connection(connection_id)
        self._leave(groups)
        return len(due) > SLICE

    async def repair(self) -> None:
        """Compares this node's members with the set, a slice at a time."""
        if any(lag for (topic, _), lag in self._source.lag().items() if topic == PRESENCE_TOPIC):
            return  # the set is behind: what it lacks may be under way; the next tick looks again
        self._repaired_at = self._clock()
        missing: list[Member] = []
        for index, member in enumerate(self.members):
            if index % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            if member.written_at is None or self._repaired_at - member.written_at < REPAIR_S:
                continue
            if self.members.find(member.key) is not member:
                continue
            seen = self._present.member(*member.key)
            if seen is None or seen[2] < member.generation:
                missing.append(member)
            elif seen[1] != self._node:
                self.members.drop(member.key)  # its connection is another node's now
            if len(missing) == SLICE:
                break  # the others are still missing next time
        if missing:
            log.warning("%d presence members were taken for gone and enter again", len(missing))
            for member in missing:
                member.written_at = self._repaired_at
            self._repair_with([member.record for member in missing])
        self._repair_with(self._leaves_of_nobodys())

    def _leaves_of_nobodys(self) -> list[NewRecord]:
        """The leaves of some of those whom the set takes for this node's and who are not."""
        count = len(self.members)
        if self._leaving or self._writing_leaves or self._present.presence_nodes().get(self._node, 0) <= count:
            return []
        keys = (Key(*key) for key in self._present.members_of(self._node, count + SLICE))
        nobodys = [key for key in keys if self.members.find(key) is None][:SLICE]
        return leaves_of(self._present, self._node, nobodys, self._node)

    def _repair_with(self, records: list[NewRecord]) -> None:
        """What fails is to be repaired still, and found again."""
        if records:
            self.counts["repaired"] += len(records)
            with contextlib.suppress(SourceError):
                self._log.append(records, lambda result: None)


def leaves_of(present: PresenceSet, node: str, keys: Iterable[Key], writer: str) -> list[NewRecord]:
    """The leaves that `writer` writes of those members that `node` answers for now, as they are now."""
    found = ((key, present.member(*key)) for key in keys)
    return [leave_record(key, writer, seen[2]) for key, seen in found if seen is not None and seen[1] == node]
