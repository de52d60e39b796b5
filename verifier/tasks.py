"""Inbound from the bus: which use-case handles which event. Translation only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection

from shared.apps import Apps
from shared.bus.consumer import InBatches, OneByOne
from shared.catalog import Catalog
from shared.clock import Clock
from shared.events import (
    AccountTokenIssued,
    NotificationReceived,
    ReceiptSubmitted,
    SubscriptionReported,
    TransactionIdSubmitted,
    TransactionSubmitted,
)
from shared.outcome import Handled, Tried
from verifier import handlers
from verifier.domain import AppleTransaction, Rejected

RecordsOn = Callable[[Connection], handlers.Records]


def local_checks(
    *, records_on: RecordsOn, signatures: handlers.Signatures, apps: Apps, catalog: Catalog, clock: Clock
) -> dict[str, InBatches]:
    """What is checked here, without asking the store: fast, so in batches."""

    def checking(handle: Callable[..., Handled]) -> InBatches:
        return InBatches(
            lambda connection, events: handle(
                events,
                records=records_on(connection),
                signatures=signatures,
                apps=apps,
                catalog=catalog,
                now=clock.now(),
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
        return handlers.settle_receipts(
            answered, records=records_on(connection), apps=apps, catalog=catalog, now=clock.now()
        )

    return {ReceiptSubmitted.TYPE: OneByOne(prepare=ask_about_receipt, settle=settle)}


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
        return handlers.settle_lookups(
            answered, records=records_on(connection), apps=apps, catalog=catalog, now=clock.now()
        )

    return {TransactionIdSubmitted.TYPE: OneByOne(prepare=look_up, settle=settle)}
