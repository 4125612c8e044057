"""Which handler answers a request: methods and paths.

A route is (method, path, handler). A segment of its path in braces stands for exactly one segment of the request's,
percent-decoded on its own, so that an encoded slash or colon belongs to the segment: `/channels/{channel}/messages`.
GET routes answer HEAD too. What a handler refuses with `ClientError` becomes the answer; so do unknown paths, and those
that take something but have nothing to show, when they are looked at (40400); and other methods (40500).
"""

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import unquote

from fanout.errors import ClientError, error
from fanout.transports.http import Handler, Request, Response
from fanout.transports.replies import error_reply, preflight

__all__ = ["Route", "Router"]

Route = tuple[str, str, Handler]


class Router:
    """A handler made of routes."""

    def __init__(self, routes: Sequence[Route]) -> None:
        """Of two routes for one request the first counts."""
        self._paths: dict[tuple[str, ...], dict[str, Handler]] = {}
        for method, path, handler in routes:
            self._paths.setdefault(tuple(path.split("/")), {}).setdefault(method, handler)

    async def __call__(self, request: Request) -> Response:
        """Answers a request; see `fanout.transports.http.Handler`."""
        try:
            return await self._route(request)
        except ClientError as refused:
            return error_reply(request, refused.info)

    async def _route(self, request: Request) -> Response:
        segments = request.path.split("/")
        for pattern, methods in self._paths.items():
            variables = _match(pattern, segments)
            if variables is None:
                continue
            method = "GET" if request.method == "HEAD" else request.method
            handler = methods.get(method)
            if handler is None and method == "GET":
                raise ClientError(error(40400, "there is nothing to see here"))
            if handler is None:
                return error_reply(request, error(40500), ("allow", ", ".join(sorted(methods))))
            return await handler(replace(request, variables=variables) if variables else request)
        if request.method == "OPTIONS":
            return preflight(request)  # so that a browser gets to read the 404
        raise ClientError(error(40400, "no such path"))


def _match(pattern: tuple[str, ...], segments: list[str]) -> dict[str, str] | None:
    """The values of the pattern's variables, or None if the path is another. Raises ClientError 40000 for bad UTF-8."""
    if len(pattern) != len(segments):
        return None
    variables: dict[str, str] = {}
    for expected, given in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            variables[expected[1:-1]] = given
        elif expected != given:
            return None
    try:
        return {name: unquote(given, errors="strict") for name, given in variables.items()}
    except UnicodeDecodeError:
        raise ClientError(error(40000, "the path is not UTF-8")) from None
