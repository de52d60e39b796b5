"""Which outcome is which problem. The one place of the gateway that knows HTTP's numbers for errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from flask import Flask, Response

from gateway.api.credentials import CredentialRejected, KeysUnavailable
from gateway.domain.callers import ScopeRejected, UserIdInvalid, UserRejected, UserUnnamed
from gateway.domain.feeds import BookmarkUnknown
from gateway.domain.purchases import ProofInvalid
from gateway.domain.services import ServiceUnavailable
from gateway.handlers import PurchaseUnknown
from shared.events import EventUnknown
from shared.http import Problem, malformed, not_found, unavailable
from shared.jws import JwsMalformed, JwsUntrusted
from shared.notifications import NotificationInvalid, NotificationRejected


def install_errors(app: Flask) -> None:
    """Makes the gateway's own errors problems."""
    for error_class, problem_of in _PROBLEMS.items():
        app.register_error_handler(error_class, _answering(problem_of))


def unauthorized(detail: str, *, scheme: str = "Bearer") -> Problem:
    """401, with the challenge that HTTP asks for (RFC 9110, 11.6.1)."""
    headers = {"WWW-Authenticate": f'{scheme} realm="purser"'}
    return Problem(401, "unauthorized", "Unauthorized", detail, headers=headers)


def _answering(problem_of: Callable[[Exception], Problem]) -> Callable[[Exception], Response]:
    return lambda error: problem_of(error).response()


_PROBLEMS: Final[Mapping[type[Exception], Callable[[Exception], Problem]]] = {
    CredentialRejected: lambda error: unauthorized(str(error)),
    KeysUnavailable: lambda _: unavailable("the app's login provider does not give its keys; nothing was done"),
    ScopeRejected: lambda error: Problem(403, "forbidden", "Forbidden", str(error)),
    UserRejected: lambda error: not_found(str(error)),
    UserUnnamed: lambda error: malformed(str(error)),
    UserIdInvalid: lambda error: malformed(f"user: {error}"),
    ProofInvalid: lambda error: malformed(str(error)),
    PurchaseUnknown: lambda _: not_found("there is no such purchase"),
    BookmarkUnknown: lambda _: malformed("after: this list has no such place: it is another's, or it was lost"),
    EventUnknown: lambda _: unavailable("a newer release recorded it, and this process cannot read it yet"),
    JwsMalformed: lambda error: malformed(f"signedPayload: {error}"),
    JwsUntrusted: lambda error: unauthorized(f"signedPayload: {error}", scheme="JWS"),
    NotificationInvalid: lambda error: malformed(f"signedPayload: {error}"),
    NotificationRejected: lambda error: unauthorized(f"signedPayload: {error}", scheme="JWS"),
    ServiceUnavailable: lambda error: unavailable(str(error)),
}
