"""What befalls a subscription: what time alone brings, and what the store and the developer do, as steps that follow.

Pure: the subscription before and the moment in, the steps out, in the order in which they are told. What makes no sense
as the subscription stands raises StateConflict. What the customer chooses is in `choices`.
Source: Apple, appstoreservernotifications/notificationtype.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from simulator.domain import Notice, Subtype
from simulator.lengths import Length
from simulator.steps import cut_short, must_be_active, must_renew, named, next_period, refuse, renewal_length, told
from simulator.subscriptions import (
    BILLING_RETRY,
    Ending,
    Moment,
    Status,
    Step,
    Steps,
    Subscription,
    grace_of,
    without_renewal,
)

EXTENSION_DAYS_MAX: Final = 90
"""Apple, extendByDays."""

_ENDINGS: Final[dict[Ending, Subtype | None]] = {
    "voluntary": "VOLUNTARY",
    "billing_retry": "BILLING_RETRY",
    "price_increase": "PRICE_INCREASE",
    "product_not_for_sale": "PRODUCT_NOT_FOR_SALE",
    "other": None,
}


def due(subscription: Subscription, moment: Moment) -> Steps:
    """What has come to happen by itself by now; nothing, mostly. There may be more to come after it."""
    due_at = subscription.due_at()
    if due_at is None or moment.at < due_at:
        return ()
    if subscription.billing == "grace":
        return end_grace(subscription, moment)
    if subscription.billing == "retry":
        return _ended(subscription, moment, "billing_retry")
    if not subscription.auto_renew:
        return _ended(subscription, moment, "voluntary")
    if subscription.price_increase == "pending":
        return _ended(subscription, moment, "price_increase")
    if subscription.fails_next is not None:
        return _failed(subscription, moment, grace=subscription.fails_next == "grace")
    return _renewed(subscription, moment)


# ---- renewal and its failure ------------------------------------------------------------------------------------


def renew(subscription: Subscription, moment: Moment) -> Steps:
    """The next period begins: now, or when the last one ended if that is past (DID_RENEW)."""
    must_renew(subscription)
    if subscription.price_increase == "pending":
        refuse("not-agreed", "the customer has not agreed to the price increase: it would expire")
    if subscription.fails_next is not None:
        refuse("billing-fails", "its renewal was marked to fail: recover it first")
    return _renewed(subscription, moment)


def _renewed(subscription: Subscription, moment: Moment) -> Steps:
    starts = min(moment.at, subscription.expires_at)
    return next_period(subscription, moment, Notice("DID_RENEW"), starts=starts)


def fail_billing(subscription: Subscription, moment: Moment, *, grace: bool, now: bool) -> Steps:
    """The renewal cannot be paid: now (DID_FAIL_TO_RENEW), or when it is due, and then nobody is told yet."""
    must_renew(subscription)
    if now:
        return _failed(subscription, moment, grace=grace)
    marked = replace(subscription, fails_next="grace" if grace else "retry")
    return (Step(subscription.period, None, marked),)


def _failed(subscription: Subscription, moment: Moment, *, grace: bool) -> Steps:
    period = cut_short(subscription.period, moment.at)
    ended_at = min(moment.at, subscription.expires_at)
    failed = replace(
        subscription,
        period=period,
        fails_next=None,
        billing="grace" if grace else "retry",
        retry_until=moment.lengths.after(ended_at, BILLING_RETRY),
        grace_until=moment.lengths.after(ended_at, grace_of(period.product_id)) if grace else None,
    )
    return told(failed, moment, "DID_FAIL_TO_RENEW", "GRACE_PERIOD" if grace else None)


def end_grace(subscription: Subscription, moment: Moment) -> Steps:
    """The customer may not use it any more; the store tries on (GRACE_PERIOD_EXPIRED)."""
    if subscription.billing != "grace" or subscription.grace_until is None:
        refuse("not-in-grace", "it is in no grace period")
    ended = replace(subscription, billing="retry", grace_until=min(moment.at, subscription.grace_until))
    return told(ended, moment, "GRACE_PERIOD_EXPIRED")


def recover(subscription: Subscription, moment: Moment) -> Steps:
    """The renewal is paid after all (DID_RENEW, BILLING_RECOVERY); if it was only marked to fail, it will be.

    Apple: who recovers in the grace period loses no day, and the dates of the renewals stay.
    """
    if subscription.fails_next is not None:
        return (Step(subscription.period, None, replace(subscription, fails_next=None)),)
    status = subscription.status(moment.at)
    if status not in (Status.GRACE, Status.RETRY):
        refuse("not-in-billing-retry", f"nothing of it is unpaid: it is {named(status)}")
    length = renewal_length(subscription)
    on_time = moment.lengths.after(subscription.expires_at, length)
    keeps_its_dates = status is Status.GRACE and on_time > moment.at
    return next_period(
        subscription,
        moment,
        Notice("DID_RENEW", "BILLING_RECOVERY"),
        starts=moment.at,
        ends=on_time if keeps_its_dates else moment.lengths.after(moment.at, length),
    )


# ---- how it ends ------------------------------------------------------------------------------------------------


def expire(subscription: Subscription, moment: Moment, *, reason: Ending | None = None) -> Steps:
    """It is over, now or when its period ended if that is past (EXPIRED). Without a reason, the one that fits."""
    if subscription.billing == "grace":
        refuse("in-grace", "its grace period runs: end that first, or cancel")
    fitting: Ending = "voluntary"
    if subscription.billing == "retry":
        fitting = "billing_retry"
    elif subscription.price_increase == "pending":
        fitting = "price_increase"
    if subscription.period.revocation is not None or subscription.ended is not None:
        refuse("not-running", "it is over already")
    if reason not in (None, fitting) and ("billing_retry" in (reason, fitting) or reason == "price_increase"):
        refuse("wrong-reason", f"as it stands it cannot end so: {reason}")
    return _ended(subscription, moment, reason or fitting)


def _ended(subscription: Subscription, moment: Moment, reason: Ending) -> Steps:
    over = replace(without_renewal(subscription), period=cut_short(subscription.period, moment.at), ended=reason)
    return told(over, moment, "EXPIRED", _ENDINGS[reason])


def give_up(subscription: Subscription, moment: Moment) -> Steps:
    """What is due ends it, for a reason of the store's own (EXPIRED without a subtype)."""
    due_at = subscription.due_at()
    return () if due_at is None or moment.at < due_at else _ended(subscription, moment, "other")


