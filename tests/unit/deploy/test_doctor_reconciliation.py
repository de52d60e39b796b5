"""What the doctor says of what the App Store said and never came here."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.doctor.findings import Outcome
from deploy.doctor.reconciliation import check_reconciliation, read_reconciliations
from shared.apps import App, AppleApp, Apps
from shared.clock import ManualClock
from shared.ids import AppId
from verifier.apple.memory import KEY_REFUSED
from verifier.domain.reconciliation import Key, Reconciliation

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GAME = AppId("game")
WELL = Reconciliation(
    Key(GAME, "production", "notifications"), checked_at=NOW - timedelta(minutes=2, seconds=5), missed=3
)
SANDBOX = replace(WELL, key=Key(GAME, "sandbox", "notifications"), missed=0)


def failing(since: timedelta, *, error: str = "503", of: Reconciliation = WELL, **changes: Any) -> Reconciliation:
    return replace(of, error=error, failing_since=NOW - since, **changes)


def begun(ago: timedelta, **changes: Any) -> Reconciliation:
    return Reconciliation(SANDBOX.key, asked_at=NOW - ago, **changes)


@pytest.mark.parametrize(
    ("known", "outcome", "found"),
    [
        ([WELL, SANDBOX], "ok", "3 missed, last checked 2 minutes ago"),
        ([replace(WELL, checked_at=NOW)], "ok", "3 missed, last checked just now"),
        ([replace(WELL, checked_at=NOW - timedelta(hours=1))], "ok", "3 missed, last checked 1 hour ago"),
        ([replace(WELL, checked_at=NOW - timedelta(days=3)), SANDBOX], "warning", "3 missed, last checked 3 days ago"),
        ([WELL, Reconciliation(SANDBOX.key)], "warning", "3 missed; never checked to the end: game sandbox"),
        ([WELL, begun(timedelta(minutes=1))], "ok", "3 missed, and the first look back, over 180 days, is under way"),
        ([WELL, begun(timedelta(minutes=61))], "warning", "never checked to the end: game sandbox"),
        ([WELL, begun(timedelta(minutes=1), error="503")], "warning", "never checked to the end: game sandbox"),
        ([failing(timedelta(minutes=59))], "ok", "3 missed, last checked 2 minutes ago"),
        ([failing(timedelta(minutes=61))], "failed", "3 missed; game production notifications: 503"),
        ([SANDBOX, failing(timedelta(days=3), error=KEY_REFUSED, checked_at=None)], "ok", "3 missed, last checked 2 m"),
        (
            [failing(timedelta(days=3), error=KEY_REFUSED), failing(timedelta(days=3), of=SANDBOX, error=KEY_REFUSED)],
            "failed",
            KEY_REFUSED,
        ),
    ],
)
def test_the_worst_is_said_of_all(known: list[Reconciliation], outcome: Outcome, found: str) -> None:
    finding = read_reconciliations(known, now=NOW)
    assert (finding.outcome, found in finding.found) == (outcome, True), finding


def test_without_an_api_key_there_is_nothing_to_check() -> None:
    keyless = Apps.of((App(id=GAME, name="Game", apple=AppleApp(bundle_id="com.example.game")),))
    (finding,) = check_reconciliation(keyless, database_url="postgresql://nowhere", clock=ManualClock(NOW))
    assert finding.outcome == "unchecked"
