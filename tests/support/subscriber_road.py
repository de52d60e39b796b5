"""The road of subscriptions on one database transaction: what arrives goes to the verifier, what that says to the
ledger, in whatever order the caller wants.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from ledger.domain.entitlements import Entitlement, Holder
from ledger.domain.subscriptions import SubscriptionKey
from ledger.handlers.facts import apply_facts
from ledger.handlers.subscriptions import hear_subscriptions
from shared.apps import Apps
from shared.catalog import Catalog
from shared.events import (
    Draft,
    NotificationReceived,
    PurchaseVerified,
    RefundReceived,
    RefundReversed,
    SubscriptionChanged,
    SubscriptionReported,
    SubscriptionState,
)
from shared.ids import AppId, TransactionId, UserId, notification_subject
from shared.money import CurrencyId
from shared.outcome import Handled
from tests.support.app_store import AppStore
from tests.support.ledger import balances_of
from tests.support.ledger_tables import tables_on
from tests.support.subscriber_life import A_MOMENT, Life, Said
from tests.support.subscriber_words import receipt_body, renewal_claims, transaction_claims
from tests.support.verifying import NOW, Answers, ask_about, event, ids, posted, receipt, token_issued
from verifier import handlers
from verifier.domain import read_receipt_answer
from verifier.store import PostgresRecords

GAME: Final = AppId("game")
FACTS: Final = (PurchaseVerified, RefundReceived, RefundReversed)


@dataclass(frozen=True)
class Subscriber:
    """A user, and one subscription of his at Apple; `token`: with what his app bought it."""

    user: UserId
    life: Life
    token: UUID | None = None

    @property
    def key(self) -> SubscriptionKey:
        return SubscriptionKey(GAME, "apple", "production", TransactionId(self.life.original))


@dataclass
class Road:
    """Verifier and ledger. What the verifier has said waits until the caller lets it arrive at the ledger."""

    connection: Connection
    store: AppStore
    apps: Apps
    catalog: Catalog
    now: datetime
    said: list[Draft] = field(default_factory=list)

    # ---- what arrives at the verifier -----------------------------------------------------------------------------

    def is_notified(self, subscriber: Subscriber, said: Said) -> None:
        """By Apple, as it told it then."""
        assert said.kind is not None
        kind, subtype = said.kind
        notification_id = str(ids.uuid())
        claims = transaction_claims(said, account_token=subscriber.token)
        payload = NotificationReceived(
            store="apple",
            notification_id=notification_id,
            notification_type=kind,
            subtype=subtype,
            signed_payload=self.store.notification(
                kind,
                claims,
                notification_id=notification_id,
                signedRenewalInfo=self.store.sign(renewal_claims(said)),
                status=said.status,
            ),
        )
        subject = notification_subject(app=GAME, store="apple", notification_id=notification_id)
        given = event(payload, subject=subject, user_id=None)
        self._says(handlers.receive_notifications([given], **self._checks()))

    def is_posted(self, subscriber: Subscriber, said: Said) -> None:
        """The user's app sends the transaction as it was signed then."""
        claims = transaction_claims(said, account_token=subscriber.token)
        given = posted(self.store, subscriber.user, claims)
        self._says(handlers.verify_transactions([given], **self._checks()))

    def is_told_the_token(self, subscriber: Subscriber) -> None:
        """The account token is the user's."""
        assert subscriber.token is not None
        self._says(handlers.issue_account_tokens([token_issued(subscriber.user, subscriber.token)], **self._records()))

    def is_shown_a_receipt(self, subscriber: Subscriber) -> None:
        """The user's app sends a receipt, for its newest transaction; the store answers as things are."""
        life, at = subscriber.life, subscriber.life.now + A_MOMENT
        body = receipt_body(life, at=at)
        answer = read_receipt_answer(body, asked="production", answered_at=at, product_types=lambda _: None)
        given = receipt(subscriber.user, life.says(life.last, at).transaction.transaction_id)
        word = ask_about(given, self.apps, self.store, Answers(answer), Answers(None))
        self._says(handlers.settle_receipts([(given, word)], apps=self.apps, **self._records()))

    def is_answered(self, subscriber: Subscriber) -> None:
        """Apple is asked how the subscription stands."""
        said = subscriber.life.answers()
        payload = SubscriptionReported(
            store="apple",
            environment="production",
            original_transaction_id=subscriber.key.original_transaction_id,
            status=said.status,
            signed_transaction=self.store.sign(transaction_claims(said, account_token=subscriber.token)),
            signed_renewal_info=self.store.sign(renewal_claims(said)),
        )
        given = event(payload, subject=subscriber.key.id, user_id=None)
        self._says(handlers.receive_reports([given], **self._checks()))

    def _says(self, handled: Handled) -> None:
        assert not handled.parked
        assert not handled.later
        self.said += handled.drafts

    def _records(self) -> dict[str, Any]:
        return {"records": PostgresRecords(self.connection), "catalog": self.catalog, "now": NOW}

    def _checks(self) -> dict[str, Any]:
        return {**self._records(), "signatures": self.store.verifier, "apps": self.apps}

    # ---- what arrives at the ledger -------------------------------------------------------------------------------

    def hears(self, draft: Draft) -> None:
        """What the verifier said."""
        given = event(draft.payload, subject=draft.subject, user_id=draft.user_id)
        tables = tables_on(self.connection)
        if isinstance(draft.payload, SubscriptionChanged):
            hear_subscriptions([given], tables=tables, catalog=self.catalog, now=self.now)
        elif isinstance(draft.payload, FACTS):
            handled = apply_facts(
                [given], tables=tables, catalog=self.catalog, apps=self.apps, new_id=ids.event_id, now=self.now
            )
            assert not handled.parked

    # ---- how it stands then ---------------------------------------------------------------------------------------

    def standing(self, subscriber: Subscriber) -> SubscriptionState | None:
        """What the user was told last, without how often."""
        told = tables_on(self.connection).subscriptions.lock([subscriber.key])[subscriber.key].told
        return None if told is None else replace(told, version=0)

    def entitlements(self, user: UserId) -> dict[str, Entitlement]:
        """What the user was told that he may use, without how often."""
        holder = Holder(GAME, "production", user)
        told = tables_on(self.connection).entitlements.lock([holder])[holder].told
        return {name: replace(each, version=0) for name, each in told.items() if each.active}

    def gems(self, user: UserId) -> int:
        return balances_of(self.connection, user).get(CurrencyId("gems"), 0)


# ---- what Apple's books say of the same ----------------------------------------------------------------------------


def due_gems(lives: Iterable[Life], catalog: Catalog) -> int:
    """Once for each period that was paid, less what of it is refunded, rounded in favour of who has it."""
    return sum(_due(life, catalog) for life in lives if not life.family)


def _due(life: Life, catalog: Catalog) -> int:
    due = 0
    for period in life.periods:
        product = catalog.find(app=GAME, product_id=period.product)
        assert product is not None
        whole = product.grants[CurrencyId("gems")]
        due += 0 if period.offer else whole - whole * period.refunded_milli // 100_000
    return due


def usable_until(lives: Iterable[Life]) -> datetime | None:
    """The latest of what they may be used until."""
    return max((until for life in lives if (until := life.usable_until) is not None), default=None)
