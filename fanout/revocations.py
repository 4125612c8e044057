"""Tokens taken back before their time, on every node: each time a fact in the log (Ably protocol, "Revocation").

The fact's name says all of it: `revoked:<key name>:<issuedBefore>:<appliesAt>:<target>`, times in ms. So no revocation
takes the place of another in the compacted log, whichever nodes make them: what one took back stays taken back. Every
node reads it, this one too, and acts on it then and not before: so they all do the same. A fact ends an hour after its
moment, for then no token is left that it could be about; whichever node notices first takes it back from the log.

Belongs to the event loop.
"""

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from fanout.auth.keys import Key
from fanout.auth.revoked import FACTS_MAX, TARGET_KINDS, Fact, Revoked
from fanout.callbacks import outcome
from fanout.control import Control
from fanout.control import Fact as ControlFact
from fanout.errors import ClientError, SourceError, error

__all__ = ["REAUTH_MARGIN_MS", "Revocations"]

REAUTH_MARGIN_MS: Final = 30_000
"""How long clients have to come with another token, if they are given time."""

TARGET_CHARS: Final = 1_024
"""The longest target: a channel's name with its kind, and no client id is as long."""

_KIND: Final = "revoked"
_NAME: Final = re.compile(r"([^:]+):([0-9]{1,16}):([0-9]{1,16}):(.+)", re.DOTALL)
_SWEEP_S: Final = 60.0
_SWEPT: Final = 500  # facts taken back in one sweep; what is left waits for the next


class Revocations:
    """The revocations of a log: makes them, hears of them, and forgets them."""

    def __init__(
        self, revoked: Revoked, control: Control, review: Callable[[], None], clock: Callable[[], int]
    ) -> None:
        """`review` is called when more is revoked than before; `clock` reads the time in ms."""
        self._revoked = revoked
        self._control = control
        self._review = review
        self._clock = clock
        control.listen(_KIND, self._heard)

    async def revoke(
        self, key: Key, targets: Sequence[str], issued_before: int | None, *, margin: bool
    ) -> list[dict[str, Any]]:
        """Takes the targets' tokens of `key` back; what became of each, as REST shows it, once the log has it.

        A target that is named twice is taken back once. Raises ClientError 40003 for a moment that is none or yet to
        come, and 42910 if no more can be remembered.
        """
        now_ms = self._clock()
        before = now_ms if issued_before is None else issued_before
        if not 0 <= before <= now_ms:
            raise ClientError(error(40003, "issuedBefore is a time in ms, and not in the future"))
        if len(self._revoked) + len(targets) > FACTS_MAX:
            raise ClientError(error(42910, f"{FACTS_MAX} revocations count at a time"))
        applies_at = now_ms + REAUTH_MARGIN_MS if margin else now_ms
        facts = [Fact(key.name, target, before, applies_at) for target in dict.fromkeys(targets)]
        return list(await asyncio.gather(*map(self._tell, facts)))

    async def sweep(self) -> None:
        """Takes back from the log what has ended, once a minute; until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_S * random.uniform(0.5, 1.5))  # so that nodes do not all do it
            for fact in self._revoked.ended(self._clock(), _SWEPT):
                self._control.tell(_KIND, _name(fact), None)

    async def _tell(self, fact: Fact) -> dict[str, Any]:
        kind, _, name = fact.target.partition(":")
        if kind not in TARGET_KINDS or not name or len(fact.target) > TARGET_CHARS:
            reason = error(40003, f"a target is one of {', '.join(TARGET_KINDS)}, a colon, and a name")
            return {"target": fact.target, "error": reason.to_wire()}
        written: asyncio.Future[SourceError | None] = outcome(partial(self._control.tell, _KIND, _name(fact), {}))
        if await written is not None:
            return {"target": fact.target, "error": error(50003).to_wire()}
        return {"target": fact.target, "issuedBefore": fact.issued_before, "appliesAt": fact.applies_at}

    def _heard(self, name: str, value: ControlFact) -> None:
        match = _NAME.fullmatch(name)
        if match is None:
            return
        key_name, issued_before, applies_at, target = match.groups()
        fact = Fact(key_name, target, int(issued_before), int(applies_at))
        if value is None:
            self._revoked.forget(fact)
            return
        self._revoked.learn(fact)
        self._review()


def _name(fact: Fact) -> str:
    return f"{fact.key_name}:{fact.issued_before}:{fact.applies_at}:{fact.target}"
