"""The sessions of a node's MQTT clients: given to who connects, taken from who has them, kept in the log.

A session is a fact of the log (`fanout.mqtt.records`), so every node has them all, and a client finds its own wherever
it comes. Nothing in it is a message: it says where each subscription stands, and the log has what comes next.

- **Taking.** Who connects claims the name with a newer generation. The node whose client had it hears that, sends that
  client away and writes its last word: where it stood. The new one waits until it has read its own claim, and up to
  `LAST_WORD_S` for that word. Of a node that has died there is none, and one that is slow may have said nothing of the
  connection yet: then a client is given again what it was given since the session was written last, and all of it up to
  the end of the log has DUP set.
- **Keeping.** A session that moves is written about once a second, all of a node's together at most `SAVED_PLACES` of
  their places in each `TICK_S`; with more clients than that allows each is written less often.
- **Ending.** A session is over when its client said so, or its expiry interval has passed since its connection ended;
  that of a dead node's connections ends when the node is known to be dead (`fanout.presence.leases`).
- What the log does not take now is told again until it does (`fanout.mqtt.telling`).

Belongs to the event loop.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from fanout.callbacks import outcome
from fanout.control import Control, Fact
from fanout.errors import ClientError, ErrorInfo, SourceError, error
from fanout.mqtt.begun import Scratch
from fanout.mqtt.finding import Finding
from fanout.mqtt.held import EXPIRY_MAX_S, Held
from fanout.mqtt.left_behind import LeftBehind
from fanout.mqtt.ports import Lives, Log, Memory, Topics
from fanout.mqtt.records import CLAIM, STATE, Claim, State, name_of, name_text, over, shown_will
from fanout.mqtt.releases import Releases
from fanout.mqtt.retained import Retained
from fanout.mqtt.table import SessionTable
from fanout.mqtt.telling import Telling
from fanout.mqtt.wildcards import Wildcards
from fanout.mqtt.wills import Publish, Wills
from fanout.transports.mqtt_ports import Client, Name, Subscription, Will
from fanout.types import OutMessage

__all__ = ["Sessions"]

CLAIM_S: Final = 5.0
"""How long a client waits for its name, with the log slow or away: half of what clients allow a CONNECT."""
LAST_WORD_S: Final = 1.0
TICK_S: Final = 0.25
SAVED_EVERY_S: Final = 1.0
RECORD_BYTES: Final = 512 << 10
"""What one session takes as JSON, since it is written whole: half of what Kafka takes in a record. Past it a client may
not subscribe to more, is sent away, and its session is over."""

SAVED_PLACES: Final = 500  # looked at in one tick, at 10 µs each: 2 % of the loop
LOOK_AFTER_TICKS: Final = 8

_TOO_MANY: Final = error(42910, "no more sessions can be kept")
_TOO_LARGE: Final = error(90010, f"{RECORD_BYTES} bytes is the limit of a session that is kept")

log = logging.getLogger(__name__)


async def _is_read(_channel: str) -> bool:
    """Of a node that reads all there is."""
    return True


class Sessions:
    """See the module's text, and `fanout.transports.mqtt_ports.Sessions`."""

    def __init__(
        self,
        control: Control,
        *,
        memory: Memory,
        source: Log,
        publish: Publish,
        topics: Topics,
        lives: Lives,
        scratch: Callable[[], Scratch],
        node: str,
        clock: Callable[[], int],
        wait: Callable[[str], Awaitable[bool]] = _is_read,
    ) -> None:
        """`control` has the facts of `fanout.mqtt`, `scratch` makes empty engines with the node's rules, `node` is this
        node's name among `lives`, `clock` reads the time in ms; `wait` has a channel read here, and says whether it is.
        """
        self.memory = memory
        self.topics = topics
        self.releases = Releases(control, clock)
        self.followed = Wildcards(memory, topics)
        self.messages = Retained(control, topics, clock)
        """The retained ones."""
        self.wills = Wills(publish, self.messages.keep)
        self._control = control
        self._finding = Finding(memory, source, scratch, self.followed, wait)
        self._lives = lives
        self._node = node
        self._clock = clock
        self._table = SessionTable()
        self._held: dict[Name, Held] = {}
        self._kept: OrderedDict[Held, None] = OrderedDict()  # those held that are; the one saved longest ago is first
        self._claiming: dict[str, asyncio.Future[Claim | None]] = {}  # by the connection's life
        self._last_words: dict[Name, tuple[int, asyncio.Event]] = {}  # of connections of these generations
        self._telling = Telling(control)
        self._tell = self._telling.tell
        self._left_behind = LeftBehind(
            self._table, self._held, self.wills, self.releases, lives,
            node=node, tell=self._tell, end=self._end, disclaim=self._disclaim,
        )  # fmt: skip
        control.listen(CLAIM, self._heard_claim)
        control.listen(STATE, self._heard_state)

    def __len__(self) -> int:
        """Connections of this node that have a name; for them it says that it is alive."""
        return len(self._held) + len(self.wills)

    def counters(self) -> dict[str, int]:
        """For the metrics: what this node keeps of all sessions, and what became of wills that it was to publish."""
        return {
            "clients": len(self._held),
            "sessions": self._table.kept,
            "session_bytes": self._table.bytes,
            "retained": len(self.messages),
            "retained_bytes": self.messages.bytes,
            "wills_waiting": len(self.wills),
            "wills_published": self.wills.published,
            "wills_refused": self.wills.refused,
        }

    @property
    def wildcards(self) -> bool:
        """See the port."""
        return True

    # -- for connections --

    async def take(self, name: Name, client: Client, *, clean: bool, expiry_s: int, will: Will | None) -> Held:
        """See the port. Raises ClientError 42910 if there are too many sessions, 50003 if the log does not answer, and
        80016 if the client has connected again meanwhile.
        """
        held = Held(self, name, client, expiry_s=min(expiry_s, EXPIRY_MAX_S), clean=clean, will=will)
        is_known = self._table.generation(name) > 0 or name in self._held
        if not is_known and not (self._table.has_place(name) and self._telling.has_room):
            raise ClientError(_TOO_MANY)
        if held.is_kept and not self._table.has_state(name):
            self.check_room(name)
        if (here := self._held.get(name)) is not None:
            self._supersede(here, over=clean)
        self._held[name] = held
        try:
            before = await self._claim(held, wait=is_known or held.is_kept or will is not None)
            await self._find(held, before)
            if held.over:
                raise ClientError(error(80016))
        except BaseException as problem:
            if not held.over:
                self._let_go(held)
                self._disclaim(name, held.life)
            if isinstance(problem, (TimeoutError, SourceError)):
                raise ClientError(error(50003, "the session could not be had")) from problem
            raise
        held.is_begun = True
        if held.is_kept:
            self._kept[held] = None
            self._tell(STATE, name, msgspec.to_builtins(held.state()))  # it has a connection: it does not expire
        elif self._table.has_state(name):
            self._end(name, held.generation)  # it is over with its connection, however that ends
        return held

    def retain(self, channel: str, message: OutMessage, serial: str, done: Callable[[ErrorInfo | None], None]) -> None:
        """See the port."""
        self.messages.keep(channel, message, serial, done)

    async def retained(self, client: Client, subscription: Subscription) -> Sequence[tuple[str, OutMessage]]:
        """See the port."""
        return await self.messages.under(client.identity, subscription)

    # -- for `Held` --

    def check_room(self, name: Name) -> None:
        """See `fanout.mqtt.held.Keeper`. Raises ClientError 42910 if there is no room."""
        if not self._table.has_room(name):
            raise ClientError(_TOO_MANY)

    def write(self, held: Held) -> "asyncio.Future[SourceError | None]":
        """See `fanout.mqtt.held.Keeper`. Raises ClientError 90010 for a session that is too large, 42910 if there is no
        room for it as it has grown.
        """
        fact = self._shown(held, held.moved() or held.state())
        self._telling.forget(STATE, held.name)
        return outcome(partial(self._control.tell, STATE, name_text(held.name), fact))

    def left(self, held: Held, /, *, expiry_s: int, lost: bool) -> None:
        """See `fanout.mqtt.held.Keeper`."""
        name = held.name
        if expiry_s > 0:
            self._say_last(held, held.state(self._clock(), expiry_s))
        elif held.is_kept or self._table.has_state(name):  # what was told of it may not be read yet
            self._end(name, held.generation)
        self._let_go(held)
        if lost and held.will is not None:
            after_s = min(held.will.delay_s, expiry_s)
            if after_s > 0:  # should this node be gone by then, another one sees to it
                self._tell(CLAIM, name, self._claim_of(held, lost_ms=self._clock()))
            self.wills.lost(name, held.will, after_s, partial(self._disclaim, name, held.life))
        else:
            self._disclaim(name, held.life)

    def _shown(self, held: Held, state: State) -> Fact:
        """What is written of a session. Raises ClientError 90010, 42910: its channels under wildcards may have made it
        larger than it may be, or than there is room for.
        """
        if state.size() > RECORD_BYTES:
            raise ClientError(_TOO_LARGE)
        if len(state.places) > held.placed:
            self.check_room(held.name)
            held.placed = len(state.places)
        fact: Fact = msgspec.to_builtins(state)
        return fact

    def _say_last(self, held: Held, state: State) -> None:
        """Writes the session as its connection left it. If that may not be, it is over."""
        try:
            self._tell(STATE, held.name, self._shown(held, state))
        except ClientError:
            self._end(held.name, held.generation)

    def _end(self, name: Name, generation: int) -> None:
        """Nothing is left of a session of that generation, or an earlier one."""
        self._telling.tell_last(STATE, name, over(generation))

    # -- taking --

    async def _claim(self, held: Held, *, wait: bool) -> Claim | None:
        """Claims the name; who had it last before, once that is known from the log."""
        held.generation = max(self._clock(), self._table.generation(held.name) + 1)
        fact = self._claim_of(held)
        if not wait:
            self._tell(CLAIM, held.name, fact)
            return None
        claimed: asyncio.Future[Claim | None] = asyncio.get_running_loop().create_future()
        self._claiming[held.life] = claimed
        try:
            async with asyncio.timeout(CLAIM_S):
                problem = await outcome(partial(self._control.tell, CLAIM, name_text(held.name), fact))
                if problem is not None:
                    raise ClientError(error(50003, "the session could not be had"))
                return await claimed
        finally:
            del self._claiming[held.life]

    async def _find(self, held: Held, before: Claim | None) -> None:
        """Goes on with the session that there is, or begins one. Raises SourceError."""
        name = held.name
        if held.clean:
            return
        if before is not None and before.node != self._node and not self._lives.is_gone(before.node):
            await self._last_word(name, before.generation)
        state = self._table.state(name, self._clock())
        if state is not None:
            # Its last connection may have yet to tell of it.
            is_old = before is not None and before.generation > state.generation
            is_exact = state.ended_ms is not None and state.is_exact and not is_old
            await self._finding.go_on(held, state, is_exact=is_exact)

    async def _last_word(self, name: Name, generation: int) -> None:
        if self._table.has_last_word(name, generation):
            return
        _, said = self._last_words.setdefault(name, (generation, asyncio.Event()))
        try:
            async with asyncio.timeout(LAST_WORD_S):
                await said.wait()
        except TimeoutError:
            log.info("a node did not say where a session stood: goes on from where it was written last")
        finally:
            self._last_words.pop(name, None)

    def _supersede(self, held: Held, *, over: bool) -> None:
        """Another connection has the name now. `over`: the session does not go on."""
        if held.is_kept and held.is_begun and not over:
            self._say_last(held, held.state(self._clock()))
        self._let_go(held)
        if held.will is not None and (over or held.will.delay_s == 0 or not held.is_kept):
            self.wills.lost(held.name, held.will, 0.0, lambda: None)
        if (claimed := self._claiming.get(held.life)) is not None and not claimed.done():
            claimed.set_exception(ClientError(error(80016)))
            claimed.exception()  # nobody may be left who asks for it: no event loop is to complain
        held.client.end(error(80016))

    def _let_go(self, held: Held) -> None:
        held.over = True
        self.followed.leave_all(held.client, [one.filter for one in held.subscriptions])
        self._kept.pop(held, None)
        if self._held.get(held.name) is held:
            del self._held[held.name]

    def _claim_of(self, held: Held, lost_ms: int | None = None) -> Fact:
        will = None if held.will is None else shown_will(held.will)
        claim = Claim(held.generation, self._node, held.life, clean=held.clean, will=will, lost_ms=lost_ms)
        fact: Fact = msgspec.to_builtins(claim)
        return fact

    def _disclaim(self, name: Name, life: str) -> None:
        """The connection is over, and its will published: nobody has the name, unless somebody has claimed it since."""
        claim = self._table.claim(name)
        if name not in self._held and (claim is None or claim.life == life):
            self._tell(CLAIM, name, None)

    # -- what the log says --

    def _heard_claim(self, text: str, fact: Fact) -> None:
        name = name_of(text)
        held = self._held.get(name)
        if held is not None:
            name = held.name  # one object of all that are equal
        before, last = self._table.claim(name), self._table.last_claim(name)
        counts = self._table.heard_claim(name, fact)
        claim = self._table.claim(name)
        if claim is None:
            if held is not None and before is not None and before.life == held.life:
                self._tell(CLAIM, name, self._claim_of(held))  # somebody's late word about an earlier connection
            return
        if counts and (before is None or before.life != claim.life):
            (self.wills.hurry if claim.clean else self.wills.take_back)(name)
        if held is None or fact is None:
            return
        if fact["life"] != held.life:
            # A claim that comes before our own in the log is older than ours, whatever its generation.
            if counts and held.is_claimed:
                self._supersede(held, over=claim.clean)
        elif counts:
            held.is_claimed = True
            if (claimed := self._claiming.get(held.life)) is not None and not claimed.done():
                claimed.set_result(last)
        else:
            held.generation = claim.generation + 1
            self._tell(CLAIM, name, self._claim_of(held))

    def _heard_state(self, text: str, fact: Fact) -> None:
        name = name_of(text)
        counts = self._table.heard_state(name, fact)
        held = self._held.get(name)
        # The log would keep a late word. Where a connection has the session its node answers, or whoever finds it dead.
        if held is not None and held in self._kept and (fact is None or fact["generation"] < held.generation):
            self._tell(STATE, name, msgspec.to_builtins(held.state()))
        elif not counts and (left := self._table.left(name)) is not None:
            self._tell(STATE, name, left)
        if (awaited := self._last_words.get(name)) is not None and self._table.has_last_word(name, awaited[0]):
            awaited[1].set()

    # -- in the course of time --

    async def run(self, ready: asyncio.Event) -> None:
        """Saves what moves, and looks after what others left behind; from when the node is `ready`, until cancelled."""
        await ready.wait()
        loop = asyncio.get_running_loop()
        tick = 0
        try:
            while True:
                await asyncio.sleep(TICK_S)
                tick += 1
                try:
                    self.save(loop.time())
                    if tick % LOOK_AFTER_TICKS == 0:
                        self.look_after()
                except Exception:  # whatever it was, sessions must be saved
                    log.exception("sessions could not be looked after")
        finally:
            self.wills.close()
            self._finding.close()

    def save(self, now: float) -> None:
        """Writes those whose turn it is, if they have moved; `now` by the loop's clock."""
        self._telling.again()
        left = SAVED_PLACES
        while self._kept and left > 0:
            held = next(iter(self._kept))
            if now - held.saved_at < SAVED_EVERY_S:
                return
            held.saved_at = now
            self._kept.move_to_end(held)
            state = held.moved()
            left -= 1 + len(held.places)
            if state is None:
                continue
            try:
                self._control.tell(STATE, name_text(held.name), self._shown(held, state))
            except ClientError as refused:
                held.client.end(refused.info)

    def look_after(self) -> None:
        """Acts for connections of nodes that have died, and lets go of what is over."""
        self._left_behind.look_after(self._clock())
