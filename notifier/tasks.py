"""Inbound from the bus: which use-case handles which event. Translation only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection

from notifier import handlers
from shared.apps import Apps
from shared.bus.consumer import InBatches, OneByOne
from shared.clock import Clock
from shared.events import OUTWARD, WebhookQueued
from shared.ids import IdSource
from shared.outcome import Handled

DeliveriesOn = Callable[[Connection], handlers.Deliveries]

JITTER_MAX = 1.2


def queueing(*, deliveries_on: DeliveriesOn, apps: Apps, clock: Clock) -> dict[str, InBatches]:
    """Outward events become deliveries: nobody outside is asked, so in batches."""
    queue = InBatches(
        lambda connection, events: handlers.queue_deliveries(
            events, apps=apps, deliveries=deliveries_on(connection), now=clock.now()
        )
    )
    return dict.fromkeys(OUTWARD, queue)


def telling(
    *,
    deliveries_on: DeliveriesOn,
    records: handlers.Records,
    poster: handlers.Poster,
    apps: Apps,
    clock: Clock,
    ids: IdSource,
) -> dict[str, OneByOne[Any]]:
    """Deliveries become attempts: an endpoint takes its time, so each on its own."""

    def attempt(queued: Any, _before: Any) -> handlers.Fact:
        return handlers.attempt(queued, apps=apps, records=records, poster=poster)

    def settle(connection: Connection, attempted: Sequence[tuple[Any, handlers.Fact]]) -> Handled:
        deliveries = deliveries_on(connection)
        return Handled.together(
            handlers.settle(queued, fact, deliveries=deliveries, jitter=ids.uniform(1.0, JITTER_MAX), now=clock.now())
            for queued, fact in attempted
        )

    return {WebhookQueued.TYPE: OneByOne(prepare=attempt, settle=settle)}
