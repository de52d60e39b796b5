"""The reconciler's jobs: what is run for whom, and what is said of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from structlog.testing import capture_logs

from shared.apps import App, AppleApp
from shared.ids import AppId
from tests.support.app_store import AppStore
from tests.support.scripted_reconciliation import scene
from verifier.domain.reconciliation import StoreUnanswered
from verifier.schedule import breathing, reconciling

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
APPLE = AppleApp(bundle_id="com.example.game", app_apple_id=1234567890)


@cache
def chained() -> AppStore:
    return AppStore(now=NOW)


def never() -> bool:
    return False


@pytest.mark.parametrize(
    ("sandbox", "environments"), [("separate", {"production", "sandbox"}), ("refuse", {"production"})]
)
def test_an_app_is_asked_about_in_the_environments_that_it_takes_purchases_from(
    sandbox: str, environments: set[str]
) -> None:
    app = App(id=AppId("game"), name="Game", apple=APPLE.model_copy(update={"sandbox": sandbox}))
    past = scene(chained(), app, now=NOW)
    job = reconciling("notifications", reconciler=past.reconciler, apps=[app], every_s=900)
    job.work(never)
    assert {key.environment for key in past.records.states} == environments


def test_it_is_asked_again_when_its_time_has_come_and_not_before() -> None:
    app = App(id=AppId("game"), name="Game", apple=APPLE)
    past = scene(chained(), app, now=NOW)
    job = reconciling("notifications", reconciler=past.reconciler, apps=[app], every_s=900)
    for seconds, times in ((0, 1), (870, 1), (30, 2)):
        past.clock.advance(seconds)
        job.work(never)
        begun = {state.asked_at for state in past.records.states.values()}
        assert begun == {NOW + timedelta(seconds=900 if times == 2 else 0)}


def test_what_was_missed_and_what_went_wrong_is_logged() -> None:
    app = App(id=AppId("game"), name="Game", apple=APPLE.model_copy(update={"sandbox": "refuse"}))
    past = scene(chained(), app, now=NOW)
    past.tell()
    job = reconciling("notifications", reconciler=past.reconciler, apps=[app], every_s=900)
    with capture_logs() as logs:
        job.work(never)
        past.clock.advance(900)
        past.memory.troubles = [StoreUnanswered("503")]
        job.work(never)
    assert [(line["log_level"], line.get("missed"), line.get("error")) for line in logs] == [
        ("warning", 1, None),
        ("error", None, "503"),
    ]


def test_the_process_breathes_by_its_database() -> None:
    asked: list[int] = []
    job = breathing(lambda: asked.append(1))
    job.work(never)
    assert (asked, job.vital) == ([1], True)
