"""The verifier's use-cases on one database transaction, and what is put before them: claims, receipts, bare ids,
notifications and account tokens of the example game.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from shared.apps import Apps
from shared.catalog import Catalog, load_catalog
from shared.events import (
    AccountTokenIssued,
    Draft,
    Event,
    NotificationReceived,
    Payload,
    PurchaseRejected,
    ReceiptSubmitted,
    Renewal,
    SubscriptionReported,
    TransactionIdSubmitted,
    TransactionSubmitted,
)
from shared.ids import (
    AppId,
    TransactionId,
    UserId,
    account_subject,
    notification_subject,
    purchase_id,
    subscription_id,
    system_ids,
)
from shared.outcome import Handled, Tried
from tests.support.app_store import AppStore
from verifier import handlers
from verifier.domain import (
    AppleTransaction,
    ReceiptRefused,
    ReceiptValid,
    Rejected,
    TransactionFound,
    TransactionUnknown,
    read_transaction,
)
from verifier.store import PostgresRecords

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GAME = AppId("game")
TOKEN = UUID("6ba7b810-9dad-41d1-80b4-00c04fd430c8")

ids = system_ids()


def event(payload: Payload, *, subject: str, user_id: str | None) -> Event[Any]:
    return Event(
        id=ids.event_id(),
        app=GAME,
        subject=subject,
        user_id=None if user_id is None else UserId(user_id),
        payload=payload,
        trace_id=ids.trace_id(),
        causation_id=None,
        occurred_at=NOW,
        recorded_at=NOW,
    )


def subject_of(user_id: str, transaction_id: str) -> str:
    return purchase_id(app=GAME, store="apple", transaction_id=transaction_id, user_id=user_id)


def submitted(user_id: str, token: str, transaction_id: str) -> Event[Any]:
    payload = TransactionSubmitted(
        store="apple", transaction_id=TransactionId(transaction_id), signed_transaction=token
    )
    return event(payload, subject=subject_of(user_id, transaction_id), user_id=user_id)


def posted(store: AppStore, user_id: str, claims: dict[str, Any]) -> Event[Any]:
    return submitted(user_id, store.sign(claims), claims["transactionId"])


def receipt(user_id: str, transaction_id: str, *, vouched: bool = False) -> Event[Any]:
    payload = ReceiptSubmitted(
        store="apple", transaction_id=TransactionId(transaction_id), receipt="cmVjZWlwdA==", vouched=vouched
    )
    return event(payload, subject=subject_of(user_id, transaction_id), user_id=user_id)


def named(user_id: str, transaction_id: str, *, vouched: bool = False) -> Event[Any]:
    payload = TransactionIdSubmitted(store="apple", transaction_id=TransactionId(transaction_id), vouched=vouched)
    return event(payload, subject=subject_of(user_id, transaction_id), user_id=user_id)


def found(store: AppStore, claims: dict[str, Any]) -> TransactionFound:
    return TransactionFound(store.sign(claims), "production")


def notified(store: AppStore, kind: str, claims: dict[str, Any] | None, **data: Any) -> Event[Any]:
    notification_id = str(ids.uuid())
    payload = NotificationReceived(
        store="apple",
        notification_id=notification_id,
        notification_type=kind,
        subtype=None,
        signed_payload=store.notification(kind, claims, notification_id=notification_id, **data),
    )
    subject = notification_subject(app=GAME, store="apple", notification_id=notification_id)
    return event(payload, subject=subject, user_id=None)


def reported(
    store: AppStore, claims: dict[str, Any], renewal: dict[str, Any] | None, *, status: int, **changes: Any
) -> Event[Any]:
    """What the store answered when it was asked how a subscription stands."""
    original_id = claims["originalTransactionId"]
    said: dict[str, Any] = {
        "store": "apple",
        "environment": "production",
        "original_transaction_id": TransactionId(original_id),
        "status": status,
        "signed_transaction": store.sign(claims),
        "signed_renewal_info": None if renewal is None else store.sign(renewal),
    }
    return event(SubscriptionReported(**said | changes), subject=subscription_of(original_id), user_id=None)


def subscription_of(original_id: str, *, environment: str = "production") -> str:
    return subscription_id(app=GAME, store="apple", environment=environment, original_transaction_id=original_id)


def token_issued(user_id: str, token: UUID = TOKEN) -> Event[Any]:
    return event(AccountTokenIssued(token), subject=account_subject(app=GAME, user_id=user_id), user_id=user_id)


@cache
def example_catalog() -> Catalog:
    return load_catalog(Path("deploy/examples/catalog.toml"))


class Desk:
    """The use-cases on one open database transaction."""

    def __init__(self, connection: Connection, store: AppStore, apps: Apps, *, now: datetime = NOW) -> None:
        self._records = PostgresRecords(connection)
        self._store = store
        self._apps = apps
        self.now = now

    def handle(self, given: Event[Any]) -> list[Draft]:
        handled = self.handled(given)
        assert not handled.parked
        return list(handled.drafts)

    def handled(self, *given: Event[Any]) -> Handled:
        known: Any = {"records": self._records, "catalog": example_catalog(), "now": self.now}
        local: Any = known | {"signatures": self._store.verifier, "apps": self._apps}
        match given[0].payload:
            case TransactionSubmitted():
                return handlers.verify_transactions(given, **local)
            case NotificationReceived():
                return handlers.receive_notifications(given, **local)
            case SubscriptionReported():
                return handlers.receive_reports(given, **local)
            case _:
                return handlers.issue_account_tokens(given, **known)

    def settle(self, given: Event[Any], answer: ReceiptValid | ReceiptRefused, *, looked_up: Any = None) -> list[Draft]:
        """The store answers a receipt; asked about the claimed transaction by itself, it says `looked_up`, or that it
        knows none."""
        asked = Answers(answer), Answers(looked_up or TransactionUnknown())
        word = ask_about(given, self._apps, self._store, *asked, now=self.now)
        return list(settle_receipts([(given, word)], self._records, self._apps, now=self.now).drafts)

    def look_up(self, given: Event[Any], looked_up: Any) -> list[Draft]:
        stated = look_up(given, self._apps, self._store, Answers(looked_up), now=self.now)
        return list(settle_lookups([(given, stated)], self._records, self._apps, now=self.now).drafts)


def settle_receipts(
    answered: list[tuple[Event[Any], handlers.ReceiptWord]],
    records: handlers.Records,
    apps: Apps,
    *,
    now: datetime = NOW,
) -> Handled:
    return handlers.settle_receipts(answered, records=records, apps=apps, catalog=example_catalog(), now=now)


def settle_lookups(
    answered: list[tuple[Event[Any], AppleTransaction | Rejected]],
    records: handlers.Records,
    apps: Apps,
    *,
    now: datetime = NOW,
) -> Handled:
    return handlers.settle_lookups(answered, records=records, apps=apps, catalog=example_catalog(), now=now)


class Answers:
    """A store whose answer is given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked = 0

    def verify(self, receipt: str, *, app: Any) -> Any:
        self.asked += 1
        return self.answer

    def find(self, transaction_id: TransactionId, *, app: Any) -> Any:
        self.asked += 1
        return self.answer


