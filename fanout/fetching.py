"""Fetching a small document over HTTP: bounded in time and size, and from where the operator said and nowhere else."""

import asyncio
import time
import urllib.request
from http.client import HTTPException
from typing import IO, Any, Final

__all__ = ["fetch"]

_TIMEOUT_S: Final = 5.0
_PIECE_BYTES: Final = 16_384


async def fetch(url: str, limit: int) -> bytes:
    """The document at `url`, fetched by a thread. Raises OSError if it cannot be had within 5 s, or is longer than
    `limit`; a redirection is not followed.
    """
    return await asyncio.to_thread(_fetch, url, limit)


class _Nowhere(urllib.request.HTTPRedirectHandler):
    """Refuses to be sent elsewhere."""

    def redirect_request(self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> None:
        """Answers that no other request is to be made: the redirection itself is the answer then, an error."""


_opener = urllib.request.build_opener(_Nowhere)


def _fetch(url: str, limit: int) -> bytes:
    until = time.monotonic() + _TIMEOUT_S
    request = urllib.request.Request(url, headers={"Accept": "application/json", "User-Agent": "fanout"})
    document = bytearray()
    try:
        with _opener.open(request, timeout=_TIMEOUT_S) as response:
            while piece := response.read1(_PIECE_BYTES):
                document += piece
                if len(document) > limit:
                    raise OSError(f"the document is longer than {limit} bytes")
                if time.monotonic() > until:
                    raise TimeoutError("the document came too slowly")
    except HTTPException as problem:
        raise OSError(f"the answer is not HTTP: {problem!r}") from problem
    return bytes(document)
