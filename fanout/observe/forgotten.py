"""A warning when message ids are forgotten before their time: repeats of these messages are not recognised any more.

Ids are kept, and bounded, by the engine (`rust/engine/src/dedup.rs`).
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

__all__ = ["warn_of_forgotten"]

PERIOD_S: Final = 60.0
"""Between two looks, and so between two warnings."""

log = logging.getLogger(__name__)


async def warn_of_forgotten(forgotten: Callable[[], int]) -> None:
    """Looks now and then how many there have been, and warns if there are more, until cancelled."""
    told = 0
    while True:
        await asyncio.sleep(PERIOD_S)
        if (count := forgotten()) > told:
            log.warning(
                "%d message ids were forgotten within two minutes, since more than 4 million came: a publish of these"
                " that is sent again is delivered twice",
                count - told,
            )
            told = count
