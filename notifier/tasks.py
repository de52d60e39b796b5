"""Inbound from the bus: which use-case handles which event. Translation only."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from notifier.handlers.ports import Deliveries, Feed
from notifier.handlers.queueing import queue_deliveries
from shared.apps import Apps
from shared.bus.consumer import InBatches
from shared.clock import Clock
from shared.events import OUTWARD

DeliveriesOn = Callable[[Connection], Deliveries]
FeedOn = Callable[[Connection], Feed]


def queueing(*, deliveries_on: DeliveriesOn, feed_on: FeedOn, apps: Apps, clock: Clock) -> dict[str, InBatches]:
    """Outward events get their places in the feed, and become deliveries: nobody outside is asked, so in batches."""
    queue = InBatches(
        lambda connection, events: queue_deliveries(
            events, apps=apps, deliveries=deliveries_on(connection), feed=feed_on(connection), now=clock.now()
        )
    )
    return dict.fromkeys(OUTWARD, queue)
