"""Inbound from the bus: which use-case handles which event. Translation only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from shared.apps import Apps
from shared.bus.consumer import InBatches, OneByOne
from shared.clock import Clock
from shared.events import AccountTokenIssued, NotificationReceived, ReceiptSubmitted, TransactionSubmitted
from verifier import handlers
from verifier.domain import ReceiptRefused, ReceiptValid

RecordsOn = Callable[[Connection], handlers.Records]


def local_checks(
    *, records_on: RecordsOn, signatures: handlers.Signatures, apps: Apps, clock: Clock
) -> dict[str, InBatches]:
    """What is checked here, without asking the store: fast, so in batches."""
    return {
        TransactionSubmitted.TYPE: InBatches(
            lambda connection, events: handlers.verify_transactions(
                events, records=records_on(connection), signatures=signatures, apps=apps, now=clock.now()
            )
        ),
        NotificationReceived.TYPE: InBatches(
            lambda connection, events: handlers.receive_notifications(
                events, records=records_on(connection), signatures=signatures, apps=apps, now=clock.now()
            )
        ),
        AccountTokenIssued.TYPE: InBatches(
            lambda connection, events: handlers.issue_account_tokens(
                events, records=records_on(connection), now=clock.now()
            )
        ),
    }


def store_checks(
    *, records_on: RecordsOn, store: handlers.ReceiptStore, apps: Apps, clock: Clock
) -> dict[str, OneByOne[Any]]:
    """What only the store can tell: it takes its time, so each on its own."""

    def settle(connection: Connection, event: Any, answer: ReceiptValid | ReceiptRefused) -> Any:
        return handlers.settle_receipt(event, answer, records=records_on(connection), apps=apps, now=clock.now())

    return {
        ReceiptSubmitted.TYPE: OneByOne(
            prepare=lambda event, tries_before: handlers.ask_store(event, tries_before, store=store, apps=apps),
            settle=settle,
        )
    }
