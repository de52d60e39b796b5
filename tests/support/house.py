"""The house in one process, for tests that need its data rather than its processes: everything is recorded by the
gateway, verified, posted and queued for webhooks by the services' own handlers, as their own roles, on one database.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Engine

from gateway import handlers as gateway
from gateway.store.journal import PostgresJournal
from ledger.desk import Desk
from ledger.domain.books import WalletKey
from ledger.domain.commands import Answer, Command, Grant, IdempotencyKey, PlaceHold, Request, Spend
from ledger.tables import tables_on
from ledger.tasks import postings
from notifier.store.deliveries import Deliveries
from notifier.tasks import queueing
from shared.apps import Apps, load_apps
from shared.bus.consumer import ConsumerRuntime
from shared.bus.feed import Feed
from shared.bus.routes import CONSUMERS, LEDGER, NOTIFIER, VERIFIER, VERIFIER_STORE, ConsumerName
from shared.bus.wake import Waker
from shared.catalog import Catalog, load_catalog
from shared.clock import SystemClock
from shared.database import connect_engine, transact
from shared.events import ReceiptSubmitted, TransactionSubmitted
from shared.ids import AppId, PurchaseId, TransactionId, UserId, parse_public_id, system_ids
from shared.money import CurrencyId
from tests.support.app_store import AppStore
from tests.support.verifying import Answers, valid
from verifier.domain import TransactionUnknown
from verifier.store import PostgresRecords
from verifier.tasks import local_checks, receipt_checks

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "deploy" / "examples"
GAME: Final = AppId("game")
GEMS: Final = CurrencyId("gems")
TRACE: Final = "0123456789abcdef0123456789abcdef"
ROLES: Final[Mapping[ConsumerName, str]] = {
    VERIFIER: "purser_verifier",
    VERIFIER_STORE: "purser_verifier",
    LEDGER: "purser_ledger",
    NOTIFIER: "purser_notifier",
}


@dataclass
class House:
    """Gateway, verifier, ledger and notifier of one database; `settle` works off what is due."""

    owner: Engine
    engines: Mapping[str, Engine]
    apps: Apps
    catalog: Catalog
    store: AppStore
    wakers: Mapping[str, Waker]
    clock: SystemClock = field(default_factory=SystemClock)
    ids: Any = field(default_factory=system_ids)
    receipts: Answers = field(default_factory=lambda: Answers(None))

    # ---- what arrives at the gateway ------------------------------------------------------------------------------

    def submit(self, user: str, claims: dict[str, Any], *, settled: bool = True) -> PurchaseId:
        """The user's app posts a transaction as StoreKit 2 gives it."""
        proof = TransactionSubmitted("apple", TransactionId(claims["transactionId"]), self.store.sign(claims))
        return self._submit(user, proof, settled=settled)

    def submit_receipt(self, user: str, receipt: str, claims: dict[str, Any]) -> PurchaseId:
        """The user's app posts a receipt, in which the store finds this transaction."""
        self.receipts.answer = valid(claims)
        return self._submit(user, ReceiptSubmitted("apple", TransactionId(claims["transactionId"]), receipt))

    def _submit(self, user: str, proof: TransactionSubmitted | ReceiptSubmitted, *, settled: bool = True) -> PurchaseId:
        submitted = gateway.submit_purchase(
            proof, app=GAME, user_id=UserId(user), journal=self._journal(), trace_id=TRACE, now=self.clock.now()
        )
        if settled:
            self.settle()
        return submitted.id

    def account_token(self, user: str) -> UUID:
        token = gateway.account_token(
            UserId(user),
            app=GAME,
            new_token=self.ids.uuid(),
            journal=self._journal(),
            trace_id=TRACE,
            now=self.clock.now(),
        )
        self.settle()
        return token

    def notify(self, kind: str, claims: dict[str, Any], *, settled: bool = True, **data: Any) -> str:
        """The App Store says something; the notification's text."""
        signed = self.store.notification(kind, claims, notification_id=self.ids.uuid(), **data)
        gateway.receive_notification(
            signed,
            apps=self.apps,
            signatures=self.store.verifier,
            journal=self._journal(),
            trace_id=TRACE,
            now=self.clock.now(),
        )
        if settled:
            self.settle()
        return signed

    def _journal(self) -> PostgresJournal:
        role = "purser_gateway"
        return PostgresJournal(engine=self.engines[role], waker=self.wakers[role], ids=self.ids)

    # ---- what is asked of the ledger ------------------------------------------------------------------------------

    def spend(self, user: str, amount: int, *, reference: str | None = None, item: str | None = None) -> UUID:
        return self._order(user, Spend(self.wallet(user), GEMS, amount, reference, item), prefix="spd")

    def hold(self, user: str, amount: int, *, reference: str | None = None) -> UUID:
        return self._order(user, PlaceHold(self.wallet(user), GEMS, amount, 3600, reference), prefix="hld")

    def grant(self, user: str, amount: int, *, reason: str) -> UUID:
        return self._order(user, Grant(self.wallet(user), GEMS, amount, reason), prefix="grt", actor="server:backend")

    def ask(self, user: str, request: Request, *, actor: str | None = None) -> Answer:
        """Asks as the user's own client, with a key that names the user too."""
        key = IdempotencyKey("test", f"{user}-{self.ids.uuid()}", hashlib.sha256(user.encode()).digest())
        return self._desk().execute(Command(request, actor or f"client:{user}", TRACE, key=key))

    def ask_for_refund(self, user: str, purchase: PurchaseId, *, reason: str) -> None:
        asked = self._desk().ask(
            app=GAME,
            purchase_id=purchase,
            only_user=UserId(user),
            actor=f"client:{user}",
            reason=reason,
            trace_id=TRACE,
        )
        assert asked is not None
        self.settle()

    def balance(self, user: str) -> int:
        """The user's gems in production."""
        funds = self._desk().wallet(self.wallet(user)).balances.get(GEMS)
        return 0 if funds is None else funds.balance

    def wallet(self, user: str) -> WalletKey:
        return WalletKey(GAME, "production", UserId(user))

    def _order(self, user: str, request: Request, *, prefix: Any, actor: str | None = None) -> UUID:
        answer = self.ask(user, request, actor=actor)
        assert answer.status == 201, answer.document
        found = parse_public_id(answer.document.split('"id":"')[1].split('"')[0], prefix=prefix)
        assert found is not None
        self.settle()
        return found

    def _desk(self) -> Desk:
        return Desk(
            engine=self.engines["purser_ledger"], catalog=self.catalog, apps=self.apps, ids=self.ids, clock=self.clock
        )

    # ---- the bus --------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Handles all that is due, and what follows from it."""
        while due := self._due():
            for consumer, event_type, event_ids in due:
                self._handle(consumer, event_type, event_ids)

    def undelivered(self) -> list[Any]:
        """What nobody has handled."""
        return self.rows("select consumer, type, state, error from journal.delivery order by event_id")

    def _due(self) -> list[Any]:
        return self.rows(
            "select consumer, type, array_agg(event_id order by event_id) from journal.delivery"
            " where state = 'waiting' and due_at <= clock_timestamp() and consumer = any(%(known)s)"
            " group by consumer, type order by 3",
            known=list(ROLES),
        )

    def _handle(self, consumer: ConsumerName, event_type: str, event_ids: list[Any]) -> None:
        runtime = self.runtime(consumer)
        if consumer != VERIFIER_STORE:
            runtime.handle(event_type, event_ids)
            return
        for opened in runtime.open(event_ids):
            runtime.handle_one(event_type, opened)

    def runtime(self, consumer: ConsumerName) -> ConsumerRuntime:
        """Who handles what a consumer hears of."""
        return ConsumerRuntime(
            consumer=CONSUMERS[consumer],
            handlers=self._handlers(consumer),
            engine=self.engines[ROLES[consumer]],
            waker=self.wakers[ROLES[consumer]],
            ids=self.ids,
        )

    def _handlers(self, consumer: ConsumerName) -> Mapping[str, Any]:
        known: dict[str, Any] = {"apps": self.apps, "clock": self.clock}
        checks: dict[str, Any] = {
            **known,
            "records_on": PostgresRecords,
            "signatures": self.store.verifier,
            "catalog": self.catalog,
        }
        if consumer == VERIFIER:
            return local_checks(**checks)
        if consumer == VERIFIER_STORE:
            return receipt_checks(**checks, receipts=self.receipts, transactions=Answers(TransactionUnknown()))
        if consumer == LEDGER:
            return postings(tables_on=tables_on(self.ids), catalog=self.catalog, ids=self.ids, **known)
        return queueing(deliveries_on=Deliveries, feed_on=Feed, **known)

    # ---- what there is --------------------------------------------------------------------------------------------

    def rows(self, sql: str, **parameters: Any) -> list[Any]:
        """Rows, read (or changed) as the database's owner."""

        def run(connection: Any) -> list[Any]:
            result = connection.exec_driver_sql(sql, parameters or None)
            return list(result) if result.returns_rows else []

        return transact(self.owner, run)


@contextlib.contextmanager
def house_in(database_url: str, *, apps: Apps | None = None) -> Iterator[House]:
    """The house on a migrated database; the example's app and catalogue, unless other apps are given."""
    names = {"purser_gateway", *ROLES.values()}
    engines = {
        name: connect_engine(
            database_url, role=name, pool_size=8, application_name="test", autocommit=name == "purser_gateway"
        )
        for name in names
    }
    owner = connect_engine(database_url, role=None, pool_size=4, application_name="test-owner")
    wakers = {name: Waker(engine) for name, engine in engines.items()}
    yield House(
        owner=owner,
        engines=engines,
        wakers=wakers,
        apps=apps or load_apps(EXAMPLES / "apps.toml"),
        catalog=load_catalog(EXAMPLES / "catalog.toml"),
        store=AppStore(now=SystemClock().now()),
    )
    for waker in wakers.values():
        waker.close()
    for engine in [owner, *engines.values()]:
        engine.dispose()
