"""Where a session of an earlier connection is gone on with.

- Under its wildcards channels that began meanwhile are found in memory, or in the log (`fanout.mqtt.begun`); where they
  cannot be, the session begins anew.
- If nobody has said how much its client was given, it may have been everything that the log has by now
  (`fanout.mqtt.resumed`): then this node must have read its channels, and the log say where it ends.

Belongs to the event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from fanout.auth.realms import realm_of
from fanout.errors import SourceError
from fanout.mqtt.begun import Begun, Scratch
from fanout.mqtt.ends import Ends
from fanout.mqtt.held import Held
from fanout.mqtt.ports import Log, Memory
from fanout.mqtt.records import State
from fanout.mqtt.resumed import end_of_log, given_at_most
from fanout.mqtt.wildcards import EVERYTHING, Found, Wildcards

__all__ = ["Finding"]

READ_S: Final = 5.0
"""How long the log may take: half of what clients allow a CONNECT."""


class Finding:
    """See the module's text."""

    def __init__(
        self,
        memory: Memory,
        source: Log,
        scratch: Callable[[], Scratch],
        followed: Wildcards,
        wait: Callable[[str], Awaitable[bool]],
    ) -> None:
        """As `fanout.mqtt.service.Sessions` has them."""
        self._memory = memory
        self._followed = followed
        self._ends = Ends(source)
        self._begun = Begun(source, scratch)
        self._wait = wait

    async def go_on(self, held: Held, state: State, *, is_exact: bool) -> None:
        """Goes on with a session, unless it cannot be. `is_exact`: its last connection has said where it stood.

        Raises SourceError or TimeoutError if the log does not answer. May be cancelled.
        """
        place = None
        if state.place:
            place = await self._place_of(state, held)
            if place is None:
                return
        end = None
        if not is_exact:
            followed = list(filter(None, map(held.channel, {one.topic for one in state.places})))
            async with asyncio.timeout(READ_S):
                if not all([await self._wait(channel) for channel in followed]):
                    raise SourceError("a partition was not read in time")
                end = await end_of_log([EVERYTHING] if state.place else followed, self._memory, self._ends)
            state = given_at_most(state, end, held.channel, self._memory)
        held.go_on(state, place, end)

    def close(self) -> None:
        """Asks the log no more."""
        self._ends.close()

    async def _place_of(self, state: State, held: Held) -> Found | None:
        """Where the session's wildcards go on; None if the channels that began meanwhile cannot be found."""
        stretches = self._followed.forgotten(state.place)
        if not stretches:
            return None if stretches is None else Found(state.place)
        channels = await self._begun.within(stretches, realm_of(held.client.identity.key_name))
        return None if channels is None else Found(state.place, stretches, channels)
