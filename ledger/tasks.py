"""Inbound from the bus: which use-case handles which event. Translation only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection

from ledger.handlers.facts import apply_facts
from ledger.handlers.ports import Tables
from ledger.handlers.subscriptions import hear_subscriptions
from shared.apps import Apps
from shared.bus.consumer import InBatches
from shared.catalog import Catalog
from shared.clock import Clock
from shared.events import (
    Event,
    PurchaseVerified,
    RefundDeclined,
    RefundReceived,
    RefundReversed,
    SubscriptionChanged,
)
from shared.ids import IdSource
from shared.outcome import Handled

FACTS = (PurchaseVerified, RefundReceived, RefundReversed, RefundDeclined)
"""What is said of purchases; what is said of subscriptions beside them, `hear_subscriptions` takes."""


def postings(
    *, tables_on: Callable[[Connection], Tables], catalog: Catalog, apps: Apps, ids: IdSource, clock: Clock
) -> dict[str, InBatches]:
    """What the store says of purchases becomes postings, a batch in one transaction."""

    def apply(connection: Connection, events: Sequence[Event[Any]]) -> Handled:
        return apply_facts(
            events,
            tables=tables_on(connection),
            catalog=catalog,
            apps=apps,
            new_id=ids.event_id,
            now=clock.now(),
        )

    def hear(connection: Connection, events: Sequence[Event[Any]]) -> Handled:
        return hear_subscriptions(events, tables=tables_on(connection), catalog=catalog, now=clock.now())

    return {**{fact.TYPE: InBatches(apply) for fact in FACTS}, SubscriptionChanged.TYPE: InBatches(hear)}
