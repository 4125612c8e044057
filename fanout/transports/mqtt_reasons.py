"""What the numbered errors are in MQTT: reason codes (MQTT 5.0 §2.4), return codes (MQTT 3.1.1 §3.2.2.3, §3.9.3).

One table says it for all packets; a packet that does not know a reason code says that something is wrong. Pure.
"""

from typing import Final

from fanout.errors import ErrorInfo

__all__ = [
    "BAD_AUTHENTICATION", "CLIENT_ID", "CONTINUITY", "FILTER", "KEEP_ALIVE", "MALFORMED", "MOVED", "NOT_FOUND",
    "NO_SHARED", "NO_SUBSCRIPTION", "NO_WILDCARDS", "PAYLOAD", "PROTOCOL", "QUOTA", "RECEIVE_MAXIMUM", "SHUTTING_DOWN",
    "TAKEN_OVER", "TOO_LARGE", "TOPIC", "TOPIC_ALIAS", "UNAVAILABLE", "UNSPECIFIED", "VERSION", "connack",
    "disconnect", "puback", "return_code", "suback",
]  # fmt: skip

NO_SUBSCRIPTION: Final = 0x11
UNSPECIFIED: Final = 0x80
MALFORMED: Final = 0x81
PROTOCOL: Final = 0x82
CONTINUITY: Final = 0x83
"""An implementation's own: of what a subscription is owed, something cannot be given any more."""
VERSION: Final = 0x84
CLIENT_ID: Final = 0x85
BAD_CREDENTIALS: Final = 0x86
NOT_AUTHORIZED: Final = 0x87
UNAVAILABLE: Final = 0x88
BUSY: Final = 0x89
SHUTTING_DOWN: Final = 0x8B
BAD_AUTHENTICATION: Final = 0x8C
KEEP_ALIVE: Final = 0x8D
TAKEN_OVER: Final = 0x8E
FILTER: Final = 0x8F
TOPIC: Final = 0x90
NOT_FOUND: Final = 0x92
RECEIVE_MAXIMUM: Final = 0x93
TOPIC_ALIAS: Final = 0x94
TOO_LARGE: Final = 0x95
RATE: Final = 0x96
QUOTA: Final = 0x97
PAYLOAD: Final = 0x99
MOVED: Final = 0x9C
NO_SHARED: Final = 0x9E
NO_WILDCARDS: Final = 0xA2

_BY_NUMBER: Final = {
    40009: TOO_LARGE,
    40010: TOPIC,
    40012: CLIENT_ID,
    40013: PAYLOAD,
    42924: RATE,
    80003: SHUTTING_DOWN,
    80016: TAKEN_OVER,
    80020: CONTINUITY,
    90003: CONTINUITY,
    90005: CONTINUITY,
    90010: QUOTA,
}
_BY_STATUS: Final = {400: UNSPECIFIED, 401: NOT_AUTHORIZED, 429: QUOTA, 500: UNSPECIFIED}
_KNOWN: Final = {
    "connack": {
        UNSPECIFIED, MALFORMED, PROTOCOL, VERSION, CLIENT_ID, BAD_CREDENTIALS, NOT_AUTHORIZED, UNAVAILABLE, BUSY,
        BAD_AUTHENTICATION, TOPIC, TOO_LARGE, QUOTA, PAYLOAD, MOVED,
    },
    "disconnect": {
        UNSPECIFIED, MALFORMED, PROTOCOL, CONTINUITY, NOT_AUTHORIZED, BUSY, SHUTTING_DOWN, KEEP_ALIVE, TAKEN_OVER,
        FILTER, TOPIC, RECEIVE_MAXIMUM, TOPIC_ALIAS, TOO_LARGE, RATE, QUOTA, PAYLOAD, MOVED,
    },
    "puback": {UNSPECIFIED, CONTINUITY, NOT_AUTHORIZED, TOPIC, QUOTA, PAYLOAD},
    "suback": {UNSPECIFIED, CONTINUITY, NOT_AUTHORIZED, FILTER, QUOTA, NO_SHARED, NO_WILDCARDS},
}  # fmt: skip
_RETURN_CODES: Final = {
    VERSION: 1,
    CLIENT_ID: 2,
    UNAVAILABLE: 3,
    BUSY: 3,
    QUOTA: 3,
    BAD_CREDENTIALS: 4,
    BAD_AUTHENTICATION: 4,
}


def connack(wrong: ErrorInfo) -> int:
    """Why a client is not let in."""
    if wrong.code in (40101, 40102) or wrong.code // 10 in (4013, 4014):
        return BAD_CREDENTIALS
    if wrong.code == 80003 or wrong.status >= 500:
        return UNAVAILABLE
    return _said("connack", wrong)


def disconnect(wrong: ErrorInfo) -> int:
    """Why a client is sent away."""
    return _said("disconnect", wrong)


def puback(wrong: ErrorInfo) -> int:
    """Why a message is not in the log."""
    return QUOTA if wrong.code == 40009 else _said("puback", wrong)


def suback(wrong: ErrorInfo) -> int:
    """Why a filter is not subscribed to."""
    if wrong.code == 40009:
        return QUOTA
    return FILTER if wrong.code in (40000, 40010) else _said("suback", wrong)


def return_code(reason: int) -> int:
    """What CONNACK of MQTT 3.1.1 says in the place of a reason code."""
    return 0 if reason == 0 else _RETURN_CODES.get(reason, 5)


def _said(packet: str, wrong: ErrorInfo) -> int:
    reason = _BY_NUMBER.get(wrong.code) or _BY_STATUS.get(wrong.status, UNSPECIFIED)
    return reason if reason in _KNOWN[packet] else UNSPECIFIED
