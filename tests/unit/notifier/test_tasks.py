"""Which use-case hears of which event."""

from __future__ import annotations

from datetime import UTC, datetime

from notifier.store import Deliveries, Records
from notifier.tasks import queueing, telling
from notifier.webhook import WebhookPoster
from shared.apps import Apps
from shared.bus.routes import NOTIFIER, WEBHOOKS, types_for
from shared.clock import ManualClock
from shared.database import connect_engine
from shared.ids import system_ids

CLOCK = ManualClock(datetime(2026, 1, 31, tzinfo=UTC))
NO_APPS = Apps.of(())


def test_every_event_that_comes_to_the_notifier_is_handled() -> None:
    handlers = queueing(deliveries_on=Deliveries, apps=NO_APPS, clock=CLOCK)
    assert set(handlers) == set(types_for(NOTIFIER))


def test_every_event_that_comes_to_the_webhooks_worker_is_handled() -> None:
    never_connected = connect_engine("postgresql://127.0.0.1:9/", role=None, pool_size=1, application_name="test")
    handlers = telling(
        deliveries_on=Deliveries,
        records=Records(never_connected),
        poster=WebhookPoster(clock=CLOCK, connect_timeout_s=1, timeout_s=1),
        apps=NO_APPS,
        clock=CLOCK,
        ids=system_ids(),
    )
    assert set(handlers) == set(types_for(WEBHOOKS))
