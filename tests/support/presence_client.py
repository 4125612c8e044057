"""A raw client that says who is present, and keeps what it is told of it."""

from typing import Any

from fanout.wire import Action
from tests.support.wsclient import ANSWER_S, RawClient, Refused

__all__ = ["ENTER", "LEAVE", "PRESENT", "UPDATE", "PresenceClient"]

PRESENT, ENTER, LEAVE, UPDATE = 1, 2, 3, 4  # the protocol's numbers


class PresenceClient(RawClient):
    """`events` are those it was told live, (action, client id), in order; `members` what the set holds by now."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.events: list[tuple[int, str]] = []
        self.members: dict[tuple[str, str], dict[str, Any]] = {}
        self.synced = False
        self._said = 0
        self._stays: list[tuple[str, str, str]] = []  # channel, client id and id of those that enter again

    async def say(self, channel: str, *events: dict[str, Any]) -> None:
        """Returns when the log has the events. Raises Refused for a NACK."""
        serial, self._said = self._said, self._said + 1
        self.send({"action": Action.PRESENCE, "channel": channel, "msgSerial": serial, "presence": events})
        await self.until(lambda: self._answer(serial) is not None, ANSWER_S)
        answer = self._answer(serial)
        assert answer is not None
        self.frames.remove(answer)
        if answer["action"] == Action.NACK:
            raise Refused(answer["error"])

    async def enter(self, channel: str, *names: str, **fields: Any) -> None:
        """These clients enter, with one frame."""
        await self.say(channel, *({"action": ENTER, "clientId": name, **fields} for name in names))

    async def stay(self, channel: str, name: str) -> None:
        """Enters, and does so again under the same id whenever it is connected anew, as SDKs do."""
        serial = self._said
        await self.enter(channel, name)
        self._stays.append((channel, name, f"{self.connection_id}:{serial}:0"))

    def _is_connected(self, frame: dict[str, Any]) -> None:
        super()._is_connected(frame)
        for channel, name, event_id in self._stays:
            again = {"action": ENTER, "clientId": name, "id": event_id}
            self.send({"action": Action.PRESENCE, "channel": channel, "msgSerial": self._said, "presence": [again]})
            self._said += 1

    async def told(self, count: int, timeout: float = ANSWER_S) -> None:  # noqa: ASYNC109
        """Returns once it was told so many events. Raises TimeoutError."""
        await self.until(lambda: len(self.events) >= count, timeout)

    async def in_sync(self) -> None:
        """Returns once it was told the whole set."""
        await self.until(lambda: self.synced)

    def names(self) -> list[str]:
        """The client ids of the set."""
        return sorted(client_id for _, client_id in self.members)

    def _answer(self, serial: int) -> dict[str, Any] | None:
        for frame in self.frames:
            if frame["action"] in (Action.ACK, Action.NACK) and frame["msgSerial"] == serial:
                assert frame["count"] == 1
                return frame
        return None

    def _frame(self, payload: bytes) -> None:
        super()._frame(payload)
        while self.frames and self.frames[-1]["action"] in (Action.PRESENCE, Action.SYNC):
            self._told(self.frames.pop())

    def _told(self, frame: dict[str, Any]) -> None:
        for one in frame["presence"]:
            key = one["connectionId"], one["clientId"]
            if one["action"] == LEAVE:
                self.members.pop(key, None)
            else:
                self.members[key] = one
            if frame["action"] == Action.PRESENCE:
                self.events.append((one["action"], one["clientId"]))
        if frame["action"] == Action.SYNC and frame.get("channelSerial", ":").endswith(":"):
            self.synced = True
