"""The internal API: what the gateway asks the ledger. Translation only.

Every call but the two health checks needs the service token; the app and whoever asked the gateway come in headers, and
are checked again here: a client reads its own wallet, a server key one of its app's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Annotated, Any, Protocol

from flask import Blueprint, Response, g, request
from pydantic import BaseModel, Field

from ledger.domain.books import WalletKey
from ledger.domain.statements import EntryPage, WalletEntry, WalletStatement
from ledger.handlers import PAGE_MAX
from shared.apps import App, Apps
from shared.clock import rfc3339
from shared.events import Environment
from shared.http import APP_HEADER, CALLER_HEADER, Problem, answer, malformed, not_found, read_caller, read_query
from shared.ids import AppId, UserId

PAGE_DEFAULT = 50
VERSION_DIGITS_MAX = 18
"""Any number of so many digits is one that a version can have (64 bits)."""

OPEN_ENDPOINTS = frozenset({"ledger.healthz", "ledger.readyz"})


class ReadEntries(Protocol):
    """Reads a page of a wallet's entries."""

    def __call__(self, key: WalletKey, *, before: int | None, limit: int) -> EntryPage: ...


@dataclass(frozen=True, slots=True)
class Queries:
    """What the API is answered from. Each raises DatabaseUnavailable."""

    wallet: Callable[[WalletKey], WalletStatement]
    entries: ReadEntries
    ready: Callable[[], None]


class WalletQuery(BaseModel):
    """Which of the user's wallets."""

    environment: Environment = "production"


class EntriesQuery(WalletQuery):
    """Which page: `after` is the `next` of the page before."""

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    after: Annotated[str | None, Field(pattern=rf"^[0-9]{{1,{VERSION_DIGITS_MAX}}}$")] = None


def routes(*, queries: Queries, apps: Apps, service_token: str) -> Blueprint:
    """The API as a blueprint."""
    blueprint = Blueprint("ledger", __name__)

    @blueprint.before_request
    def identify() -> None:
        if request.endpoint not in OPEN_ENDPOINTS:
            _require_service_token(service_token)
            app = _app(apps)
            g.user_id = _user_for(app, UserId((request.view_args or {})["user_id"]))
            g.app_id = app.id

    @blueprint.get("/v1/users/<user:user_id>/wallet")
    def wallet(user_id: str) -> Response:  # noqa: ARG001  read by identify
        query = read_query(WalletQuery)
        return answer(queries.wallet(WalletKey(g.app_id, query.environment, g.user_id)))

    @blueprint.get("/v1/users/<user:user_id>/wallet/entries")
    def entries(user_id: str) -> Response:  # noqa: ARG001  read by identify
        query = read_query(EntriesQuery)
        key = WalletKey(g.app_id, query.environment, g.user_id)
        before = None if query.after is None else int(query.after)
        return answer(_page(queries.entries(key, before=before, limit=query.limit)))

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return answer({"status": "ok"})

    @blueprint.get("/readyz")
    def readyz() -> Response:
        queries.ready()
        return answer({"status": "ready"})

    return blueprint


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


def _app(apps: Apps) -> App:
    name = request.headers.get(APP_HEADER, "")
    app = apps.by_id.get(AppId(name))
    if app is None:
        raise malformed(f"{APP_HEADER}: no such app")
    return app


def _user_for(app: App, user_id: UserId) -> UserId:
    """The user, if this caller may read the wallet. Raises Problem: 400 no caller, 403 no such key, 404 not theirs."""
    caller = read_caller(request.headers.get(CALLER_HEADER, ""))
    if caller is None:
        raise malformed(f"{CALLER_HEADER}: client:<user id> or server:<key id> is needed")
    kind, name = caller
    if kind == "client" and name != user_id:
        raise not_found("there is no such wallet")
    if kind == "server" and name not in {key.id for key in app.server_keys}:
        raise Problem(403, "forbidden", "Forbidden", "this key is none of the app's")
    if "\0" in user_id:  # PostgreSQL has no such text, so no such user either
        raise not_found("there is no such wallet")
    return user_id


def _page(page: EntryPage) -> dict[str, Any]:
    return {
        "entries": [_entry(entry) for entry in page.entries],
        "next": None if page.next_before is None else str(page.next_before),
    }


def _entry(entry: WalletEntry) -> dict[str, Any]:
    document = {
        "id": entry.id,
        "kind": entry.kind,
        "currency": entry.currency,
        "amount": entry.amount,
        "balance_after": entry.balance_after,
        "version": entry.version,
        "created_at": rfc3339(entry.created_at),
    }
    return document if entry.purchase_id is None else {**document, "purchase_id": entry.purchase_id}
