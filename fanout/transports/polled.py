"""One connection that is made of HTTP requests: what its client polls, and what it says.

- What the client has not fetched waits in the engine's pipe and behind that in the ring, as with a socket that is full;
  nothing gathers here but a frame that is not complete yet.
- One poll at a time: a second one takes the place of the first, which is answered with nothing. A poll has no time
  limit of its own, since the engine's heartbeat answers it after two thirds of the idle time.
- A client that does not poll for the idle time is gone; so is one that has fetched the end of its connection.
- Frames are heard in order, one request's after another's, while the driver wants to hear any.

Belongs to the event loop.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from fanout.transports.driver import Driver
from fanout.wire import Action, ClientFrame

__all__ = ["Polled"]

log = logging.getLogger(__name__)

_TAKEN_BYTES: Final = 64 << 10
_ANSWER_BYTES: Final = 256 << 10  # once a poll has so much it is answered; one frame may be more
_TEXT, _CLOSE = 1, 8  # RFC 6455 §5.2: as the engine frames what it writes


class Polled:
    """The `fanout.transports.driver.Link` of such a connection; `driver` is set before anything else happens."""

    driver: Driver

    def __init__(
        self, engine: Any, idle_s: float, entered: Callable[[str, "Polled"], None], left: Callable[["Polled"], None]
    ) -> None:
        """`entered` hears the connection id once there is a session, `left` when this is over."""
        self._engine = engine
        self._idle_s = idle_s
        self._entered = entered
        self._left = left
        self._handle = 0
        self._unread = bytearray()
        self._poll: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._said: deque[ClientFrame] = deque()
        self._heard: asyncio.Future[None] | None = None
        self._speaking = asyncio.Lock()
        self._paused = False
        self._closing = False
        self._over = False

    # -- for the driver --

    def register(self, wire: int, connection_id: str, heartbeat_frames: bool, /) -> int:
        """See `Link`. A client that is refused has no connection id, and no more to say."""
        self._handle = int(self._engine.register_pipe(wire, connection_id, heartbeat_frames))
        if connection_id:
            self._entered(connection_id, self)
        return self._handle

    def pause(self) -> None:
        """See `Link`."""
        self._paused = True

    def resume(self) -> None:
        """See `Link`."""
        self._paused = False
        self._hear()

    def write_some(self) -> bool:
        """See `Link`: whoever polls is to look."""
        self._wake()
        return False

    def finish(self, code: int, /) -> None:
        """See `Link`: the client learns of it by polling."""
        if not self._closing:
            self._stop_hearing()
            self._engine.finish(self._handle, code)

    def cut(self) -> None:
        """See `Link`."""
        if self._over:
            return
        self._over = True
        self._stop_hearing()
        self._wake()
        self._disarm()
        if self._handle:
            self._engine.unregister(self._handle)
        self._left(self)
        self.driver.disconnected()

    # -- for the client --

    async def poll(self) -> bytes:
        """The next protocol messages as a JSON list, as soon as there is one; empty when another poll has come.

        The last ones come together with the end: nobody polls for that alone.
        """
        self._wake()
        self._disarm()
        self._alive()
        mine = self._poll = asyncio.get_running_loop().create_future()
        taken = self._take()
        try:
            while not self._over and (self._closing or not taken):
                await mine
                if self._poll is not mine:
                    break
                mine = self._poll = asyncio.get_running_loop().create_future()
                taken += self._take()
        finally:
            if self._poll is mine:
                self._poll = None
                self._arm()
        return b"[" + b",".join(taken) + b"]"

    async def say(self, frames: Sequence[ClientFrame]) -> None:
        """Has the frames heard; returns when all were, or nothing more is."""
        self._alive()
        async with self._speaking:
            if not frames or self._closing:
                return
            self._said.extend(frames)
            self._heard = asyncio.get_running_loop().create_future()
            self._hear()
            await self._heard

    def _hear(self) -> None:
        try:
            while self._said and not self._paused and not self._closing:
                if not self.driver.may_speak(brief=self._said[0].action == Action.HEARTBEAT):
                    return
                self.driver.receive(self._said.popleft())
        except Exception:
            log.exception("a message could not be dealt with")
            self.finish(1011)
        if not self._said:
            self._all_heard()

    def _stop_hearing(self) -> None:
        self._closing = True
        self._said.clear()
        self._all_heard()

    def _all_heard(self) -> None:
        if self._heard is not None and not self._heard.done():
            self._heard.set_result(None)

    # -- what is polled --

    def _take(self) -> list[bytes]:
        """The messages that are there, whole ones; ends the connection with its last."""
        taken: list[bytes] = []
        size, ended = 0, False
        while self._handle and not ended and (self._closing or not taken or size < _ANSWER_BYTES):
            piece = self._engine.take(self._handle, _TAKEN_BYTES)
            if not piece:
                ended = piece is None
                break
            self._unread += piece
            size += len(piece)
            ended = _cut_frames(self._unread, taken)
        if ended:
            self.cut()
        return taken

    def _wake(self) -> None:
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    def _alive(self) -> None:
        if self._handle and not self._over:
            self._engine.heard(self._handle)

    def _arm(self) -> None:
        if not self._over:
            self._timer = asyncio.get_running_loop().call_later(self._idle_s, self.cut)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _cut_frames(data: bytearray, messages: list[bytes]) -> bool:
    """Takes the whole WebSocket frames (RFC 6455 §5.2, unmasked) off the beginning and adds the messages among them.

    Whether a CLOSE was there.
    """
    at, size, closed = 0, len(data), False
    while at + 2 <= size:
        length, head = data[at + 1], 2
        if length == 126:
            head = 4
        elif length == 127:
            head = 10
        if at + head > size:
            break
        if head > 2:
            length = int.from_bytes(data[at + 2 : at + head])
        end = at + head + length
        if end > size:
            break
        kind = data[at] & 15
        if kind == _TEXT:
            messages.append(bytes(data[at + head : end]))
        closed |= kind == _CLOSE
        at = end
    del data[:at]
    return closed
