"""What lives are made of: a new period, one that is over, something said; and what has to be so for them. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import NoReturn

from simulator.domain import Listing, Notice, NotificationType, Offer, StateConflict, Subtype, Transaction
from simulator.lengths import Length, length_of
from simulator.subscriptions import Moment, Status, Step, Steps, Subscription, begun


def told(
    subscription: Subscription, moment: Moment, notification_type: NotificationType, subtype: Subtype | None = None
) -> Steps:
    """It stands so from now on, and the App Store says so."""
    after = replace(subscription, stated_at=moment.at)
    return (Step(after.period, Notice(notification_type, subtype), after),)


def next_period(
    subscription: Subscription, moment: Moment, notice: Notice, *, starts: datetime, ends: datetime | None = None
) -> Steps:
    """The period that it was to be renewed for begins, until `ends` or for as long as its product lasts."""
    period = replace(
        subscription.period,
        transaction_id=moment.number(),
        web_order_line_item_id=moment.number(),
        product_id=subscription.renews_as,
        price_milli=subscription.renewal_price_milli,
        offer=subscription.renewal_offer,
        purchased_at=starts,
        expires_at=ends or moment.lengths.after(starts, renewal_length(subscription)),
        stated_at=moment.at,
        renewal=True,
        upgraded=False,
        finished=False,
    )
    after = begun(period, list_price_milli=subscription.list_price_milli, before=subscription)
    return (Step(period, notice, after),)


def bought(
    subscription: Subscription,
    moment: Moment,
    listing: Listing,
    notice: Notice,
    *,
    offer: Offer | None,
    others: tuple[Transaction, ...] = (),
) -> Steps:
    """A period of the product, which the customer has bought just now."""
    price = None if subscription.period.family_shared else listing.price_milli
    length = offer.length if offer else length_of(listing.product_id)
    period = replace(
        subscription.period,
        transaction_id=moment.number(),
        web_order_line_item_id=moment.number(),
        product_id=listing.product_id,
        price_milli=price if price is None or offer is None else offer.price_milli(price),
        offer=offer,
        purchased_at=moment.at,
        expires_at=moment.lengths.after(moment.at, length),
        stated_at=moment.at,
        revocation=None,
        renewal=False,
        upgraded=False,
        finished=False,
    )
    return (Step(period, notice, begun(period, list_price_milli=price, before=subscription), others),)


def cut_short(period: Transaction, at: datetime) -> Transaction:
    """The period when it is over: time has moved on to its end."""
    if period.expires_at is None or period.expires_at <= at:
        return period
    return replace(period, expires_at=at, stated_at=at)


def renewing_as(subscription: Subscription, moment: Moment, to: Listing) -> Subscription:
    """The subscription when its next renewal is of this product, at the product's price. Raises StateConflict."""
    must_be_active(subscription, moment)
    must_renew(subscription)
    price = None if subscription.period.family_shared else to.price_milli
    return replace(
        subscription, renews_as=to.product_id, list_price_milli=price, renewal_offer=None, price_increase=None
    )


def renewal_length(subscription: Subscription) -> Length:
    """How long the next period will be."""
    return subscription.renewal_offer.length if subscription.renewal_offer else length_of(subscription.renews_as)


def must_renew(subscription: Subscription) -> None:
    """Raises StateConflict unless a renewal is to come."""
    if not subscription.runs:
        refuse("not-running", "it has ended, or its last renewal is unpaid")
    if not subscription.auto_renew:
        refuse("not-renewing", "its renewal is switched off: resume it first")


def must_be_active(subscription: Subscription, moment: Moment) -> None:
    """Raises StateConflict unless its period runs."""
    status = subscription.status(moment.at)
    if status is not Status.ACTIVE:
        refuse("not-active", f"it is {named(status)}")


def must_differ(product_id: str, to: Listing) -> None:
    """Raises StateConflict when the product is that one already."""
    if product_id == to.product_id:
        refuse("same-product", f"it is {product_id} already")


def named(status: Status) -> str:
    """A status in words."""
    return {
        Status.ACTIVE: "active",
        Status.EXPIRED: "expired",
        Status.RETRY: "in billing retry",
        Status.GRACE: "in its grace period",
        Status.REVOKED: "revoked",
    }[status]


def refuse(code: str, sentence: str) -> NoReturn:
    """Raises StateConflict."""
    raise StateConflict(code, sentence)
