"""Inbound from the bus: which use-case handles which event. Translation only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from ledger.handlers import ports
from ledger.handlers.facts import apply_facts
from shared.apps import Apps
from shared.bus.consumer import InBatches
from shared.catalog import Catalog
from shared.clock import Clock
from shared.events import Event, PurchaseVerified, RefundDeclined, RefundReceived, RefundReversed
from shared.ids import IdSource
from shared.outcome import Handled

FACTS = (PurchaseVerified, RefundReceived, RefundReversed, RefundDeclined)


@dataclass(frozen=True, slots=True)
class Tables:
    """All that the use-cases write, within one transaction."""

    books: ports.Books
    requests: ports.Requests
    commissions: ports.Commissions


def postings(
    *, tables_on: Callable[[Connection], Tables], catalog: Catalog, apps: Apps, ids: IdSource, clock: Clock
) -> dict[str, InBatches]:
    """What the store says of purchases becomes postings, a batch in one transaction."""

    def apply(connection: Connection, events: Sequence[Event[Any]]) -> Handled:
        tables = tables_on(connection)
        return apply_facts(
            events,
            books=tables.books,
            requests=tables.requests,
            commissions=tables.commissions,
            catalog=catalog,
            apps=apps,
            new_id=ids.event_id,
            now=clock.now(),
        )

    return {fact.TYPE: InBatches(apply) for fact in FACTS}
