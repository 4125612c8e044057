"""REST answers as the SDKs read them (Ably protocol, "REST" and "Errors"): encoding, errors, envelope, CORS.

- `Accept` decides the encoding, the query parameter `format` where it says nothing; JSON otherwise.
- An error's number stands in the body and in headers, by which SDKs tell our errors from a proxy's.
- `envelope=json` (or `msgpack`) puts status and headers into the body, for browsers that may not read them.
- CORS allows any origin by name: the credential is an API key, which a foreign page does not have. So it must never be
  added to an answer that needs no key and tells a secret.
"""

from typing import Any, Final

from fanout.errors import ErrorInfo
from fanout.transports.http import Request, Response
from fanout.wire import JSON, MSGPACK, encode

__all__ = ["MEDIA_TYPES", "accepted_wire", "error_headers", "error_reply", "preflight", "reply", "with_cors"]

MEDIA_TYPES: Final = {"application/json": JSON, "application/x-msgpack": MSGPACK}

_NAMES: Final = {wire: name for name, wire in MEDIA_TYPES.items()}
_FORMATS: Final = {"json": JSON, "msgpack": MSGPACK}
_ALLOW_HEADERS: Final = (
    "authorization, content-type, accept, x-ably-version, ably-agent, x-ably-clientid, x-ably-devicetoken, "
    "x-ably-devicesecret, x-ably-envelope, last-event-id"
)
_EXPOSE_HEADERS: Final = "link, x-ably-errorcode, x-ably-errormessage, content-type"


def reply(request: Request, value: Any, status: int = 200, *headers: tuple[str, str]) -> Response:
    """An answer with a body of maps, lists, text and numbers; binary only if `accepted_wire` is MSGPACK."""
    envelope = _FORMATS.get(request.query.get("envelope", ""))
    if envelope is not None:
        value = {"statusCode": status, "headers": _joined(headers), "response": value}
        return with_cors(request, Response(200, encode(value, envelope), _NAMES[envelope]))
    wire = accepted_wire(request)
    return with_cors(request, Response(status, encode(value, wire), _NAMES[wire], headers))


def error_reply(request: Request, info: ErrorInfo, *headers: tuple[str, str]) -> Response:
    """The answer to what a client cannot have."""
    return reply(request, {"error": info.to_wire()}, info.status, *error_headers(info), *headers)


def error_headers(info: ErrorInfo) -> tuple[tuple[str, str], ...]:
    """An error's number and text, as header fields."""
    return ("x-ably-errorcode", str(info.code)), ("x-ably-errormessage", info.message)


def accepted_wire(request: Request) -> int:
    """The encoding that the client wants to read, its envelope aside."""
    envelope = _FORMATS.get(request.query.get("envelope", ""))
    if envelope is not None:
        return envelope
    for entry in request.header("accept").split(","):
        wire = MEDIA_TYPES.get(entry.partition(";")[0].strip().lower())
        if wire is not None:
            return wire
    return _FORMATS.get(request.query.get("format", ""), JSON)


def with_cors(request: Request, response: Response) -> Response:
    """Lets the page that asks read the answer (Fetch standard, "CORS protocol")."""
    origin = request.header("origin")
    if not origin:
        return response
    return response.with_headers(
        ("access-control-allow-origin", origin),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", _EXPOSE_HEADERS),
        ("vary", "origin"),
    )


def preflight(request: Request) -> Response:
    """The answer to a browser that asks what it may ask."""
    return with_cors(request, Response(204)).with_headers(
        ("access-control-allow-methods", "GET, POST, PUT, PATCH, DELETE"),
        ("access-control-allow-headers", _ALLOW_HEADERS),
        ("access-control-max-age", "86400"),
    )


def _joined(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Headers as an envelope holds them: repeated ones joined by commas."""
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined
