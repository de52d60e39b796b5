"""What the doctor says of endpoints that do not take what they are told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from deploy.doctor.findings import Outcome
from deploy.doctor.telling import read_endpoints
from notifier.domain.desk import EndpointRecord, EndpointView, endpoint_view
from shared.apps import EndpointId, WebhookEndpoint
from shared.ids import AppId

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GAME = AppId("game")
BACKEND = WebhookEndpoint(id=EndpointId("backend"), url="https://example.com/hooks", secret="whsec_")
RECORD = EndpointRecord(BACKEND.id, waiting=7)
WELL = endpoint_view(RECORD, BACKEND)
LEFT = endpoint_view(RECORD, None)
DISABLED = endpoint_view(replace(RECORD, disabled_at=NOW, disabled_url=BACKEND.url, reason="gone"), BACKEND)


def failing(since: timedelta) -> EndpointView:
    return endpoint_view(replace(RECORD, failing_since=NOW - since, failures=12), BACKEND)


@pytest.mark.parametrize(
    ("views", "outcome", "found"),
    [
        ([WELL], "ok", "7 wait"),
        ([failing(timedelta(minutes=59))], "ok", "7 wait"),
        ([failing(timedelta(hours=1))], "warning", "nothing since 2026-11-22T11:00:00.000Z, 12 attempts long; 7 wait"),
        ([WELL, DISABLED], "warning", "disabled since 2026-11-22T12:00:00.000Z: gone; 7 wait"),
        ([LEFT], "warning", "not in the apps file any more; 7 wait"),
        ([replace(LEFT, waiting=0, failed=3)], "ok", "0 wait"),
        ([replace(WELL, failed=3)], "warning", "3 were given up"),
    ],
)
def test_what_is_wrong_with_an_endpoint_is_said(views: list[EndpointView], outcome: Outcome, found: str) -> None:
    (finding,) = read_endpoints({GAME: views}, now=NOW)
    assert (finding.outcome, found in finding.found) == (outcome, True), finding
    assert finding.check == ("webhook deliveries" if outcome == "ok" else "webhook deliveries game/backend")


def test_each_trouble_has_a_line_of_its_own() -> None:
    findings = read_endpoints(
        {GAME: [replace(DISABLED, failed=3)], AppId("other"): [failing(timedelta(days=1))]}, now=NOW
    )
    assert [finding.check.rpartition(" ")[2] for finding in findings] == [
        "game/backend",
        "game/backend",
        "other/backend",
    ]