# ---- what the developer wants -----------------------------------------------------------------------------------


def increase_price(subscription: Subscription, moment: Moment, *, accepted: bool) -> Steps:
    """The next renewal costs a fifth more (PRICE_INCREASE): the customer is asked, or has agreed, or need not."""
    must_be_active(subscription, moment)
    must_renew(subscription)
    if subscription.list_price_milli is None:
        refuse("family-shared", "the family pays for it")
    if subscription.price_increase == "accepted" or (subscription.price_increase == "pending" and not accepted):
        refuse("increased-already", f"its price increase is {subscription.price_increase} already")
    raised = subscription.list_price_milli
    if subscription.price_increase is None:
        raised = raised * 6 // 5
    after = replace(subscription, list_price_milli=raised, price_increase="accepted" if accepted else "pending")
    return told(after, moment, "PRICE_INCREASE", "ACCEPTED" if accepted else "PENDING")


def extend(subscription: Subscription, moment: Moment, *, days: int) -> Steps:
    """Its period ends so many days later (RENEWAL_EXTENDED)."""
    if not extensible(subscription, moment):
        refuse("not-extensible", "only an active subscription that is paid for is extended")
    expires_at = moment.lengths.after(subscription.expires_at, Length(days, "D"))
    period = replace(subscription.period, expires_at=expires_at, stated_at=moment.at)
    return told(replace(subscription, period=period), moment, "RENEWAL_EXTENDED")


def extend_if_possible(subscription: Subscription, moment: Moment, *, days: int) -> Steps:
    """As one of many: told whether it was extended, or could not be (RENEWAL_EXTENSION, FAILURE)."""
    if extensible(subscription, moment):
        return extend(subscription, moment, days=days)
    return told(subscription, moment, "RENEWAL_EXTENSION", "FAILURE")


def extensible(subscription: Subscription, moment: Moment) -> bool:
    """Apple extends what is active, and no free trial."""
    return subscription.status(moment.at) is Status.ACTIVE and subscription.period.price_milli != 0
