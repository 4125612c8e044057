"""Changing the credential of a connection that goes on (Ably protocol, "Connection life").

A client sends AUTH with another token, by itself or because it was asked to with an AUTH of ours. A token that is good
for the same client makes what it allows count from then on, also for channels that are attached already; CONNECTED
says so. Any other ends the connection.
"""

from dataclasses import replace

from fanout.auth.credentials import Presented
from fanout.auth.keys import app_of
from fanout.errors import ClientError, error
from fanout.session.effects import Effect, Reply
from fanout.session.ports import Authenticator
from fanout.types import Identity
from fanout.wire import Action, ClientFrame

__all__ = ["ask", "reidentified", "shown_token"]


def ask() -> list[Effect]:
    """AUTH: the client is to send another token."""
    return [Reply({"action": Action.AUTH})]


def shown_token(frame: ClientFrame) -> str:
    """The token in a client's AUTH. Raises ClientError 40101 if there is none."""
    if frame.auth is None or not frame.auth.access_token:
        raise ClientError(error(40101, "AUTH carries auth.accessToken"))
    return frame.auth.access_token


def reidentified(before: Identity, token: str, authenticator: Authenticator, now_ms: int) -> Identity:
    """Who a client is from now on that was `before`. Raises ClientError: 40102 for somebody else, or as for a connect.

    A token for anybody goes on as who the client is.
    """
    after = authenticator.identify(Presented(token, is_token=True, client_id=None), now_ms)
    if app_of(after.key_name) != app_of(before.key_name):
        raise ClientError(error(40102, "the token is of another application"))
    if after.client_id == "*":
        return replace(after, client_id=before.client_id)
    if after.client_id != before.client_id:
        raise ClientError(error(40102, "the token is for another client id than the connection"))
    return after
