"""The audit's client of the protocol (`fanout.audit.client`), to one port of this machine, that remembers what it saw.

Everything belongs to the loop that connected it; times are in seconds.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from fanout.audit.client import Client
from fanout.audit.link import Link
from fanout.audit.returning import ANSWER_S, Refused
from fanout.audit.views import Received, received
from fanout.wire import Action, Flag

__all__ = ["ANSWER_S", "ATTACH", "DETACH", "MESSAGE", "RESUMED", "RawClient", "Refused"]

ATTACH, DETACH, MESSAGE = Action.ATTACH, Action.DETACH, Action.MESSAGE
RESUMED = Flag.RESUMED


class RawClient(Client):
    """One client. `received` holds what came, by channel, unless `on_message(channel, message)` takes it instead."""

    def __init__(
        self,
        port: int,
        key: str,
        wire: str = "json",
        *,
        query: Mapping[str, str] | None = None,
        source: str = "127.0.0.1",
        receive_buffer: int | None = None,
        on_message: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> None:
        super().__init__(
            [f"http://127.0.0.1:{port}"],
            key,
            wire,
            query=query,
            source=source,
            receive_buffer=receive_buffer,
            on_message=on_message or self._keep,
        )
        self.received: dict[str, list[Received]] = {}
        self.frames: deque[dict[str, Any]] = deque(maxlen=100)
        """The last frames that no method here waits for: errors, DISCONNECTED, heartbeats."""
        self.close_code: int | None = None
        self._all_attached: dict[str, list[dict[str, Any]]] = {}
        self._changed = asyncio.Event()

    def move(self, port: int) -> None:
        """From now on it comes back to that port."""
        self.urls = [f"http://127.0.0.1:{port}"]

    async def ended(self) -> int | None:
        """Waits until the server has ended the connection, and does not come back; returns the code of its CLOSE."""
        self._stays_away = True
        async with asyncio.timeout(ANSWER_S):
            await self._gone.wait()
        return self.close_code

    def attached(self, channel: str) -> list[dict[str, Any]]:
        """Every ATTACHED of this channel, in order."""
        return self._all_attached[channel]

    async def until(self, reached: Callable[[], bool], timeout: float = ANSWER_S) -> None:  # noqa: ASYNC109
        """Waits for a condition on what came; it is asked after every frame. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    def lost(self, link: Link) -> None:
        self.close_code = link.close_code
        super().lost(link)
        self._changed.set()

    def _keep(self, channel: str, message: dict[str, Any]) -> None:
        self.received.setdefault(channel, []).append(received(message))

    def _frame(self, payload: bytes) -> None:
        super()._frame(payload)
        self._changed.set()

    def _is_attached(self, frame: dict[str, Any]) -> None:
        super()._is_attached(frame)
        self._all_attached.setdefault(frame["channel"], []).append(frame)

    def _other(self, frame: dict[str, Any]) -> None:
        self.frames.append(frame)
