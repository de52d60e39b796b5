"""Subscriptions and entitlements, as they are told at a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from ledger.domain.belongings import OwnedSubscription, SubscriptionPlace, stated_at
from ledger.domain.entitlements import FOR_EVER, Entitlement, Holder
from ledger.domain.subscriptions import Subscription, key_of
from ledger.handlers import read_entitlements, read_subscriptions
from shared.ids import EntitlementId, SubscriptionId, UserId
from tests.support.ledger import ALICE, GAME, NOW
from tests.support.ledger_subscriptions import DAY, MONTH, SHOP, period, renewal

ALICES = Holder(GAME, "production", ALICE)
VIP = EntitlementId("vip")
SECOND = timedelta(seconds=1)


class MemoryBelongings:
    """What one user has."""

    def __init__(
        self, subscriptions: Sequence[OwnedSubscription] = (), entitlements: Sequence[Entitlement] = ()
    ) -> None:
        self._subscriptions = sorted(subscriptions, key=lambda each: each.place, reverse=True)
        self._entitlements = entitlements

    def subscriptions(
        self, holder: Holder, *, after: SubscriptionPlace | None, limit: int
    ) -> Sequence[OwnedSubscription]:
        wanted = [each for each in self._subscriptions if after is None or each.place < after]
        return wanted[:limit] if holder == ALICES else []

    def entitlements(self, holder: Holder) -> Sequence[Entitlement]:
        return self._entitlements if holder == ALICES else []


def owned(original: str = "1", *, starts: timedelta = timedelta(), version: int = 1) -> OwnedSubscription:
    of = period(original=original, starts=starts)
    key = key_of(GAME, of)
    assert key is not None
    said = renewal(signed=starts + DAY, in_billing_retry=True, grace_until=starts + MONTH + DAY)
    return OwnedSubscription(key, Subscription(of, renewal=said), version)


def entitlement(*, active: bool = True, until: datetime = NOW + MONTH) -> Entitlement:
    return Entitlement(VIP, active, until, 2, SubscriptionId("sub_1") if active else None)


@pytest.mark.parametrize(
    ("after", "status"),
    [
        (timedelta(), "active"),
        (MONTH - SECOND, "active"),
        (MONTH, "in_grace_period"),
        (MONTH + DAY, "in_billing_retry"),
        (MONTH + 60 * DAY, "expired"),
    ],
)
def test_a_subscription_is_told_as_it_stands_at_the_moment_of_asking(after: timedelta, status: str) -> None:
    belongings = MemoryBelongings([owned(version=7)])
    page = read_subscriptions(belongings=belongings, holder=ALICES, after=None, limit=1, now=NOW + after)
    (state,) = page.subscriptions
    assert (state.status, state.version, page.next_after) == (status, 7, None)


def test_pages_of_subscriptions_meet_without_gap_or_overlap() -> None:
    """Two of them began at the same moment."""
    belongings = MemoryBelongings([owned(str(number), starts=DAY * (number // 2)) for number in range(1, 8)])
    seen, after = [], None
    while True:
        page = read_subscriptions(belongings=belongings, holder=ALICES, after=after, limit=2, now=NOW)
        seen += [state.original_transaction_id for state in page.subscriptions]
        after = page.next_after
        if after is None:
            break
    assert seen == ["7", "6", "5", "4", "3", "2", "1"]


@pytest.mark.parametrize(
    ("told", "active", "until"),
    [
        (entitlement(), True, NOW + MONTH),
        (entitlement(until=FOR_EVER), True, None),
        (entitlement(until=NOW + SECOND), True, NOW + SECOND),
        (entitlement(until=NOW), False, NOW),
        (entitlement(active=False, until=NOW - DAY), False, NOW - DAY),
    ],
    ids=["runs", "for ever", "runs for a second yet", "ends now", "was told to have ended"],
)
def test_an_entitlement_ends_when_its_time_is_over_whether_or_not_that_was_told(
    told: Entitlement, active: bool, until: datetime | None
) -> None:
    stated = stated_at(told, name="VIP", now=NOW)
    assert (stated.active, stated.until, stated.version) == (active, until, 2)
    assert stated.source == ("sub_1" if active else None)


def test_an_entitlement_that_left_the_catalogue_goes_by_its_id() -> None:
    gone = replace(entitlement(), entitlement=EntitlementId("gone"))
    belongings = MemoryBelongings(entitlements=[gone, entitlement()])
    found = read_entitlements(belongings=belongings, catalog=SHOP, holder=ALICES, now=NOW)
    assert [(each.id, each.name) for each in found.entitlements] == [("gone", "gone"), ("vip", "VIP")]


def test_a_user_who_never_had_any_has_none() -> None:
    nobody = Holder(GAME, "production", UserId("nobody"))
    belongings = MemoryBelongings([owned()], [entitlement()])
    page = read_subscriptions(belongings=belongings, holder=nobody, after=None, limit=5, now=NOW)
    found = read_entitlements(belongings=belongings, catalog=SHOP, holder=nobody, now=NOW)
    assert (page.subscriptions, found.entitlements) == ([], [])
