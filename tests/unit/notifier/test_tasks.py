"""Which use-case hears of which event."""

from __future__ import annotations

from datetime import UTC, datetime

from notifier.store.deliveries import Deliveries
from notifier.tasks import queueing
from shared.apps import Apps
from shared.bus.consumer import InBatches
from shared.bus.feed import Feed
from shared.bus.routes import NOTIFIER, types_for
from shared.clock import ManualClock
from shared.events import OUTWARD

CLOCK = ManualClock(datetime(2026, 1, 31, tzinfo=UTC))


def test_every_event_that_comes_to_the_notifier_is_handled_and_all_of_them_are_outward() -> None:
    handlers = queueing(deliveries_on=Deliveries, feed_on=Feed, apps=Apps.of(()), clock=CLOCK)
    assert set(handlers) == set(types_for(NOTIFIER)) == set(OUTWARD)


def test_they_are_handled_in_batches_since_nobody_outside_is_asked() -> None:
    handlers = queueing(deliveries_on=Deliveries, feed_on=Feed, apps=Apps.of(()), clock=CLOCK)
    assert all(isinstance(handler, InBatches) for handler in handlers.values())
