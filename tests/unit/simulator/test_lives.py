"""A subscription's life, step by step: what it is called, how it stands then, and what makes no sense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count

import pytest

from shared.ids import TransactionId
from simulator import choices, lives
from simulator.domain import Customer, CustomerName, Listing, Notice, Offer, StateConflict, family_revoked, refunded
from simulator.lengths import BY_THE_CALENDAR, MONTH, WEEK, Lengths
from simulator.sales import Holdings, Order, sold
from simulator.subscriptions import Ending, Moment, Status, Steps, Subscription, restated
from tests.support.shop import MONTHLY, START, WEEKLY, YEARLY

Live = Callable[[Subscription, Moment], Steps]

BEGAN = START.replace(microsecond=123_000)
DAY = timedelta(days=1)
PRICE_MILLI = 4_990
BUYER = Customer("b", 1, "production", CustomerName("ann"))
HALF = Offer("offer_code", "pay_as_you_go", MONTH, "half")
_numbers = count(1_000)


def number() -> TransactionId:
    return TransactionId(str(next(_numbers)))


def listing(product_id: str) -> Listing:
    price = PRICE_MILLI * (10 if product_id == YEARLY else 1)
    return Listing("b", 1, product_id, "auto_renewable", "vip", price, "USD")


def begun(product_id: str = MONTHLY, *, family_shared: bool = False, offer: Offer | None = None) -> Subscription:
    """Bought at BEGAN."""
    order = Order(BUYER, listing(product_id), family_shared=family_shared, offer=offer)
    step = sold(order, Holdings((), ()), number, BEGAN, BY_THE_CALENDAR)
    assert step.subscription is not None
    return step.subscription


def after_days(subscription: Subscription, days: float, lengths: Lengths = BY_THE_CALENDAR) -> Moment:
    """So many days after the first purchase, or the millisecond after its last statement."""
    at = max(BEGAN + days * DAY, subscription.stated_at + timedelta(milliseconds=1))
    return Moment(at, number, lengths)


def lived(subscription: Subscription, *happenings: tuple[float, Live]) -> tuple[Subscription, list[Notice | None]]:
    """After what happened on these days, and what was told of it."""
    told: list[Notice | None] = []
    for days, live in happenings:
        for step in live(subscription, after_days(subscription, days)):
            assert step.subscription is not None
            assert step.notice is None or step.stated_at > subscription.stated_at
            told.append(step.notice)
            subscription = step.subscription
    return subscription, told


def fails(*, grace: bool) -> Live:
    return partial(lives.fail_billing, grace=grace, now=True)


def status(subscription: Subscription, days: float) -> Status:
    return subscription.status(BEGAN + days * DAY)


# ---- by itself --------------------------------------------------------------------------------------------------


def test_it_renews_when_its_period_is_over_as_a_new_charge_of_the_same_subscription() -> None:
    first = begun()
    assert lives.due(first, after_days(first, 29)) == ()
    second, told = lived(first, (31, lives.due))
    assert told == [Notice("DID_RENEW")]
    assert second.id == first.id
    assert second.period.transaction_id != first.period.transaction_id
    assert second.period.web_order_line_item_id != first.period.web_order_line_item_id
    assert (second.period.purchased_at, second.period.renewal) == (first.expires_at, True)
    assert second.period.price_milli == PRICE_MILLI
    assert status(second, 31) is Status.ACTIVE


@pytest.mark.parametrize(
    ("before", "notice", "intent"),
    [
        ([(1, choices.cancel)], Notice("EXPIRED", "VOLUNTARY"), "voluntary"),
        ([(1, partial(lives.increase_price, accepted=False))], Notice("EXPIRED", "PRICE_INCREASE"), "price_increase"),
    ],
)
def test_what_is_not_to_renew_expires(before: list[tuple[float, Live]], notice: Notice, intent: Ending) -> None:
    over, told = lived(begun(), *before, (31, lives.due))
    assert (told[-1], over.ended, over.auto_renew) == (notice, intent, False)
    assert (status(over, 31), over.due_at()) == (Status.EXPIRED, None)


def test_who_does_not_pay_is_in_grace_then_in_retry_and_then_it_is_over() -> None:
    marked, told = lived(begun(), (1, partial(lives.fail_billing, grace=True, now=False)))
    assert (told, status(marked, 1)) == ([None], Status.ACTIVE)
    grace, told = lived(marked, (31, lives.due))
    assert (told, status(grace, 31)) == ([Notice("DID_FAIL_TO_RENEW", "GRACE_PERIOD")], Status.GRACE)
    assert grace.access_until == grace.grace_until == grace.expires_at + 16 * DAY
    retry, told = lived(grace, (47, lives.due))
    assert (told, status(retry, 47)) == ([Notice("GRACE_PERIOD_EXPIRED")], Status.RETRY)
    over, told = lived(retry, (91, lives.due))
    assert (told, status(over, 91), over.ended) == (
        [Notice("EXPIRED", "BILLING_RETRY")],
        Status.EXPIRED,
        "billing_retry",
    )
    assert over.access_until == over.expires_at + 16 * DAY


def test_without_grace_it_goes_to_retry_at_once() -> None:
    retry, told = lived(begun(), (1, partial(lives.fail_billing, grace=False, now=False)), (31, lives.due))
    assert (told[-1], status(retry, 31)) == (Notice("DID_FAIL_TO_RENEW"), Status.RETRY)
    assert retry.access_until == retry.expires_at
    assert retry.due_at() == retry.expires_at + 60 * DAY


def test_a_weeks_grace_is_six_days() -> None:
    grace, _ = lived(begun(WEEKLY), (1, fails(grace=True)))
    assert grace.grace_until == grace.expires_at + 6 * DAY


def test_with_short_months_grace_and_retry_are_short_too() -> None:
    failing = begun()
    moment = after_days(failing, 1, Lengths(timedelta(seconds=30)))
    (step,) = lives.fail_billing(failing, moment, grace=True, now=True)
    assert step.subscription is not None
    assert step.subscription.grace_until == moment.at + timedelta(seconds=16)
    assert step.subscription.retry_until == moment.at + timedelta(seconds=60)


def test_what_is_due_ends_it_when_the_store_gives_up() -> None:
    assert lives.give_up(begun(), after_days(begun(), 1)) == ()
    over, told = lived(begun(), (31, lives.give_up))
    assert (told, over.ended) == ([Notice("EXPIRED")], "other")


# ---- on command -------------------------------------------------------------------------------------------------


def test_a_renewal_by_hand_begins_the_next_period_now() -> None:
    renewed, told = lived(begun(), (3, lives.renew))
    assert (told, renewed.period.purchased_at) == ([Notice("DID_RENEW")], BEGAN + 3 * DAY)


def test_an_expiry_by_hand_moves_the_end_to_now_and_states_it() -> None:
    over, told = lived(begun(), (3, lives.expire))
    assert (told, over.expires_at, over.period.stated_at) == ([Notice("EXPIRED", "VOLUNTARY")], *[BEGAN + 3 * DAY] * 2)
    late, _ = lived(begun(), (40, lives.expire))
    assert late.expires_at == begun().expires_at


@pytest.mark.parametrize(
    ("reason", "subtype"),
    [("product_not_for_sale", "PRODUCT_NOT_FOR_SALE"), ("other", None), ("voluntary", "VOLUNTARY")],
)
def test_an_expiry_has_its_reason(reason: Ending, subtype: str | None) -> None:
    over, told = lived(begun(), (3, partial(lives.expire, reason=reason)))
    assert [(each.type, each.subtype) for each in told if each] == [("EXPIRED", subtype)]
    assert over.ended == reason


def test_recovery_in_grace_keeps_the_dates_and_in_retry_begins_anew() -> None:
    grace, _ = lived(begun(), (31, fails(grace=True)))
    kept, told = lived(grace, (35, lives.recover))
    assert told == [Notice("DID_RENEW", "BILLING_RECOVERY")]
    assert (kept.period.purchased_at, kept.expires_at) == (BEGAN + 35 * DAY, BEGAN.replace(year=2027, month=1))
    anew, _ = lived(grace, (50, lives.end_grace), (51, lives.recover))
    assert anew.expires_at == BY_THE_CALENDAR.after(BEGAN + 51 * DAY, MONTH)
    for recovered in (kept, anew):
        assert (recovered.billing, recovered.grace_until, recovered.retry_until) == ("ok", None, None)
        assert status(recovered, 52) is Status.ACTIVE


def test_what_was_only_marked_to_fail_recovers_in_silence() -> None:
    well, told = lived(
        begun(), (1, partial(lives.fail_billing, grace=True, now=False)), (2, lives.recover), (31, lives.due)
    )
    assert told == [None, None, Notice("DID_RENEW")]
    assert well.fails_next is None


def test_renewal_is_switched_off_and_on() -> None:
    off, told = lived(begun(), (1, choices.cancel))
    assert (told, off.auto_renew) == ([Notice("DID_CHANGE_RENEWAL_STATUS", "AUTO_RENEW_DISABLED")], False)
    assert status(off, 2) is Status.ACTIVE
    on, told = lived(off, (2, choices.resume))
    assert (told, on.auto_renew) == ([Notice("DID_CHANGE_RENEWAL_STATUS", "AUTO_RENEW_ENABLED")], True)


@pytest.mark.parametrize("grace", [True, False])
def test_who_cancels_what_is_unpaid_ends_it(grace: bool) -> None:
    over, told = lived(begun(), (31, fails(grace=grace)), (33, choices.cancel))
    assert told[1:] == [Notice("DID_CHANGE_RENEWAL_STATUS", "AUTO_RENEW_DISABLED"), Notice("EXPIRED", "VOLUNTARY")]
    assert (status(over, 33), over.ended, over.grace_until) == (Status.EXPIRED, "voluntary", None)


def test_an_upgrade_begins_now_and_leaves_the_old_period_marked() -> None:
    before = begun()
    (step,) = choices.upgrade(before, after_days(before, 10), to=listing(YEARLY))
    assert step.notice == Notice("DID_CHANGE_RENEWAL_PREF", "UPGRADE")
    (left,) = step.others
    assert (left.transaction_id, left.upgraded, left.revocation) == (before.period.transaction_id, True, None)
    assert (step.transaction.product_id, step.transaction.purchased_at) == (YEARLY, BEGAN + 10 * DAY)
    assert (step.transaction.upgraded, step.transaction.renewal) == (False, False)


def test_a_downgrade_waits_for_the_renewal_and_can_be_taken_back() -> None:
    yearly = begun(YEARLY)
    down, told = lived(yearly, (1, partial(choices.downgrade, to=listing(MONTHLY))))
    assert (told, down.renews_as, down.period) == (
        [Notice("DID_CHANGE_RENEWAL_PREF", "DOWNGRADE")],
        MONTHLY,
        yearly.period,
    )
    renewed, told = lived(down, (366, lives.due))
    assert (told, renewed.period.product_id, renewed.period.price_milli) == (
        [Notice("DID_RENEW")],
        MONTHLY,
        PRICE_MILLI,
    )
    back, told = lived(down, (2, partial(choices.revert_downgrade, to=listing(YEARLY))))
    assert (told, back.renews_as) == ([Notice("DID_CHANGE_RENEWAL_PREF")], YEARLY)
    assert back.list_price_milli == yearly.list_price_milli


def test_a_price_increase_is_asked_for_agreed_to_and_paid_from_the_next_renewal_on() -> None:
    pending, told = lived(begun(), (1, partial(lives.increase_price, accepted=False)))
    assert (told, pending.price_increase) == ([Notice("PRICE_INCREASE", "PENDING")], "pending")
    agreed, told = lived(pending, (2, partial(lives.increase_price, accepted=True)))
    assert (told, agreed.price_increase) == ([Notice("PRICE_INCREASE", "ACCEPTED")], "accepted")
    assert pending.list_price_milli == agreed.list_price_milli == PRICE_MILLI * 6 // 5
    renewed, _ = lived(agreed, (31, lives.due), (62, lives.due))
    assert (renewed.period.price_milli, renewed.price_increase) == (PRICE_MILLI * 6 // 5, None)


def test_an_extension_moves_the_end_and_states_the_period_anew() -> None:
    extended, told = lived(begun(), (1, partial(lives.extend, days=30)))
    assert told == [Notice("RENEWAL_EXTENDED")]
    assert extended.expires_at == begun().expires_at + 30 * DAY
    assert extended.period.stated_at == extended.stated_at


def test_of_many_those_that_cannot_be_extended_are_told() -> None:
    unpaid, _ = lived(begun(), (31, fails(grace=True)))
    same, told = lived(unpaid, (32, partial(lives.extend_if_possible, days=3)))
    assert (told, same.expires_at) == ([Notice("RENEWAL_EXTENSION", "FAILURE")], unpaid.expires_at)


# ---- offers -----------------------------------------------------------------------------------------------------


def test_a_trial_costs_nothing_and_renews_at_the_full_price() -> None:
    trial = begun(offer=Offer("introductory", "free_trial", WEEK))
    assert (trial.period.price_milli, trial.period.paid, trial.expires_at) == (0, False, BEGAN + 7 * DAY)
    renewed, _ = lived(trial, (7.5, lives.due))
    assert (renewed.period.price_milli, renewed.period.offer) == (PRICE_MILLI, None)
    with pytest.raises(StateConflict, match="paid for"):
        lives.extend(trial, after_days(trial, 1), days=1)


def test_an_offer_of_the_same_product_is_for_the_next_renewal_only() -> None:
    redeem = partial(choices.redeem_offer, offer=HALF, to=listing(MONTHLY), effect=None)
    redeemed, told = lived(begun(), (1, redeem))
    assert (told, redeemed.renewal_price_milli) == ([Notice("OFFER_REDEEMED")], PRICE_MILLI // 2)
    second, _ = lived(redeemed, (31, lives.due))
    assert (second.period.price_milli, second.period.offer) == (PRICE_MILLI // 2, HALF)
    third, _ = lived(second, (62, lives.due))
    assert (third.period.price_milli, third.period.offer) == (PRICE_MILLI, None)


def test_an_offer_of_another_product_upgrades_or_downgrades() -> None:
    up, told = lived(begun(), (1, partial(choices.redeem_offer, offer=HALF, to=listing(YEARLY), effect="upgrade")))
    assert (told, up.period.product_id, up.period.offer) == ([Notice("OFFER_REDEEMED", "UPGRADE")], YEARLY, HALF)
    down, told = lived(begun(), (1, partial(choices.redeem_offer, offer=HALF, to=listing(WEEKLY), effect="downgrade")))
    assert (told, down.period.product_id) == ([Notice("OFFER_REDEEMED", "DOWNGRADE")], MONTHLY)
    assert (down.renews_as, down.renewal_offer) == (WEEKLY, HALF)


def test_whose_subscription_is_over_subscribes_again_with_an_offer() -> None:
    again, told = lived(
        begun(), (3, lives.expire), (4, partial(choices.redeem_offer, offer=HALF, to=listing(MONTHLY), effect=None))
    )
    assert told[-1] == Notice("SUBSCRIBED", "RESUBSCRIBE")
    assert (again.period.offer, status(again, 5)) == (HALF, Status.ACTIVE)


# ---- coming back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "anew"), [(20, False), (80, True)])
def test_who_comes_back_within_sixty_days_has_not_begun_anew(days: int, anew: bool) -> None:
    again, told = lived(begun(), (3, lives.expire), (days, partial(choices.resubscribe, to=listing(YEARLY))))
    assert told[-1] == Notice("SUBSCRIBED", "RESUBSCRIBE")
    assert again.started_at == (BEGAN + days * DAY if anew else BEGAN)
    assert (again.ended, again.auto_renew, again.period.product_id) == (None, True, YEARLY)


def test_who_is_tried_to_be_charged_may_buy_again() -> None:
    again, _ = lived(begun(), (31, fails(grace=False)), (33, partial(choices.resubscribe, to=listing(MONTHLY))))
    assert (again.billing, status(again, 34)) == ("ok", Status.ACTIVE)


# ---- what was taken back ----------------------------------------------------------------------------------------


def test_the_refund_of_the_current_period_revokes_it_and_ends_its_renewals() -> None:
    paid = begun()
    moment = after_days(paid, 5)
    gone = refunded(paid.period, percentage_milli=100_000, reason=1, now=moment.at)
    step = restated(paid, gone, Notice("REFUND"))
    assert step.subscription is not None
    assert (status(step.subscription, 6), step.subscription.auto_renew) == (Status.REVOKED, False)
    assert (step.subscription.access_until, step.subscription.due_at()) == (None, None)


def test_the_refund_of_an_older_period_leaves_the_newer_alone() -> None:
    first = begun()
    second, _ = lived(first, (31, lives.due))
    gone = refunded(first.period, percentage_milli=100_000, reason=1, now=after_days(second, 32).at)
    step = restated(second, gone, Notice("REFUND"))
    assert step.subscription == replace(second, stated_at=gone.stated_at)
    assert (step.transaction, status(second, 33)) == (gone, Status.ACTIVE)


def test_a_reversed_refund_lets_the_period_stand_again_with_its_dates() -> None:
    paid = begun()
    gone = refunded(paid.period, percentage_milli=50_000, reason=1, now=after_days(paid, 5).at)
    revoked = restated(paid, gone, Notice("REFUND")).subscription
    assert revoked is not None
    back = restated(revoked, replace(gone, revocation=None), Notice("REFUND_REVERSED")).subscription
    assert back is not None
    assert (status(back, 6), back.expires_at, back.auto_renew) == (Status.ACTIVE, paid.expires_at, False)


def test_a_family_that_shares_no_more_revokes_it() -> None:
    shared = begun(family_shared=True)
    assert (shared.list_price_milli, shared.renewal_price_milli, shared.period.paid) == (None, None, False)
    gone = family_revoked(shared.period, now=after_days(shared, 5).at)
    step = restated(shared, gone, Notice("REVOKE"))
    assert step.subscription is not None
    assert status(step.subscription, 6) is Status.REVOKED


# ---- what makes no sense ----------------------------------------------------------------------------------------

ACTIVE = begun()
OFF, _ = lived(begun(), (1, choices.cancel))
GRACE, _ = lived(begun(), (31, fails(grace=True)))
RETRY, _ = lived(begun(), (31, fails(grace=False)))
OVER, _ = lived(begun(), (3, lives.expire))
PENDING, _ = lived(begun(), (1, partial(lives.increase_price, accepted=False)))
MARKED, _ = lived(begun(), (1, partial(lives.fail_billing, grace=True, now=False)))
SHARED = begun(family_shared=True)
INTRODUCTORY = Offer("introductory", "free_trial", WEEK)

TO_MONTHLY, TO_YEARLY = listing(MONTHLY), listing(YEARLY)


@pytest.mark.parametrize(
    ("subscription", "live", "code"),
    [
        (OFF, lives.renew, "not-renewing"),
        (OVER, lives.renew, "not-running"),
        (RETRY, lives.renew, "not-running"),
        (PENDING, lives.renew, "not-agreed"),
        (MARKED, lives.renew, "billing-fails"),
        (OFF, fails(grace=True), "not-renewing"),
        (GRACE, fails(grace=True), "not-running"),
        (RETRY, lives.end_grace, "not-in-grace"),
        (ACTIVE, lives.recover, "not-in-billing-retry"),
        (OVER, lives.recover, "not-in-billing-retry"),
        (GRACE, lives.expire, "in-grace"),
        (OVER, lives.expire, "not-running"),
        (ACTIVE, partial(lives.expire, reason="billing_retry"), "wrong-reason"),
        (ACTIVE, partial(lives.expire, reason="price_increase"), "wrong-reason"),
        (RETRY, partial(lives.expire, reason="voluntary"), "wrong-reason"),
        (OFF, choices.cancel, "not-renewing"),
        (OVER, choices.cancel, "not-renewing"),
        (ACTIVE, choices.resume, "renewing"),
        (OVER, choices.resume, "not-active"),
        (RETRY, choices.resume, "not-active"),
        (ACTIVE, partial(choices.upgrade, to=TO_MONTHLY), "same-product"),
        (OVER, partial(choices.upgrade, to=TO_YEARLY), "not-active"),
        (ACTIVE, partial(choices.downgrade, to=TO_MONTHLY), "same-product"),
        (OFF, partial(choices.downgrade, to=TO_YEARLY), "not-renewing"),
        (ACTIVE, partial(choices.revert_downgrade, to=TO_MONTHLY), "no-downgrade"),
        (PENDING, partial(lives.increase_price, accepted=False), "increased-already"),
        (OFF, partial(lives.increase_price, accepted=True), "not-renewing"),
        (SHARED, partial(lives.increase_price, accepted=True), "family-shared"),
        (RETRY, partial(lives.extend, days=1), "not-extensible"),
        (ACTIVE, partial(choices.resubscribe, to=TO_MONTHLY), "already-owned"),
        (GRACE, partial(choices.resubscribe, to=TO_MONTHLY), "already-owned"),
        (GRACE, partial(choices.redeem_offer, offer=HALF, to=TO_MONTHLY, effect=None), "not-active"),
        (ACTIVE, partial(choices.redeem_offer, offer=HALF, to=TO_YEARLY, effect=None), "effect-unknown"),
        (ACTIVE, partial(choices.redeem_offer, offer=INTRODUCTORY, to=TO_MONTHLY, effect=None), "not-eligible"),
        (OVER, partial(choices.redeem_offer, offer=INTRODUCTORY, to=TO_MONTHLY, effect=None), "not-eligible"),
        (SHARED, partial(choices.redeem_offer, offer=HALF, to=TO_MONTHLY, effect=None), "family-shared"),
    ],
)
def test_what_makes_no_sense_as_it_stands_is_refused(subscription: Subscription, live: Live, code: str) -> None:
    at: datetime = subscription.stated_at + timedelta(hours=1)
    with pytest.raises(StateConflict) as refused:
        live(subscription, Moment(at, number))
    assert refused.value.code == code
