"""Whose request it is that reaches an internal API, and whether they may make it.

The gateway has checked the credential and says in headers whose it was. Who may do what stands in the apps file, and is
asked again here: an API that moves currency, or sends webhooks again, does not rest on another one's care.

    caller = admitted(apps=apps, needs=Right("read", clients=everywhere), service_token=token)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any

from flask import Response, request

from shared.apps import App, Apps, Scope
from shared.http import APP_HEADER, CALLER_HEADER, CallerKind, Problem, malformed, not_found, read_caller
from shared.ids import UNADDRESSABLE, AppId, UserId


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asked the gateway: a user's device (`client`, by the user's id), or the app's own backend (`server`, by
    the id of its key)."""

    app: App
    kind: CallerKind
    name: str

    @property
    def actor(self) -> str:
        """As what they do is written down."""
        return f"{self.kind}:{self.name}"

    @property
    def only_user(self) -> UserId | None:
        """The user that a client is bound to; None: any of the app's."""
        return UserId(self.name) if self.kind == "client" else None

    def addressed(self, user_id: str) -> UserId:
        """The user of a path, if this caller may act for them. Raises Problem: 404."""
        if self.only_user not in {None, user_id} or user_id in UNADDRESSABLE or not _storable(user_id):
            raise not_found("there is no such user")
        return UserId(user_id)


@dataclass(frozen=True, slots=True)
class Right:
    """What it takes to make a call: the scope of a server key, or to be a client of an app whose clients may."""

    scope: Scope
    clients: Callable[[App], bool]


@dataclass(frozen=True, slots=True)
class Door:
    """What stands before the calls of an internal API; a body of more than `body_bytes_max` does not get in."""

    apps: Apps
    service_token: str
    body_bytes_max: int

    def guarded(
        self, view: Callable[..., Response], services: object, *, needs: Right | None
    ) -> Callable[..., Response]:
        """The view for whoever has the right, with them as its caller; for everybody, without one, if it needs none."""
        if needs is None:
            return lambda **parts: view(services, **parts)

        def admitting(**parts: Any) -> Response:
            caller = admitted(apps=self.apps, needs=needs, service_token=self.service_token)
            request.max_content_length = self.body_bytes_max
            return view(services, caller, **parts)

        return admitting


def everywhere(_app: App) -> bool:
    """Clients of every app may."""
    return True


def nowhere(_app: App) -> bool:
    """No client may."""
    return False


def admitted(*, apps: Apps, needs: Right, service_token: str) -> Caller:
    """Whoever asks, and has the right to.

    Raises Problem: 401 without our service token, 400 when the headers do not say who asks, 404 for a user that cannot
    be, 403 for a caller that lacks the right.
    """
    _require_service_token(service_token)
    caller = _identify(apps)
    _require(caller, needs)
    return caller


def _require_service_token(expected: str) -> None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not compare_digest(given.encode(), expected.encode()):
        raise Problem(
            401,
            "unauthorized",
            "Unauthorized",
            "this API is for the gateway: the service token is missing or wrong",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _identify(apps: Apps) -> Caller:
    app = apps.by_id.get(AppId(request.headers.get(APP_HEADER, "")))
    if app is None:
        raise malformed(f"{APP_HEADER}: no such app")
    caller = read_caller(request.headers.get(CALLER_HEADER, ""))
    if caller is None:
        raise malformed(f"{CALLER_HEADER}: client:<user id> or server:<key id> is needed")
    kind, name = caller
    if not _storable(name):
        raise not_found("there is no such user")
    return Caller(app, kind, name)


def _require(caller: Caller, right: Right) -> None:
    if caller.kind == "client":
        if not right.clients(caller.app):
            raise _forbidden("this call takes a server key")
        return
    scopes = {key.id: key.scopes for key in caller.app.server_keys}.get(caller.name)
    if scopes is None:
        raise _forbidden("this key is none of the app's")
    if right.scope not in scopes:
        raise _forbidden(f"this key lacks the scope {right.scope!r}")


def _forbidden(detail: str) -> Problem:
    return Problem(403, "forbidden", "Forbidden", detail)


def _storable(text: str) -> bool:
    """PostgreSQL has no text with a NUL in it, so nobody is named so."""
    return "\0" not in text
