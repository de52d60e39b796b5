"""What the doctor says of a test notification, by how far it has come."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from appstoreserverlibrary.models.SendAttemptResult import SendAttemptResult

from deploy.doctor.arrival import MEANINGS, SUCCESS, Attempt, Way, verdict
from deploy.told import Told
from shared.clock import to_unix_ms
from shared.ids import EventId

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DELIVERED = (Attempt(to_unix_ms(NOW), SUCCESS),)


def told(became: str) -> Told:
    return Told(
        received_at=NOW,
        app="game",
        environment="sandbox",
        type="TEST",
        subtype=None,
        notification_id="the-notification",
        event_id=EventId(UUID(int=1)),
        transaction_id=None,
        became=became,
    )


def test_every_word_of_apples_for_a_failed_attempt_has_a_meaning_for_the_operator() -> None:
    assert {*MEANINGS, SUCCESS} == {result.value for result in SendAttemptResult}


@pytest.mark.parametrize("word", MEANINGS)
def test_an_attempt_that_failed_says_what_the_word_means(word: str) -> None:
    finding = verdict("test", Way(NOW, attempts=(Attempt(None, word),)))
    assert finding.outcome == "failed"
    assert word in finding.found
    assert finding.remedy == MEANINGS[word]


def test_a_word_of_the_future_fails_like_any_other() -> None:
    assert verdict("test", Way(NOW, attempts=(Attempt(None, "LUNAR_ECLIPSE"),))).remedy == MEANINGS["OTHER"]


def test_one_that_arrived_and_was_recorded_is_well_and_shows_its_way() -> None:
    finding = verdict("test", Way(NOW, told("recorded: test"), DELIVERED))
    assert finding.outcome == "ok"
    for part in ("requested 2026-11-22T12:00:00.000Z", "received", "the-notification", "recorded: test", SUCCESS):
        assert part in finding.found


def test_one_that_was_delivered_elsewhere_fails_for_the_url() -> None:
    finding = verdict("test", Way(NOW, attempts=DELIVERED))
    assert finding.outcome == "failed"
    assert "another installation" in (finding.remedy or "")


def test_one_of_which_nothing_is_heard_fails() -> None:
    assert verdict("test", Way(NOW)).outcome == "failed"


@pytest.mark.parametrize(
    ("became", "outcome"), [("waiting", "warning"), ("parked: why", "failed"), ("dead: why", "failed")]
)
def test_one_that_arrived_and_was_not_handled_is_not_well(became: str, outcome: str) -> None:
    assert verdict("test", Way(NOW, told(became), DELIVERED)).outcome == outcome


def test_the_way_has_ended_when_both_have_said_how_it_went_or_the_store_that_it_failed() -> None:
    assert not Way(NOW).ended
    assert not Way(NOW, told("recorded: test")).ended
    assert not Way(NOW, told("waiting"), DELIVERED).ended
    assert not Way(NOW, attempts=DELIVERED).ended
    assert Way(NOW, told("recorded: test"), DELIVERED).ended
    assert Way(NOW, attempts=(Attempt(None, "TIMED_OUT"),)).ended
    assert not Way(NOW, attempts=(Attempt(None, "TIMED_OUT"), *DELIVERED)).ended
