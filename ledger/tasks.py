"""Inbound from the bus: which use-case handles which event. Translation only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection

from ledger import handlers
from shared.apps import Apps
from shared.bus.consumer import InBatches
from shared.catalog import Catalog
from shared.clock import Clock
from shared.events import Event, PurchaseVerified, RefundReceived
from shared.ids import IdSource
from shared.outcome import Handled

BooksOn = Callable[[Connection], handlers.Books]


def postings(*, books_on: BooksOn, catalog: Catalog, apps: Apps, ids: IdSource, clock: Clock) -> dict[str, InBatches]:
    """What the store says of purchases becomes postings, a batch in one transaction."""

    def apply(connection: Connection, events: Sequence[Event[Any]]) -> Handled:
        return handlers.apply_facts(
            events, books=books_on(connection), catalog=catalog, apps=apps, new_id=ids.event_id, now=clock.now()
        )

    return {PurchaseVerified.TYPE: InBatches(apply), RefundReceived.TYPE: InBatches(apply)}
