"""The store's records, on a clock of the test's own: what depends on time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.events import Environment
from simulator.api_errors import ApiError, ApiRefused
from simulator.notification_log import Notification
from simulator.records import Caller, HistoryFilter, NotificationFilter
from tests.support.shop import APP_APPLE_ID, BUNDLE_ID, GEMS, MONTHLY, START, Shop, claims

GAME = Caller(BUNDLE_ID, APP_APPLE_ID, "production")
A_MINUTE = timedelta(minutes=1)


def lately(shop: Shop, *, days: float = 1) -> NotificationFilter:
    now = shop.clock.now()
    return NotificationFilter(start=now - timedelta(days=days), end=now)


@pytest.mark.parametrize(("environment", "days"), [("production", 180), ("sandbox", 30)])
def test_notifications_are_asked_for_only_so_many_days_back(shop: Shop, environment: Environment, days: int) -> None:
    caller = Caller(BUNDLE_ID, APP_APPLE_ID, environment)
    assert shop.records.notifications(caller, wanted=lately(shop, days=days), after=None) == ([], False)
    with pytest.raises(ApiRefused) as refused:
        shop.records.notifications(caller, wanted=lately(shop, days=days + 0.001), after=None)
    assert refused.value.error is ApiError.START_DATE_TOO_FAR_IN_PAST


def test_what_waits_for_its_first_attempt_is_not_in_the_history_yet(shop: Shop) -> None:
    shop.store.buy(product_id=GEMS)
    assert listed(shop, lately(shop)) == []
    shop.sender.tried("TIMED_OUT", at=START)
    assert len(listed(shop, lately(shop))) == 1


def test_a_retry_that_has_not_succeeded_yet_is_a_failure(shop: Shop) -> None:
    only_failures = NotificationFilter(start=START - A_MINUTE, end=START + A_MINUTE, only_failures=True)
    shop.store.buy(product_id=GEMS)
    shop.sender.tried("NO_RESPONSE", at=START)
    assert len(listed(shop, only_failures)) == 1
    shop.sender.tried("SUCCESS", at=START)
    assert listed(shop, only_failures) == []


def test_what_was_sent_outside_of_the_span_is_not_listed(shop: Shop) -> None:
    shop.store.buy(product_id=GEMS)
    shop.sender.tried("SUCCESS", at=START)
    assert len(listed(shop, NotificationFilter(start=START, end=START))) == 1
    assert listed(shop, NotificationFilter(start=START + A_MINUTE, end=START + 2 * A_MINUTE)) == []
    assert listed(shop, NotificationFilter(start=START - 2 * A_MINUTE, end=START - A_MINUTE)) == []


def listed(shop: Shop, wanted: NotificationFilter) -> list[Notification]:
    return list(shop.records.notifications(GAME, wanted=wanted, after=None)[0])


def test_a_transaction_is_signed_at_the_moment_of_asking_and_never_before_its_last_change(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS).transaction.transaction_id
    refunded = shop.store.refund(bought)
    at_once = claims(shop.records.transaction(GAME, bought))
    assert at_once["signedDate"] == claims(refunded.signed_transaction)["signedDate"]
    shop.clock.advance(60)
    assert claims(shop.records.transaction(GAME, bought))["signedDate"] > at_once["signedDate"]


def test_a_subscription_expires_with_its_period(shop: Shop) -> None:
    bought = shop.store.buy(product_id=MONTHLY).transaction.transaction_id
    assert [each.status for each in shop.records.subscriptions(GAME, bought, statuses=frozenset())] == [1]
    shop.clock.advance(40 * 86_400)
    assert [each.status for each in shop.records.subscriptions(GAME, bought, statuses=frozenset())] == [2]


def test_the_span_of_the_history_includes_its_start_and_not_its_end(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS).transaction
    at = bought.purchased_at
    assert HistoryFilter(start=at, end=at + A_MINUTE).takes(bought)
    assert not HistoryFilter(end=at).takes(bought)
