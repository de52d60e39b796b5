"""What a customer chooses: to stop and to go on, another product, an offer, to come back. Pure, as `lives`."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

from simulator.domain import Listing, Notice, Offer
from simulator.steps import bought, must_be_active, must_differ, refuse, renewing_as, told
from simulator.subscriptions import LAPSE, Moment, Status, Step, Steps, Subscription, without_renewal

Effect = Literal["upgrade", "downgrade"]
"""A better product begins at once, a lesser one with the next renewal. Which is which, the caller says."""

USABLE: Final = frozenset({Status.ACTIVE, Status.GRACE})
"""While it stands so the customer has it, and buys no other of its group."""


def cancel(subscription: Subscription, moment: Moment) -> Steps:
    """No renewal any more (DID_CHANGE_RENEWAL_STATUS). Who cancels what is unpaid ends it (EXPIRED, VOLUNTARY)."""
    if not subscription.auto_renew:
        refuse("not-renewing", "it does not renew as it is")
    if subscription.billing == "ok":
        must_be_active(subscription, moment)
        return told(replace(subscription, auto_renew=False), moment, "DID_CHANGE_RENEWAL_STATUS", "AUTO_RENEW_DISABLED")
    over = replace(without_renewal(subscription), grace_until=None, ended="voluntary")
    return (
        *told(over, moment, "DID_CHANGE_RENEWAL_STATUS", "AUTO_RENEW_DISABLED"),
        *told(over, moment.later(), "EXPIRED", "VOLUNTARY"),
    )


def resume(subscription: Subscription, moment: Moment) -> Steps:
    """It renews again after all (DID_CHANGE_RENEWAL_STATUS)."""
    must_be_active(subscription, moment)
    if subscription.auto_renew:
        refuse("renewing", "it renews as it is")
    return told(replace(subscription, auto_renew=True), moment, "DID_CHANGE_RENEWAL_STATUS", "AUTO_RENEW_ENABLED")


def upgrade(subscription: Subscription, moment: Moment, *, to: Listing) -> Steps:
    """A better product, now (DID_CHANGE_RENEWAL_PREF). Apple gives back what is left of the period, with no REFUND."""
    return _upgraded(subscription, moment, to, Notice("DID_CHANGE_RENEWAL_PREF", "UPGRADE"))


def _upgraded(
    subscription: Subscription, moment: Moment, to: Listing, notice: Notice, offer: Offer | None = None
) -> Steps:
    must_be_active(subscription, moment)
    must_differ(subscription.period.product_id, to)
    left = replace(subscription.period, upgraded=True, stated_at=moment.at)
    return bought(subscription, moment, to, notice, offer=offer, others=(left,))


def downgrade(subscription: Subscription, moment: Moment, *, to: Listing) -> Steps:
    """A lesser product, from the next renewal on (DID_CHANGE_RENEWAL_PREF)."""
    must_differ(subscription.period.product_id, to)
    must_differ(subscription.renews_as, to)
    after = renewing_as(subscription, moment, to)
    return told(after, moment, "DID_CHANGE_RENEWAL_PREF", "DOWNGRADE")


def revert_downgrade(subscription: Subscription, moment: Moment, *, to: Listing) -> Steps:
    """The product that it is (`to`) will be the next too, after all (DID_CHANGE_RENEWAL_PREF without a subtype)."""
    must_be_active(subscription, moment)
    if subscription.renews_as == to.product_id:
        refuse("no-downgrade", f"it renews as {to.product_id} as it is")
    return told(renewing_as(subscription, moment, to), moment, "DID_CHANGE_RENEWAL_PREF")


def redeem_offer(
    subscription: Subscription, moment: Moment, *, offer: Offer, to: Listing, effect: Effect | None
) -> Steps:
    """An offer is redeemed: of the product that it is, for the next renewal; of another one as `effect` says
    (OFFER_REDEEMED). Who has no subscription any more subscribes again with it (SUBSCRIBED)."""
    if subscription.status(moment.at) not in USABLE:
        return resubscribe(subscription, moment, to=to, offer=offer)
    _must_be_eligible(subscription, offer)
    is_another = to.product_id != subscription.period.product_id
    if is_another and effect is None:
        refuse("effect-unknown", "the offer is of another product: say whether it is an upgrade or a downgrade")
    if is_another and effect == "upgrade":
        return _upgraded(subscription, moment, to, Notice("OFFER_REDEEMED", "UPGRADE"), offer)
    after = renewing_as(replace(subscription, auto_renew=True), moment, to)
    return told(replace(after, renewal_offer=offer), moment, "OFFER_REDEEMED", "DOWNGRADE" if is_another else None)


def _must_be_eligible(subscription: Subscription, offer: Offer) -> None:
    if offer.type == "introductory":
        refuse("not-eligible", "an introductory offer is for who never had one of the group")
    if subscription.period.family_shared:
        refuse("family-shared", "the family pays for it")


def resubscribe(
    subscription: Subscription,
    moment: Moment,
    *,
    to: Listing,
    app_account_token: str | None = None,
    offer: Offer | None = None,
) -> Steps:
    """Who had it buys again, the same or another of the group (SUBSCRIBED, RESUBSCRIBE)."""
    if subscription.status(moment.at) in USABLE:
        refuse("already-owned", "the customer has one of its group already")
    if offer is not None:
        _must_be_eligible(subscription, offer)
    access_until = subscription.access_until
    lapsed = access_until is None or moment.at >= moment.lengths.after(access_until, LAPSE)
    (step,) = bought(subscription, moment, to, Notice("SUBSCRIBED", "RESUBSCRIBE"), offer=offer)
    assert step.subscription is not None
    period = replace(step.transaction, app_account_token=app_account_token or step.transaction.app_account_token)
    started_at = period.purchased_at if lapsed else subscription.started_at
    return (Step(period, step.notice, replace(step.subscription, period=period, started_at=started_at)),)
