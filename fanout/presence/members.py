"""The presence members that this node answers for: those of its connections, also of those just lost.

They are grouped by connection and channel, so that a connection leaves a channel, however many members it has there, in
one step. Bounded by what `Presence` lets in.
"""

from collections.abc import Iterator

from fanout.presence.records import Key
from fanout.sources.base import NewRecord
from fanout.types import PresenceEvent

__all__ = ["Group", "Member", "Members"]


class Member:
    """One member as it was said last, by the connection of this `generation`. `record` is what it is written with;
    `written_at` is when the log had that, in s.

    `entered`: the log has the member, be it as it was before. `failed`: the log may not have it as it is now.
    """

    __slots__ = ("entered", "failed", "generation", "id", "key", "record", "size", "written_at")

    def __init__(self, key: Key, event: PresenceEvent, record: NewRecord, *, entered: bool) -> None:
        self.key = key
        self.id = event.id
        self.generation = event.generation
        self.record = record
        self.size = event.size
        self.written_at: float | None = None
        self.entered = entered
        self.failed = False


class Group(dict[str, Member]):
    """The members of one connection in one channel, by client id; `size` is theirs together, in bytes."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        super().__init__()
        self.size = 0


class Members:
    """All of them."""

    def __init__(self) -> None:
        self._by_connection: dict[str, dict[str, Group]] = {}
        self._by_channel: dict[str, tuple[int, int]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Member]:
        """All, also while members come and go: then of those that do, some."""
        for channels in list(self._by_connection.values()):
            for group in list(channels.values()):
                yield from list(group.values())

    def size(self, channel: str) -> tuple[int, int]:
        """Members and their bytes in one channel."""
        return self._by_channel.get(channel, (0, 0))

    def find(self, key: Key) -> Member | None:
        """The member of this key."""
        group = self._by_connection.get(key.connection_id, {}).get(key.channel)
        return None if group is None else group.get(key.client_id)

    def put(self, member: Member) -> None:
        """Adds a member, or puts it in the place of the one with its key."""
        channel, connection_id, client_id = member.key
        group = self._by_connection.setdefault(connection_id, {}).setdefault(channel, Group())
        before = group.get(client_id)
        group[client_id] = member
        grown = member.size - (before.size if before else 0)
        group.size += grown
        self._count_in(channel, 0 if before else 1, grown)

    def drop(self, key: Key) -> None:
        """Takes one member out, if it is there."""
        channel, connection_id, client_id = key
        channels = self._by_connection.get(connection_id, {})
        group = channels.get(channel)
        if group is None or client_id not in group:
            return
        member = group.pop(client_id)
        group.size -= member.size
        self._count_in(channel, -1, -member.size)
        if not group:
            self._drop_group(connection_id, channels, channel)

    def drop_channel(self, connection_id: str, channel: str) -> list[Group]:
        """Takes out what the connection has in one channel: one group, or none."""
        channels = self._by_connection.get(connection_id, {})
        group = channels.get(channel)
        if group is None:
            return []
        self._count_in(channel, -len(group), -group.size)
        self._drop_group(connection_id, channels, channel)
        return [group]

    def drop_connection(self, connection_id: str) -> list[Group]:
        """Takes out all that the connection has."""
        channels = list(self._by_connection.get(connection_id, ()))
        return [group for channel in channels for group in self.drop_channel(connection_id, channel)]

    def has_connection(self, connection_id: str) -> bool:
        """Whether the connection has members."""
        return connection_id in self._by_connection

    def _drop_group(self, connection_id: str, channels: dict[str, Group], channel: str) -> None:
        del channels[channel]
        if not channels:
            del self._by_connection[connection_id]

    def _count_in(self, channel: str, members: int, size: int) -> None:
        self._count += members
        counted, counted_size = self.size(channel)
        if counted + members:
            self._by_channel[channel] = counted + members, counted_size + size
        else:
            del self._by_channel[channel]
