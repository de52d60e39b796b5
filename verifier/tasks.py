"""Inbound from the bus: which use-case handles which event. Translation only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection

from shared.apps import Apps
from shared.bus.consumer import InBatches, OneByOne
from shared.catalog import Catalog
from shared.clock import Clock
from shared.database import after_commit
from shared.events import (
    AccountTokenIssued,
    NotificationReceived,
    PurchaseRejected,
    PurchaseVerified,
    ReceiptSubmitted,
    SubscriptionReported,
    TransactionIdSubmitted,
    TransactionSubmitted,
)
from shared.metrics.counted import VERIFICATIONS
from shared.outcome import Handled, Parked, Tried, TryLater
from verifier import handlers
from verifier.domain import AppleTransaction, Rejected

Fact = TypeVar("Fact")

RecordsOn = Callable[[Connection], handlers.Records]


def local_checks(
    *, records_on: RecordsOn, signatures: handlers.Signatures, apps: Apps, catalog: Catalog, clock: Clock
) -> dict[str, InBatches]:
    """What is checked here, without asking the store: fast, so in batches."""

    def checking(handle: Callable[..., Handled]) -> InBatches:
        return InBatches(
            lambda connection, events: counted(
                connection,
                handle(
                    events,
                    records=records_on(connection),
                    signatures=signatures,
                    apps=apps,
                    catalog=catalog,
                    now=clock.now(),
                ),
            )
        )

    return {
        TransactionSubmitted.TYPE: checking(handlers.verify_transactions),
        NotificationReceived.TYPE: checking(handlers.receive_notifications),
        SubscriptionReported.TYPE: checking(handlers.receive_reports),
        AccountTokenIssued.TYPE: InBatches(
            lambda connection, events: handlers.issue_account_tokens(
                events, records=records_on(connection), catalog=catalog, now=clock.now()
            )
        ),
    }


def receipt_checks(
    *,
    records_on: RecordsOn,
    receipts: handlers.ReceiptStore,
    transactions: handlers.TransactionStore,
    signatures: handlers.Signatures,
    apps: Apps,
    catalog: Catalog,
    clock: Clock,
) -> dict[str, OneByOne[Any]]:
    """Receipts: only the store can tell, and it takes its time, so each on its own."""

    def ask_about_receipt(event: Any, before: Tried) -> handlers.ReceiptWord:
        return handlers.ask_about_receipt(
            event,
            before,
            receipts=receipts,
            transactions=transactions,
            signatures=signatures,
            apps=apps,
            now=clock.now(),
        )

    def settle(connection: Connection, answered: Sequence[tuple[Any, handlers.ReceiptWord]]) -> Handled:
        handled = handlers.settle_receipts(
            answered, records=records_on(connection), apps=apps, catalog=catalog, now=clock.now()
        )
        return counted(connection, handled)

    return {ReceiptSubmitted.TYPE: OneByOne(prepare=counted_unless_answered(ask_about_receipt), settle=settle)}


def lookups(
    *,
    records_on: RecordsOn,
    transactions: handlers.TransactionStore,
    signatures: handlers.Signatures,
    apps: Apps,
    catalog: Catalog,
    clock: Clock,
) -> dict[str, OneByOne[Any]]:
    """Bare transaction ids, likewise."""

    def look_up(event: Any, _before: Tried) -> AppleTransaction | Rejected:
        return handlers.look_up(event, transactions=transactions, signatures=signatures, apps=apps, now=clock.now())

    def settle(connection: Connection, answered: Sequence[tuple[Any, AppleTransaction | Rejected]]) -> Handled:
        handled = handlers.settle_lookups(
            answered, records=records_on(connection), apps=apps, catalog=catalog, now=clock.now()
        )
        return counted(connection, handled)

    return {TransactionIdSubmitted.TYPE: OneByOne(prepare=counted_unless_answered(look_up), settle=settle)}


def counted(connection: Connection, handled: Handled) -> Handled:
    """Has what the verifying came to counted, once it is committed."""
    after_commit(connection, lambda: _count(handled))
    return handled


def counted_unless_answered(ask: Callable[[Any, Tried], Fact]) -> Callable[[Any, Tried], Fact]:
    """Counts what was asked in vain; what was answered is counted when it is settled."""

    def asking(event: Any, before: Tried) -> Fact:
        try:
            return ask(event, before)
        except TryLater:
            VERIFICATIONS.add("later", "")
            raise
        except Parked:
            VERIFICATIONS.add("parked", "")
            raise

    return asking


def _count(handled: Handled) -> None:
    for payload in (draft.payload for draft in handled.drafts):
        if isinstance(payload, PurchaseVerified):
            VERIFICATIONS.add("verified", "")
        elif isinstance(payload, PurchaseRejected):
            VERIFICATIONS.add("rejected", payload.code)
    for _ in handled.later:
        VERIFICATIONS.add("later", "")
    for _ in handled.parked:
        VERIFICATIONS.add("parked", "")
