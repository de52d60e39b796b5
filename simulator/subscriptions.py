"""A subscription as the store has it: its current period, what is to become of it, and how it stands at a moment.

Values and what follows from them. What changes them is in `lives`.
Source: Apple, appstoreserverapi/status, and JWSRenewalInfoDecodedPayload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final, Literal

from shared.ids import TransactionId
from simulator.domain import Customer, Notice, Offer, Transaction, invented_price_milli
from simulator.lengths import BY_THE_CALENDAR, WEEK, Length, Lengths, length_of

A_MILLISECOND: Final = timedelta(milliseconds=1)

BILLING_RETRY: Final = Length(60, "D")
"""So long after a period that could not be renewed Apple tries it again (DID_FAIL_TO_RENEW)."""

_GRACE: Final = Length(16, "D")
_GRACE_OF_A_WEEK: Final = Length(6, "D")
"""Billing grace periods, where 16 days are chosen in App Store Connect: weekly subscriptions have 6 then."""

LAPSE: Final = Length(60, "D")
"""A shorter lapse does not begin a subscription anew. Source: Apple, recentSubscriptionStartDate."""

Billing = Literal["ok", "grace", "retry"]
"""How the last renewal was paid: well; not, and the customer keeps the subscription for a while; not, and does not."""
Ending = Literal["voluntary", "billing_retry", "price_increase", "product_not_for_sale", "other"]


class Status(IntEnum):
    """Apple's status of an auto-renewable subscription. With `active` and `grace` the customer may use it."""

    ACTIVE = 1
    EXPIRED = 2
    RETRY = 3
    GRACE = 4
    REVOKED = 5


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription: `period` is the one that began last. Every change is stated later than all before (`stated_at`).

    `renews_as` is the product of the next renewal, which costs `list_price_milli` (None: the family pays) unless
    `renewal_offer` makes it cheaper. `fails_next`: that renewal will not be paid, and what follows then.
    `retry_until` is there while the last renewal was not paid; `grace_until` stays until another period begins.
    `ended`: the store has declared it over. `started_at`: since when it goes on with no lapse.
    """

    period: Transaction
    renews_as: str
    list_price_milli: int | None
    started_at: datetime
    stated_at: datetime
    auto_renew: bool = True
    renewal_offer: Offer | None = None
    fails_next: Literal["grace", "retry"] | None = None
    billing: Billing = "ok"
    retry_until: datetime | None = None
    grace_until: datetime | None = None
    ended: Ending | None = None
    price_increase: Literal["pending", "accepted"] | None = None

    @property
    def id(self) -> TransactionId:
        """Of all its periods: the first one's."""
        return self.period.original_transaction_id

    @property
    def customer(self) -> Customer:
        return self.period.customer

    @property
    def expires_at(self) -> datetime:
        """When the current period is over."""
        assert self.period.expires_at is not None  # every auto-renewable transaction has it
        return self.period.expires_at

    @property
    def renewal_price_milli(self) -> int | None:
        """What the next renewal will cost; None: the family pays, or there will be none."""
        if not self.auto_renew or self.list_price_milli is None or self.renewal_offer is None:
            return self.list_price_milli if self.auto_renew else None
        return self.renewal_offer.price_milli(self.list_price_milli)

    @property
    def access_until(self) -> datetime | None:
        """Up to when the customer may use it, or might; None: it was taken back."""
        if self.period.revocation is not None:
            return None
        return max(self.expires_at, self.grace_until or self.expires_at)

    @property
    def runs(self) -> bool:
        """Nothing has ended it, and nothing is owed: its next renewal is still to come, be it late."""
        return self.period.revocation is None and self.ended is None and self.billing == "ok"

    def status(self, now: datetime) -> Status:
        """How it stands at a moment."""
        if self.period.revocation is not None:
            return Status.REVOKED
        if self.ended is not None:
            return Status.EXPIRED
        if now < self.expires_at:
            return Status.ACTIVE
        if self.retry_until is None or now >= self.retry_until:
            return Status.EXPIRED
        in_grace = self.billing == "grace" and self.grace_until is not None and now < self.grace_until
        return Status.GRACE if in_grace else Status.RETRY

    def due_at(self) -> datetime | None:
        """When something happens to it by itself; None: never."""
        if self.period.revocation is not None or self.ended is not None:
            return None
        return {"ok": self.expires_at, "grace": self.grace_until, "retry": self.retry_until}[self.billing]


def begun(period: Transaction, *, list_price_milli: int | None, before: Subscription | None = None) -> Subscription:
    """The subscription with a period that has just begun: nothing of how the one before ended is left."""
    return Subscription(
        period=period,
        renews_as=period.product_id,
        list_price_milli=list_price_milli,
        started_at=before.started_at if before else period.purchased_at,
        stated_at=period.stated_at,
    )


def remembered(period: Transaction, *, now: datetime) -> Subscription:
    """What can be said of a subscription of which only a receipt is left: it renews as long as its period runs."""
    list_price = None if period.family_shared else invented_price_milli(period.product_id)
    subscription = begun(period, list_price_milli=list_price)
    runs = period.active(now)
    return replace(subscription, auto_renew=runs, ended=None if runs or period.revocation else "voluntary")


def grace_of(product_id: str) -> Length:
    """How long the billing grace period of a product is."""
    return _GRACE_OF_A_WEEK if length_of(product_id) == WEEK else _GRACE


# ---- what happens -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened: the transaction that it is about, as it is from then on, and what the App Store calls it
    (None: nobody is told). `subscription` is the one that the transaction belongs to, `others` are transactions of it
    that have changed too. `said_at` is when it was said, where that changed nothing."""

    transaction: Transaction
    notice: Notice | None
    subscription: Subscription | None = None
    others: tuple[Transaction, ...] = ()
    said_at: datetime | None = None

    @property
    def stated_at(self) -> datetime:
        """The date of what is said of it."""
        if self.said_at is not None:
            return self.said_at
        return self.subscription.stated_at if self.subscription else self.transaction.stated_at


Steps = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happens: `at` is later than everything that was stated before, and in whole milliseconds.
    `number` gives new transaction numbers; it raises StateConflict when the customer has as many as one can have."""

    at: datetime
    number: Callable[[], TransactionId]
    lengths: Lengths = BY_THE_CALENDAR

    def later(self) -> Moment:
        """For what is stated next."""
        return replace(self, at=self.at + A_MILLISECOND)


def restated(subscription: Subscription, transaction: Transaction, notice: Notice) -> Step:
    """After one of its periods, whichever, was taken back or given again.

    Apple ends the renewals of a subscription whose current period it refunds; an older period's refund leaves it alone.
    """
    after = replace(subscription, stated_at=transaction.stated_at)
    if transaction.transaction_id == subscription.period.transaction_id:
        after = replace(after, period=transaction)
        if transaction.revocation is not None:
            after = replace(without_renewal(after), grace_until=None)
    return Step(transaction, notice, after)


def without_renewal(subscription: Subscription) -> Subscription:
    """It will not be renewed, nor is it tried any more."""
    return replace(
        subscription,
        auto_renew=False,
        renews_as=subscription.period.product_id,
        renewal_offer=None,
        fails_next=None,
        billing="ok",
        retry_until=None,
        price_increase=None,
    )
