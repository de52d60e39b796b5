"""The ledger's internal API on ports that answer as they are told to, and keep what they were asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from flask import Flask
from flask.testing import FlaskClient

from ledger.api import Queries, routes
from ledger.domain.belongings import EntitlementList, EntitlementStatement, SubscriptionPage, SubscriptionPlace
from ledger.domain.books import WalletKey
from ledger.domain.commands import Answer, Command
from ledger.domain.entitlements import Holder
from ledger.domain.refund_requests import NotEligible, RefundRequestView
from ledger.domain.statements import EntryPage, Funds, WalletEntry, WalletStatement
from shared.apps import Apps, parse_apps
from shared.database import DatabaseUnavailable
from shared.http import install_conventions
from shared.ids import AppId, PurchaseId, UserId
from tests.support.ledger import COINS, GEMS, NOW
from tests.support.seeded import seeded_ids

TOKEN = "service-token"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ARCADE = AppId("arcade")

_KEYS = {
    "backend": ["read", "spend", "grant", "admin"],
    "reader": ["read"],
    "spender": ["spend"],
    "granter": ["grant"],
    "admin": ["admin"],
}


def _app(name: str, *, client_may_spend: bool, digest: str) -> str:
    keys = "".join(
        f'[[apps.server_keys]]\nid = "{key}"\nsha256 = "{number}{digest * 63}"\nscopes = {scopes}\n'
        for number, (key, scopes) in enumerate(_KEYS.items())
    )
    return (
        f'[[apps]]\nid = "{name}"\nname = "{name}"\n[apps.apple]\nbundle_id = "com.example.{name}"\n'
        f"[apps.wallet]\nclient_may_spend = {str(client_may_spend).lower()}\n{keys}"
    )


APPS: Apps = parse_apps(
    _app("game", client_may_spend=False, digest="a") + _app("arcade", client_may_spend=True, digest="b")
)
"""Two apps with a key per scope and one with all; in the arcade clients may spend."""


@dataclass
class Ports:
    """Answers every call, and keeps what was asked."""

    asked: list[Any] = field(default_factory=list)
    away: bool = False
    page: EntryPage = field(default_factory=lambda: EntryPage([entry()], next_before=1))
    done: Answer = field(default_factory=lambda: Answer(201, '{"id":"spd_1"}'))
    request: RefundRequestView | NotEligible | None = None
    following: SubscriptionPlace | None = None
    owned: Sequence[EntitlementStatement] = ()

    def wallet(self, key: WalletKey) -> WalletStatement:
        self._keep(key)
        return WalletStatement(key.user_id, key.environment, 3, {GEMS: Funds(-70, 0, 0, 70)})

    def entries(self, key: WalletKey, *, before: int | None, limit: int) -> EntryPage:
        self._keep((key, before, limit))
        return self.page

    def subscriptions(self, holder: Holder, *, after: SubscriptionPlace | None, limit: int) -> SubscriptionPage:
        self._keep((holder, after, limit))
        return SubscriptionPage(holder, [], next_after=self.following)

    def entitlements(self, holder: Holder) -> EntitlementList:
        self._keep(holder)
        return EntitlementList(holder, self.owned)

    def ready(self) -> None:
        self._keep("ready")

    def metrics(self) -> bytes:
        return b"purser_ledger_audit_problems 0\n"

    def execute(self, command: Command) -> Answer:
        self._keep(command)
        return self.done

    def ask(
        self,
        *,
        app: AppId,
        purchase_id: PurchaseId,
        only_user: UserId | None,
        actor: str,
        reason: str | None,
        trace_id: str,
    ) -> RefundRequestView | NotEligible | None:
        self._keep((app, purchase_id, only_user, actor, reason, trace_id))
        return self.request

    def find(self, *, app: AppId, id: UUID, only_user: UserId | None) -> RefundRequestView | None:
        self._keep((app, id, only_user))
        assert not isinstance(self.request, NotEligible)
        return self.request

    def _keep(self, what: Any) -> None:
        if self.away:
            raise DatabaseUnavailable("away")
        self.asked.append(what)


def entry(**changes: Any) -> WalletEntry:
    """A wallet's entry that nothing is known to have caused, but for the changes."""
    known: dict[str, Any] = {"purchase_id": None, "spend_id": None, "grant_id": None, "reference": None} | changes
    return WalletEntry(
        id="ent_1",
        kind="purchase",
        currency=GEMS,
        amount=100,
        balance_after=100,
        version=1,
        created_at=NOW,
        **known,
    )


def client_of(ports: Ports) -> FlaskClient:
    """The API on these ports."""
    app = Flask(__name__, static_folder=None)
    install_conventions(app, ids=seeded_ids(1))
    queries = Queries(
        wallet=ports.wallet,
        entries=ports.entries,
        subscriptions=ports.subscriptions,
        entitlements=ports.entitlements,
        ready=ports.ready,
        metrics=ports.metrics,
    )
    app.register_blueprint(
        routes(
            queries=queries,
            commands=ports.execute,
            refund_requests=ports,
            apps=APPS,
            currencies={GEMS, COINS},
            service_token=TOKEN,
        )
    )
    return app.test_client()


def headers(
    caller: str = "client:alice", *, token: str = TOKEN, app: str = "game", key: str | None = None
) -> dict[str, str]:
    """As the gateway sends them; `key` is the caller's Idempotency-Key."""
    sent = {
        "Authorization": f"Bearer {token}",
        "X-Purser-App": app,
        "X-Purser-Caller": caller,
        "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
    }
    return sent if key is None else {**sent, "Idempotency-Key": key}
