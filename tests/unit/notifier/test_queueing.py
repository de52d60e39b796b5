"""Who is to hear of an event gets a delivery, and the event gets its place in the feed, last of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from notifier.domain.deliveries import DeliveryKey
from notifier.handlers.queueing import queue_deliveries
from shared.apps import Apps
from shared.clock import ManualClock
from shared.events import Event, Payload
from shared.ids import AppId, UserId
from shared.outcome import Handled
from tests.support.notifier import CREDITED, REJECTED, apps_with, endpoint
from tests.support.seeded import seeded_ids

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
URL = "https://backend.example/hooks"
IDS = seeded_ids(1, clock=ManualClock(NOW))


class Written:
    """What was written, in its order, as the tables would have it."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.wanted: dict[DeliveryKey, str] = {}
        self.fed: list[Any] = []

    def add(self, wanted: Mapping[DeliveryKey, str], *, now: datetime) -> None:
        assert now == NOW
        self.order.append("deliveries")
        self.wanted.update(wanted)

    def append(self, events: Sequence[Event[Any]]) -> None:
        self.order.append("feed")
        self.fed.extend(event.id for event in events)


def event(payload: Payload, *, app: str = "game") -> Event[Payload]:
    return Event(IDS.event_id(), AppId(app), "pur_1", UserId("alice"), payload, "0" * 32, None, NOW, NOW)


def queued(apps: Apps, *events: Event[Payload]) -> Written:
    written = Written()
    handled = queue_deliveries(events, apps=apps, deliveries=written, feed=written, now=NOW)  # type: ignore[arg-type]
    assert handled == Handled()
    return written


def test_each_event_is_queued_for_each_endpoint_of_its_app_that_wants_it() -> None:
    apps = apps_with(endpoint(URL), endpoint(URL, id="wallets", events=["wallet.*"]))
    credit, rejection = event(CREDITED), event(REJECTED)
    assert [
        (key.app, key.endpoint_id, key.event_id, told) for key, told in queued(apps, credit, rejection).wanted.items()
    ] == [
        ("game", "backend", credit.id, "wallet.credited"),
        ("game", "wallets", credit.id, "wallet.credited"),
        ("game", "backend", rejection.id, "purchase.rejected"),
    ]


def test_an_event_that_no_endpoint_wants_is_in_the_feed_all_the_same() -> None:
    apps = apps_with(endpoint(URL, events=["purchase.completed"]))
    events = [event(CREDITED), event(CREDITED, app="unheard-of")]
    written = queued(apps, *events)
    assert written.wanted == {}
    assert written.fed == [each.id for each in events]


def test_the_feed_comes_last_since_others_wait_for_its_end() -> None:
    assert queued(apps_with(endpoint(URL)), event(CREDITED)).order == ["deliveries", "feed"]
