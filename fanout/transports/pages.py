"""The page at `/`: a few static files, and the demo key for those who may have it.

- The files are read once, when the routes are made; there is no path from a request to the file system.
- The page may load nothing from elsewhere and run nothing written into it (Content-Security-Policy, level 3).
- A demo key is given out only if the server was told to, and only to a browser that reached this server by a loopback
  name: a foreign site whose name was pointed at this machine (DNS rebinding) is told that there is none.
"""

from collections.abc import Sequence
from importlib import resources
from typing import Final
from urllib.parse import urlsplit

import orjson

from fanout.transports.http import Handler, Request, Response

__all__ = ["pages"]

_FILES: Final = {  # path: file of fanout/console, media type
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/chat.js": ("chat.js", "text/javascript; charset=utf-8"),
    "/client.js": ("client.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",  # the socket of the same host and port too
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS: Final = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-cache"),
)
_SECRET_HEADERS: Final = (("x-content-type-options", "nosniff"), ("cache-control", "no-store"))


def pages(demo_key: str | None) -> Sequence[tuple[str, str, Handler]]:
    """The routes of the page: method, path, handler. With `demo_key` None the page asks its reader for a key."""
    console = resources.files("fanout").joinpath("console")
    routes = [
        ("GET", path, _file(Response(200, console.joinpath(name).read_bytes(), media_type, _HEADERS)))
        for path, (name, media_type) in _FILES.items()
    ]
    return [*routes, ("GET", "/demo.json", _demo(demo_key))]


def _file(response: Response) -> Handler:
    async def handler(_request: Request) -> Response:
        return response

    return handler


def _demo(demo_key: str | None) -> Handler:
    async def handler(request: Request) -> Response:
        key = demo_key if _is_loopback(request.header("host")) else None
        return Response(200, orjson.dumps({"key": key}), "application/json", _SECRET_HEADERS)

    return handler


def _is_loopback(host: str) -> bool:
    """Whether a Host field (RFC 9110 §7.2) names this machine itself."""
    try:
        return urlsplit(f"//{host}").hostname in _LOOPBACK
    except ValueError:  # brackets that do not close
        return False
