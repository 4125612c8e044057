"""Everybody present on a channel, for a program that holds a server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Protocol

from fanout.types import PresenceMessage

__all__ = ["everybody"]

PAGE: Final = 500  # members taken at once: under 2 ms of the loop


class Pages(Protocol):
    """Who is present, page by page; `fanout._core.Engine` answers this."""

    def members(
        self, channel: str, client_id: str | None, connection_id: str | None, cursor: str | None, limit: int, /
    ) -> tuple[list[PresenceMessage], str | None]:
        """A page of members, and the cursor of the next."""


async def everybody(pages: Pages, channel: str) -> AsyncIterator[PresenceMessage]:
    """The members in the order of their connections and clients, with others' turns of the loop between the pages.

    Who comes or goes meanwhile may be among them or not; nobody is twice.
    """
    cursor: str | None = None
    while True:
        members, cursor = pages.members(channel, None, None, cursor, PAGE)
        for member in members:
            yield member
        if cursor is None:
            return
        await asyncio.sleep(0)
