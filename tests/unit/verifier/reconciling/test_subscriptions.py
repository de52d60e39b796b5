"""Subscriptions that should have renewed: what the store says of them is news, or is asked for again later."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest

from shared.apps import App, AppleApp
from shared.clock import to_unix_ms
from shared.events import SubscriptionReported
from shared.ids import AppId, TransactionId, subscription_id
from tests.support.app_store import AppStore
from tests.support.scripted_reconciliation import Scene, scene
from verifier.domain import AppleTransaction, read_transaction
from verifier.domain.reconciliation import DueOrigin, Key, Standing, StoreUnanswered, SubscriptionUnknown
from verifier.handlers.reconciling import Errand, Run

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ENDED = NOW - timedelta(minutes=6)
APP = App(id=AppId("game"), name="Game", apple=AppleApp(bundle_id="com.example.game", app_apple_id=1234567890))
KEY = Key(APP.id, "production", "subscriptions")
ACTIVE, EXPIRED, RETRY, GRACE, REVOKED = 1, 2, 3, 4, 5


@cache
def chained() -> AppStore:
    return AppStore(now=NOW)


@pytest.fixture
def past() -> Scene:
    return scene(chained(), APP, now=NOW)


def period(transaction_id: str = "100", *, original: str = "100", ends: datetime = ENDED) -> dict[str, Any]:
    return chained().transaction(
        transactionId=transaction_id,
        originalTransactionId=original,
        productId="com.example.game.vip.monthly",
        type="Auto-Renewable Subscription",
        expiresDate=to_unix_ms(ends),
        subscriptionGroupIdentifier="20000001",
    )


def stands(claims: dict[str, Any], status: int) -> Standing:
    return Standing(TransactionId(claims["originalTransactionId"]), status, chained().sign(claims), "renewal.info.jws")


def heard(past: Scene, claims: dict[str, Any], *, at: datetime | None = None) -> None:
    """It is on record, and the store spoke of its renewal last at this moment."""
    read = read_transaction(claims)
    assert isinstance(read, AppleTransaction)
    past.records.stated[claims["transactionId"]] = read.transaction
    original = TransactionId(claims["originalTransactionId"])
    past.records.origins[original] = DueOrigin(original, check_at=NOW - timedelta(minutes=1), heard_at=at, checks=0)


def run(past: Scene, **wanted: Any) -> Run:
    (done,) = past.reconciler.run("subscriptions", app=APP, environments=["production"], errand=Errand(**wanted))
    return done


def reported(past: Scene) -> list[tuple[str, int]]:
    payloads = [draft.payload for draft in past.records.reports]
    return [(each.original_transaction_id, each.status) for each in payloads if isinstance(each, SubscriptionReported)]


def test_a_renewal_that_never_came_is_reported_with_what_is_signed(past: Scene) -> None:
    heard(past, period())
    renewed = stands(period("101", ends=NOW + timedelta(days=30)), ACTIVE)
    past.memory.standing["100"] = [renewed]
    done = run(past)
    (draft,) = past.records.reports
    assert draft.payload == SubscriptionReported(
        "apple", "production", TransactionId("100"), ACTIVE, renewed.signed_transaction, renewed.signed_renewal_info
    )
    subject = subscription_id(app="game", store="apple", environment="production", original_transaction_id="100")
    assert (draft.subject, draft.user_id) == (subject, None)
    assert (done.looked_at, done.recorded, done.missed, done.finished) == (1, 1, 1, True)
    assert past.records.read(KEY).missed == 1


def test_a_period_that_was_extended_is_news(past: Scene) -> None:
    heard(past, period())
    past.memory.standing["100"] = [stands(period(ends=NOW + timedelta(days=3)), ACTIVE)]
    run(past)
    assert reported(past) == [("100", ACTIVE)]


@pytest.mark.parametrize("status", [EXPIRED, REVOKED])
@pytest.mark.parametrize("at", [None, ENDED - timedelta(days=1), ENDED + timedelta(minutes=1)])
def test_an_end_that_never_came_is_news_and_nothing_is_asked_after_it(past: Scene, status: int, at: Any) -> None:
    heard(past, period(), at=at)
    past.memory.standing["100"] = [stands(period(), status)]
    run(past)
    assert (reported(past), past.records.origins) == ([("100", status)], {})


@pytest.mark.parametrize("status", [RETRY, GRACE])
@pytest.mark.parametrize(
    ("at", "news"), [(None, True), (ENDED - timedelta(seconds=1), True), (ENDED + timedelta(seconds=1), False)]
)
def test_that_it_cannot_be_charged_is_news_unless_the_store_has_spoken_since_the_end(
    past: Scene, status: int, at: datetime | None, news: bool
) -> None:
    heard(past, period(), at=at)
    past.memory.standing["100"] = [stands(period(), status)]
    run(past)
    assert reported(past) == ([("100", status)] if news else [])
    assert past.records.origins[TransactionId("100")].check_at == NOW + timedelta(hours=1)


def test_a_store_that_is_late_itself_has_no_news(past: Scene) -> None:
    heard(past, period())
    past.memory.standing["100"] = [stands(period(), ACTIVE)]
    done = run(past)
    assert (reported(past), done.missed, done.looked_at) == ([], 0, 1)


def test_it_is_asked_for_again_more_and_more_seldom_and_at_last_never(past: Scene) -> None:
    heard(past, period(), at=ENDED + timedelta(minutes=1))
    past.memory.standing["100"] = [stands(period(), RETRY)]
    waits: list[float] = []
    while TransactionId("100") in past.records.origins:
        before = past.clock.now()
        run(past)
        if (due := past.records.origins.get("100")) is None:
            break
        waits.append((due.check_at - before).total_seconds() / 3600)
        past.clock.advance((due.check_at - before).total_seconds())
    assert waits[:8] == [1, 2, 4, 8, 16, 24, 24, 24]
    assert len(waits) + 1 == 90
    assert past.records.reports == []


def test_of_the_customers_other_subscriptions_only_what_is_not_on_record_is_news(past: Scene) -> None:
    heard(past, period())
    known_end = period("200", original="200", ends=NOW - timedelta(days=300))
    heard(past, known_end)
    del past.records.origins[TransactionId("200")]
    past.memory.standing["100"] = [
        stands(period(), ACTIVE),
        stands(known_end, EXPIRED),
        stands(period("301", original="300"), EXPIRED),
    ]
    run(past)
    assert reported(past) == [("300", EXPIRED)]


def test_one_that_the_store_does_not_know_is_asked_about_again_later(past: Scene) -> None:
    heard(past, period())
    past.memory.standing["100"] = SubscriptionUnknown("100")
    done = run(past)
    assert (done.finished, done.looked_at, reported(past)) == (True, 1, [])
    assert past.records.origins[TransactionId("100")].check_at == NOW + timedelta(hours=1)


def test_one_without_an_answer_keeps_no_other_waiting_and_is_tried_again_soon(past: Scene) -> None:
    for number in range(4):
        heard(past, period(f"{number}", original=f"{number}"))
        past.memory.standing[f"{number}"] = [stands(period(f"{number}", original=f"{number}"), EXPIRED)]
    past.memory.standing["0"] = StoreUnanswered("500")
    done = run(past)
    assert (done.error, done.looked_at, len(reported(past))) == ("500", 3, 3)
    assert past.records.read(KEY).error == "500"
    assert past.records.origins[TransactionId("0")].check_at == NOW + timedelta(minutes=10)
    assert past.records.origins[TransactionId("0")].checks == 0


def test_a_store_that_answers_nothing_is_left_alone_until_the_next_run(past: Scene) -> None:
    for number in range(60):
        heard(past, period(f"{number}", original=f"{number}"))
        past.memory.standing[f"{number}"] = StoreUnanswered("401")
    done = run(past)
    assert (done.error, len(past.memory.asked_about)) == ("401", 5)


def test_a_store_that_answers_now_and_then_is_asked_about_all(past: Scene) -> None:
    for number in range(20):
        heard(past, period(f"{number}", original=f"{number}"))
        good = [stands(period(f"{number}", original=f"{number}"), EXPIRED)]
        past.memory.standing[f"{number}"] = good if number % 2 else StoreUnanswered("500")
    done = run(past)
    assert (done.error, len(past.memory.asked_about), len(reported(past))) == ("500", 20, 10)


def test_more_than_a_batch_are_asked_about_the_longest_overdue_first(past: Scene) -> None:
    for number in range(120):
        heard(past, period(f"{number}", original=f"{number}"))
        origin = past.records.origins[TransactionId(f"{number}")]
        past.records.origins[TransactionId(f"{number}")] = replace(origin, check_at=NOW - timedelta(seconds=number))
        past.memory.standing[f"{number}"] = [stands(period(f"{number}", original=f"{number}"), ACTIVE)]
    assert run(past).looked_at == 120
    assert past.memory.asked_about == [f"{number}" for number in reversed(range(120))]


def test_what_is_not_due_is_not_asked_about_unless_it_is_wanted_early(past: Scene) -> None:
    heard(past, period())
    past.clock.advance(-180)
    past.memory.standing["100"] = [stands(period(), EXPIRED)]
    assert run(past).looked_at == 0
    assert run(past, ahead=timedelta(minutes=5)).looked_at == 1


def test_a_transaction_that_cannot_be_read_is_counted_and_the_others_are_reported(past: Scene) -> None:
    heard(past, period())
    past.memory.standing["100"] = [
        Standing(TransactionId("100"), ACTIVE, "nothing signed", None),
        Standing(TransactionId("150"), ACTIVE, chained().sign({"signedDate": 1}), None),
        stands(period("301", original="300"), ACTIVE),
    ]
    done = run(past)
    assert (done.unreadable, reported(past), done.finished) == (2, [("300", ACTIVE)], True)


def test_told_to_stop_it_leaves_the_rest(past: Scene) -> None:
    for number in range(3):
        heard(past, period(f"{number}", original=f"{number}"))
        past.memory.standing[f"{number}"] = [stands(period(f"{number}", original=f"{number}"), EXPIRED)]
    told = [False, False, True]
    done = run(past, stopped=lambda: told.pop(0))
    assert (done.looked_at, done.finished, past.records.read(KEY).checked_at) == (1, False, None)
