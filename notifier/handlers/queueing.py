"""Who is to hear of an event: it gets its place in the feed, and a delivery for each endpoint that wants it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from notifier.domain.deliveries import DeliveryKey
from notifier.domain.endpoints import endpoints_for
from notifier.handlers.ports import Deliveries, Feed
from shared.apps import Apps
from shared.events import Event
from shared.outcome import Handled


def queue_deliveries(
    events: Sequence[Event[Any]], *, apps: Apps, deliveries: Deliveries, feed: Feed, now: datetime
) -> Handled:
    """One delivery of each event to each endpoint of its app that wants to hear of it, and its place in the feed."""
    wanted = {
        DeliveryKey(event.app, endpoint.id, event.id): event.type
        for event in events
        for endpoint in endpoints_for(apps, app=event.app, event_type=event.type)
    }
    deliveries.add(wanted, now=now)
    feed.append(events)  # last: others wait for their places until this transaction ends
    return Handled()
