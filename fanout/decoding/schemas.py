"""What is known of the registry's schemas, and the thread that asks for the rest.

- A schema is *known*, *unknown* (the registry said that it has no such id; asked again after a minute), or *asked for*.
- A registry that does not answer is asked again every second. What needs one of its schemas waits, however long that
  is: what one node gave up after a time another one, which knows the schema already, would deliver.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from fanout.decoding.decoders import Decoders, Wanted
from fanout.decoding.registry import RegistryAway, SchemaUnknown

__all__ = ["ASKED", "READY", "Known", "Schemas"]

RETRY_S: Final = 1.0
UNKNOWN_S: Final = 60.0
ASKED_MAX: Final = 1_000  # schemas asked for at a time; what needs another one waits for these
UNKNOWN_MAX: Final = 10_000  # remembered: any number may stand where an id belongs

log = logging.getLogger("fanout.schemas")


class Known(NamedTuple):
    """How a schema stands: ready; or failing, for the reason; or neither, and then it is being asked for."""

    ready: bool
    reason: str = ""


READY: Final = Known(True)
ASKED: Final = Known(False)


class Schemas:
    """Answers at once, from any thread. `settled` is called on the asking thread after each round of questions."""

    def __init__(self, decoders: Decoders, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.decoders = decoders
        self._clock = clock
        self._changed = threading.Condition()
        self._known: set[Wanted] = set()
        self._unknown: dict[Wanted, tuple[float, str]] = {}  # until when, and what the registry said
        self._asked: dict[Wanted, None] = {}  # in the order in which they are asked for
        self._away = ""
        self.failure = ""
        """Why nothing is asked for any more; empty while all is well."""
        self._stopping = False
        self._settled: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="fanout-schemas", daemon=True)

    def start(self, settled: Callable[[], None]) -> None:
        """Begins to ask."""
        self._settled = settled
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, after the request that is under way (5 s at most). Blocks."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self.decoders.close()

    @property
    def away(self) -> str:
        """Why the registry is of no use now; empty when it answers, or is not needed."""
        return self._away

    def look(self, wanted: Wanted) -> Known:
        """How a schema stands now. It is asked for if it is not known."""
        if wanted in self._known:  # the way of nearly every record
            return READY
        with self._changed:
            until, said = self._unknown.get(wanted, (0.0, ""))
            if self._clock() < until:
                return Known(False, said)
            if wanted not in self._asked and len(self._asked) < ASKED_MAX:
                self._asked[wanted] = None
                self._changed.notify_all()
            return ASKED

    def _run(self) -> None:
        try:
            self._ask_and_tell()
        except BaseException as problem:  # what waits would wait for ever: the node must not look well
            log.exception("decoding has stopped")
            self.failure = f"decoding has stopped: {problem!r}"

    def _ask_and_tell(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked or self._stopping)
                if self._stopping:
                    return
                asked = list(self._asked)
            away = ""
            for wanted in asked:
                away = self._ask(wanted)
                if away or self._stopping:
                    break  # the others would wait as long for the same answer; they come first the next time
            if away and away != self._away:
                log.error("schemas cannot be had, records that need one wait: %s", away)
            self._away = away
            self._settled()
            if away:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, RETRY_S)

    def _ask(self, wanted: Wanted) -> str:
        """Asks for one schema; why there was no answer, if there was none."""
        unknown = ""
        try:
            self.decoders.prepare(wanted)
        except RegistryAway as problem:
            with self._changed:
                self._asked[wanted] = self._asked.pop(wanted)
            return str(problem)
        except SchemaUnknown as problem:
            unknown = str(problem)
        except Exception as problem:  # what the registry gave is no schema
            unknown = f"schema {wanted.schema_id} is no {wanted.format}: {problem}"
        with self._changed:
            if unknown:
                if len(self._unknown) >= UNKNOWN_MAX:
                    self._unknown.clear()
                self._unknown[wanted] = self._clock() + UNKNOWN_S, unknown
            else:
                self._known.add(wanted)  # as many as `Registry` fetches
            del self._asked[wanted]
        return ""
