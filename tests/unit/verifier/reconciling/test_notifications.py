"""What the store told us and never came here: found in its history, page by page, and recorded once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest

from shared.apps import App, AppleApp
from shared.events import NotificationReceived
from shared.ids import AppId
from shared.jws import JwsUnconfirmed, peek_claims
from shared.notifications import draft_of, notification_of
from tests.support.app_store import AppStore
from tests.support.scripted_reconciliation import Scene, scene
from verifier.domain.reconciliation import Key, Remembered, StoreUnanswered
from verifier.handlers.reconciling import Errand, Run

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
APP = App(id=AppId("game"), name="Game", apple=AppleApp(bundle_id="com.example.game", app_apple_id=1234567890))
KEY = Key(APP.id, "production", "notifications")


@cache
def chained() -> AppStore:
    return AppStore(now=NOW)


@pytest.fixture
def past() -> Scene:
    return scene(chained(), APP, now=NOW)


def run(past: Scene, **wanted: Any) -> Run:
    (done,) = past.reconciler.run("notifications", app=APP, environments=["production"], errand=Errand(**wanted))
    return done


def recorded(past: Scene) -> set[str]:
    payloads = [draft.payload for draft in past.records.journal.values()]
    return {payload.signed_payload for payload in payloads if isinstance(payload, NotificationReceived)}


def test_all_that_is_not_here_is_recorded_whatever_the_order_of_the_pages(past: Scene) -> None:
    told = {past.tell(hours_ago=hours, number=number) for hours in (1, 2, 3, 4) for number in range(3)}
    past.memory.page_size = 2
    done = run(past)
    assert recorded(past) == told
    assert (done.looked_at, done.recorded, done.missed, done.finished) == (12, 12, 12, True)


def test_what_is_here_already_is_not_recorded_again(past: Scene) -> None:
    past.tell(number=1)
    run(past)
    past.tell(number=2)
    past.clock.advance(60)
    again = run(past)
    assert (again.looked_at, again.recorded) == (2, 1)
    assert past.records.read(KEY).missed == 2


def test_it_is_recorded_under_the_subject_that_the_gateway_gives_it(past: Scene) -> None:
    signed = past.tell()
    run(past)
    ((subject, draft),) = past.records.journal.items()
    expected = draft_of(
        notification_of(peek_claims(signed), signed_payload=signed), app=APP, trace_id=draft.trace_id, now=NOW
    )
    assert (subject, draft) == (expected.subject, expected)


def test_one_that_the_gateway_records_at_the_same_moment_is_one_event_and_not_missed(past: Scene) -> None:
    signed = past.tell()
    theirs = draft_of(notification_of(peek_claims(signed), signed_payload=signed), app=APP, trace_id="t", now=NOW)
    past.records.after_looking = lambda: past.records.journal.setdefault(theirs.subject, theirs)
    done = run(past)
    assert past.records.journal == {theirs.subject: theirs}
    assert (done.recorded, done.missed) == (0, 0)


def test_failures_are_asked_for_first_and_over_the_whole_window(past: Scene) -> None:
    past.tell(hours_ago=100, failed=True)
    past.tell(hours_ago=99)
    run(past)
    (first, only_failures, _), *rest = past.memory.asked
    assert only_failures
    assert not any(failures for _, failures, _ in rest)
    assert (first.since, first.until) == (rest[0][0].since, rest[-1][0].until)


def test_a_failure_that_is_found_first_is_looked_at_once(past: Scene) -> None:
    past.tell(failed=True)
    done = run(past)
    assert (done.looked_at, done.recorded, done.missed) == (1, 1, 1)


@pytest.mark.parametrize(("environment", "days"), [("production", 180), ("sandbox", 30)])
def test_the_first_run_goes_back_as_far_as_the_store_remembers(past: Scene, environment: Any, days: int) -> None:
    past.reconciler.run("notifications", app=APP, environments=[environment])
    span, _, _ = past.memory.asked[0]
    assert NOW - timedelta(days=days) < span.since <= NOW - timedelta(days=days) + timedelta(hours=1)


def test_the_next_run_begins_a_little_before_the_end_of_the_last(past: Scene) -> None:
    run(past)
    past.clock.advance(900)
    past.memory.asked.clear()
    run(past)
    assert {(span.since, span.until) for span, _, _ in past.memory.asked} == {
        (NOW - timedelta(hours=6), NOW + timedelta(seconds=900))
    }


def test_the_cursor_stays_before_what_was_not_seen_whole_and_the_next_run_sees_it(past: Scene) -> None:
    missed = {past.tell(hours_ago=hours) for hours in (47, 46, 2, 1)}
    past.memory.page_size = 1
    answered = 1 + 2 + 1  # the failures, the first day's pages, and one of the second's
    past.memory.troubles = [*[None] * answered, StoreUnanswered("503")]
    done = run(past, since=NOW - timedelta(hours=48))
    assert (done.error, done.recorded) == ("503", 3)
    assert past.records.read(KEY).cursor_at == NOW - timedelta(hours=24)
    again = run(past)
    assert again.finished
    assert recorded(past) == missed
    assert past.records.read(KEY).cursor_at == NOW
    assert past.records.read(KEY).missed == len(missed)


def test_a_crash_between_pages_repeats_and_never_skips(past: Scene) -> None:
    told = {past.tell(number=number) for number in range(6)}
    past.memory.page_size = 2
    pages = iter(range(3))

    def until_killed() -> None:
        if next(pages, None) is None:
            raise KeyboardInterrupt

    past.memory.before_page = until_killed
    with pytest.raises(KeyboardInterrupt):
        run(past)
    state = past.records.read(KEY)
    assert (state.checked_at, state.missed) == (None, len(past.records.journal))
    past.memory.before_page = lambda: None
    run(past)
    assert recorded(past) == told
    assert past.records.read(KEY).missed == len(told)


def test_what_cannot_be_read_is_counted_and_stops_nothing(past: Scene) -> None:
    good = past.tell(number=1)
    foreign = AppStore(now=NOW - timedelta(hours=1)).notification("TEST", None, notification_id="foreign")
    other_app = past.store.notification("TEST", None, notification_id="other", bundleId="com.example.other")
    our_other_app = past.store.notification("TEST", None, notification_id="quiz", bundleId="com.example.quiz")
    for text in ("", "no.jws.it-is", foreign, other_app, our_other_app):
        past.memory.past.append(type(past.memory.past[0])(NOW - timedelta(hours=1), Remembered(text, tried=True)))
    done = run(past)
    assert recorded(past) == {good}
    assert (done.looked_at, done.unreadable, done.finished) == (6, 5, True)
    assert past.records.read(KEY).cursor_at == NOW


def test_one_whose_certificates_nobody_knows_about_at_the_moment_is_left_for_the_next_run(past: Scene) -> None:
    past.tell()
    past.signatures.doubt = JwsUnconfirmed("not known yet", retry_after_s=5)
    done = run(past)
    cursor_at = past.records.read(KEY).cursor_at
    assert (done.error, recorded(past)) == ("not known yet", set())
    assert cursor_at is not None
    assert cursor_at < NOW - timedelta(hours=1)
    past.signatures.doubt = None
    assert run(past).recorded == 1


@pytest.mark.parametrize(("seconds", "tried", "missed"), [(2, False, 0), (2, True, 1), (60, False, 1)])
def test_one_that_is_not_late_yet_is_recorded_and_not_counted_as_missed(
    past: Scene, seconds: float, tried: bool, missed: int
) -> None:
    past.tell(hours_ago=seconds / 3600, tried=tried)
    done = run(past)
    assert (done.recorded, done.missed) == (1, missed)


def test_since_looks_further_back_and_leaves_the_cursor_where_it_was_if_it_would_leave_a_gap(past: Scene) -> None:
    run(past, since=NOW - timedelta(days=3))
    assert past.records.read(KEY).cursor_at == NOW
    past.clock.advance(7 * 86_400)
    run(past, since=past.clock.now() - timedelta(days=1))
    assert past.records.read(KEY).cursor_at == NOW
    run(past, since=past.clock.now() - timedelta(days=8))
    assert past.records.read(KEY).cursor_at == past.clock.now()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("places", [1, 3])
def test_a_history_that_leads_nowhere_ends_the_run(past: Scene, places: int) -> None:
    past.memory.endless = places
    assert run(past).error == "its history goes on, and leads nowhere"


def test_an_error_is_noted_since_when_and_gone_with_the_next_success(past: Scene) -> None:
    past.memory.troubles = [StoreUnanswered("503"), StoreUnanswered("504")]
    run(past)
    past.clock.advance(60)
    run(past)
    state = past.records.read(KEY)
    assert (state.error, state.failing_since, state.checked_at) == ("504", NOW, None)
    run(past)
    state = past.records.read(KEY)
    assert (state.error, state.failing_since, state.checked_at) == (None, None, past.clock.now())


def test_trouble_with_production_keeps_nobody_from_the_sandbox(past: Scene) -> None:
    past.memory.troubles = [StoreUnanswered("401")]
    production, sandbox = past.reconciler.run("notifications", app=APP, environments=["production", "sandbox"])
    assert (production.error, sandbox.error, sandbox.finished) == ("401", None, True)


def test_nothing_is_asked_while_somebody_else_is_at_it(past: Scene) -> None:
    past.busy.add("notifications")
    done = run(past)
    assert done.skipped
    assert (past.memory.asked, past.records.states) == ([], {})


def test_nothing_is_asked_before_its_time_whatever_came_of_the_last(past: Scene) -> None:
    def due() -> list[Run]:
        errand = Errand(every=timedelta(seconds=900))
        return past.reconciler.run("notifications", app=APP, environments=["production"], errand=errand)

    past.memory.troubles = [StoreUnanswered("503")]
    assert len(due()) == 1
    past.clock.advance(899)
    assert due() == []
    past.clock.advance(1)
    assert len(due()) == 1


@pytest.mark.parametrize("answered", [1, 3])
def test_told_to_stop_it_leaves_the_rest_and_says_nothing_of_an_end(past: Scene, answered: int) -> None:
    for number in range(6):
        past.tell(number=number)
    past.memory.page_size = 2
    told = [False] * answered + [True]
    done = run(past, stopped=lambda: told.pop(0))
    assert (done.finished, done.error, past.records.read(KEY).checked_at) == (False, None, None)
    assert run(past).finished


def test_somebody_who_watches_is_told_after_each_page(past: Scene) -> None:
    for number in range(4):
        past.tell(number=number)
    past.memory.page_size = 2
    seen: list[int] = []
    run(past, since=NOW - timedelta(hours=2), observe=lambda run: seen.append(run.looked_at))
    assert seen == [0, 2, 4]
