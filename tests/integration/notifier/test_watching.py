"""What the endpoints have not taken, as it is told at the scrape."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from notifier.domain.endpoints import EndpointKey
from notifier.store import watching
from notifier.store.watching import deliveries_watched
from shared.apps import EndpointId
from shared.database import transact
from shared.ids import AppId
from shared.metrics.read import Family
from tests.support.notifier import SECRET, Notifier, apps_with, credited, endpoint, notifying
from tests.support.receiver import Receiver, receiving

GAME, BACKEND, IDLE = AppId("game"), EndpointId("backend"), EndpointId("idle")
KEYS = [EndpointKey(GAME, BACKEND), EndpointKey(GAME, IDLE)]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(SECRET) as running:
        yield running


@pytest.fixture
def notifier(database: str, receiver: Receiver) -> Iterator[Notifier]:
    """`backend` wants everything, `idle` nothing of what is told here."""
    idle = endpoint(receiver.url, id=IDLE, events=["refund_request.updated"])
    with notifying(database, apps_with(endpoint(receiver.url), idle)) as running:
        yield running


def watched(notifier: Notifier, *, later: timedelta = timedelta(0)) -> dict[str, dict[tuple[str, ...], float]]:
    """The metrics, each with its values by the values of its labels; read with the notifier's own rights."""
    now = notifier.clock.now() + later
    families: list[Family] = transact(notifier.engine, lambda on: deliveries_watched(on, KEYS, now=now))
    return {known.name: {tuple(sample.labels.values()): sample.value for sample in known.samples} for known in families}


def test_what_waits_is_told_by_endpoint_with_the_age_of_the_oldest(notifier: Notifier) -> None:
    notifier.tell(credited(1), credited(2))
    told = watched(notifier, later=timedelta(minutes=5))
    counts, ages = told["purser_webhook_deliveries"], told["purser_webhook_oldest_waiting_seconds"]
    assert counts[GAME, BACKEND, "waiting"] == 2
    assert {counts[GAME, IDLE, state] for state in ("waiting", "exhausted", "parked")} == {0}
    assert 300 <= ages[GAME, BACKEND] < 360
    assert ages[GAME, IDLE] == 0


def test_a_backlog_is_counted_up_to_a_limit(notifier: Notifier, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = watching._DELIVERIES.replace(str(watching.COUNTED_MAX), "3")
    monkeypatch.setattr(watching, "_DELIVERIES", limited)
    notifier.tell(*(credited(version) for version in range(1, 6)))
    assert watched(notifier)["purser_webhook_deliveries"][GAME, BACKEND, "waiting"] == 3
