"""What the REST routes need, with stand-ins for what a test does not care about."""

from typing import Any

from fanout.auth.connection_key import ConnectionKeys
from fanout.session.behalf import Behalf
from fanout.session.limits import Limits
from fanout.session.resume import ConnectionTable
from fanout.stats import Stats
from fanout.transports.rest import Api
from tests.support.credentials import SECRET

__all__ = ["rest_api"]

NOW_MS = 1_000


def rest_api(**needs: Any) -> Api:
    """The needs given, by their names in `Api`; at least the authenticator, the engine and the publisher."""
    keys, table = ConnectionKeys(SECRET), ConnectionTable(ttl_ms=120_000, now=lambda: NOW_MS)
    usual: dict[str, Any] = {
        "history": needs["engine"],  # the stand-in of the engine answers for both
        "behalf": Behalf(keys, table),
        "stats": Stats(),
        "clock": lambda: NOW_MS,
        "limits": Limits(),
    }
    return Api(**(usual | needs))