def ask_about(
    given: Event[Any],
    apps: Apps,
    store: AppStore,
    receipts: Answers,
    transactions: Answers,
    before: Tried = Tried(),  # noqa: B008 - a value
    *,
    now: datetime = NOW,
) -> handlers.ReceiptWord:
    return handlers.ask_about_receipt(
        given,
        before,
        receipts=receipts,
        transactions=transactions,
        signatures=store.verifier,
        apps=apps,
        now=now,
    )


def look_up(
    given: Event[Any], apps: Apps, store: AppStore, transactions: Answers, *, now: datetime = NOW
) -> AppleTransaction | Rejected:
    return handlers.look_up(given, transactions=transactions, signatures=store.verifier, apps=apps, now=now)


def said(drafts: list[Draft]) -> list[str]:
    return [draft.payload.TYPE for draft in drafts]


def code(drafts: list[Draft]) -> str:
    (draft,) = drafts
    assert isinstance(draft.payload, PurchaseRejected)
    return draft.payload.code


def valid(
    *claims: dict[str, Any],
    bundle_id: str = "com.example.game",
    renewals: Mapping[TransactionId, Renewal] | None = None,
) -> ReceiptValid:
    statements = tuple(read_transaction(stated) for stated in claims)
    transactions = tuple(stated for stated in statements if isinstance(stated, AppleTransaction))
    assert len(transactions) == len(claims), "what cannot be read is in no receipt"
    return ReceiptValid(transactions, "production", bundle_id, 1234567890, renewals or {})
