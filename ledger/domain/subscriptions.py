"""A subscription: what a store has said of it, in whatever order it was heard, and how it stands at a moment.

Statements come in any order, more than once, or never. What is kept is a maximum of all of them, so the order cannot
matter:

- the **current period** is the one that began last; a period is a charge of the store's, however many transaction ids
  show it;
- of the statements about it, and of those about the next renewal, the one that was **signed last** counts;
- what a period was sold for never changes, so whoever states it fills it in: a receipt states no price;
- of the words on refunds of it, the one that was signed last counts (of two of the same moment, the larger refund).

Time does the rest: `status_at` is what Apple's `status` field says of the same facts at the same moment.
Source: developer.apple.com, appstoreserverapi/status, …/jwsrenewalinfodecodedpayload.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple, TypeVar

from shared.events import (
    Environment,
    ExpirationReason,
    Offer,
    Period,
    Renewal,
    Revoked,
    Store,
    StoreTransaction,
    SubscriptionState,
    SubscriptionStatus,
)
from shared.ids import AppId, SubscriptionId, TransactionId, UserId, subscription_id

BILLING_RETRY: Final = timedelta(days=60)
"""Apple tries a failed renewal again for up to so long (DID_FAIL_TO_RENEW)."""


class SubscriptionKey(NamedTuple):
    """A subscription, for ever: by its original transaction. Rows are locked in the order of their keys."""

    app: AppId
    store: Store
    environment: Environment
    original_transaction_id: TransactionId

    @property
    def id(self) -> SubscriptionId:
        return subscription_id(
            app=self.app,
            store=self.store,
            environment=self.environment,
            original_transaction_id=self.original_transaction_id,
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """What a store says at once: of a period, of refunds of it (None: nothing), of the next renewal (None: nothing)."""

    transaction: StoreTransaction
    revoked: Revoked | None = None
    renewal: Renewal | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """All that counts of what was heard: the current period, how far it is refunded, and its next renewal."""

    transaction: StoreTransaction
    revoked: Revoked | None = None
    renewal: Renewal | None = None

    @property
    def period(self) -> Period:
        assert self.transaction.period is not None  # `heard` makes none without
        return self.transaction.period

    @property
    def is_revoked(self) -> bool:
        """The current period was taken back. In part is wholly, here: what was prorated has been used by then."""
        return self.revoked is not None and self.revoked.percentage_milli > 0

    @property
    def last_renewal(self) -> Renewal | None:
        """What the store says of how this very period ended or will; an earlier word is about an earlier period."""
        if self.renewal is None or self.renewal.signed_at < self.transaction.purchased_at:
            return None
        return self.renewal

    @property
    def grace_until(self) -> datetime | None:
        """Only while the store tries to be paid: of what was cancelled meanwhile, it may go on stating the date."""
        renewal = self.last_renewal
        return renewal.grace_period_expires_at if renewal is not None and renewal.in_billing_retry else None

    @property
    def access_until(self) -> datetime | None:
        """Up to when the customer may use it; None: not at all. Time has no part in it."""
        if self.is_revoked:
            return None
        return max(self.period.expires_at, self.grace_until or self.period.expires_at)


def key_of(app: AppId, transaction: StoreTransaction) -> SubscriptionKey | None:
    """The subscription that a transaction is a period of; None: of none."""
    if transaction.period is None:
        return None
    return SubscriptionKey(app, transaction.store, transaction.environment, transaction.original_transaction_id)


def heard(before: Subscription | None, statement: Statement) -> Subscription:
    """The subscription after one more statement, whichever came before.

    `statement.transaction` has a `period`. Commutative, associative and idempotent: see tests/properties.
    """
    said = Subscription(statement.transaction, statement.revoked, statement.renewal)
    if before is None:
        return said
    renewal = _newer(before.renewal, said.renewal)
    if _charge(before) == _charge(said):
        transaction = _same_period(before.transaction, said.transaction)
        return Subscription(transaction, _weightier(before.revoked, said.revoked), renewal)
    current = max(before, said, key=_began)
    return replace(current, renewal=renewal)


def _charge(subscription: Subscription) -> TransactionId:
    return subscription.transaction.charge


def _began(subscription: Subscription) -> tuple[datetime, TransactionId]:
    return subscription.transaction.purchased_at, _charge(subscription)


def _same_period(one: StoreTransaction, other: StoreTransaction) -> StoreTransaction:
    newest = max(one, other, key=lambda each: (each.signed_at, repr(each)))
    first, second = one.period, other.period
    assert first is not None
    assert second is not None
    assert newest.period is not None
    return replace(
        newest,
        purchased_at=max(
            one.purchased_at, other.purchased_at
        ),  # the same, unless a store dates a copy by its restoring
        period=replace(
            newest.period,
            group=_either(first.group, second.group),
            offer=_offer(first.offer, second.offer),
            price_milli=_either(first.price_milli, second.price_milli),
            currency=_either(first.currency, second.currency),
        ),
    )


def _offer(one: Offer | None, other: Offer | None) -> Offer | None:
    if one is None or other is None:
        return one or other
    return Offer(
        type=max(one.type, other.type),
        identifier=_either(one.identifier, other.identifier),
        discount_type=_either(one.discount_type, other.discount_type),
        period=_either(one.period, other.period),
    )


T = TypeVar("T", str, int)


def _either(one: T | None, other: T | None) -> T | None:
    """Of what never changes, the one that is stated; the larger, so that the order cannot matter if a store errs."""
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _newer(one: Renewal | None, other: Renewal | None) -> Renewal | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda each: (each.signed_at, repr(each)))


def _weightier(one: Revoked | None, other: Revoked | None) -> Revoked | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda each: (each.signed_at, each.percentage_milli, repr(each)))


# ---- how it stands -----------------------------------------------------------------------------------------------


def status_at(subscription: Subscription, now: datetime) -> SubscriptionStatus:
    """The status at a moment. What is said of a period holds until its end, and the end comes by itself."""
    if subscription.is_revoked:
        assert subscription.revoked is not None
        return "revoked" if subscription.revoked.cause == "family_sharing_ended" else "refunded"
    if now < subscription.period.expires_at:
        return "active"
    renewal = subscription.last_renewal
    if renewal is None or not renewal.in_billing_retry:
        return "expired"
    if subscription.grace_until is not None and now < subscription.grace_until:
        return "in_grace_period"
    return "in_billing_retry" if now < subscription.period.expires_at + BILLING_RETRY else "expired"


def due_at(subscription: Subscription, now: datetime) -> datetime | None:
    """When its status will be another one if nothing more is heard; None: never."""
    moments = [subscription.period.expires_at]
    if subscription.grace_until is not None:
        moments.append(subscription.grace_until)
    if subscription.last_renewal is not None and subscription.last_renewal.in_billing_retry:
        moments.append(subscription.period.expires_at + BILLING_RETRY)
    status = status_at(subscription, now)
    return min((each for each in moments if each > now and status_at(subscription, each) != status), default=None)


def state_at(key: SubscriptionKey, subscription: Subscription, *, now: datetime, version: int) -> SubscriptionState:
    """All that is told of it."""
    transaction, period, renewal = subscription.transaction, subscription.period, subscription.renewal
    status = status_at(subscription, now)
    state = SubscriptionState(
        id=key.id,
        store=key.store,
        environment=key.environment,
        status=status,
        product_id=transaction.product_id,
        original_transaction_id=key.original_transaction_id,
        transaction_id=transaction.transaction_id,
        period_starts_at=transaction.purchased_at,
        expires_at=period.expires_at,
        access_until=subscription.access_until,
        version=version,
        group=period.group,
        trial=not period.is_paid,
        offer=period.offer,
        price_milli=period.price_milli,
        currency=period.currency,
        family_shared=transaction.family_shared,
        grace_period_expires_at=subscription.grace_until,
        expiration_reason=_expiration_reason(subscription, status),
        revoked_at=subscription.revoked.at if subscription.is_revoked and subscription.revoked else None,
    )
    if renewal is None:
        return state
    return replace(
        state,
        auto_renew=renewal.auto_renew,
        renewal_product_id=renewal.product_id,
        renews_at=renewal.renews_at,
        renewal_price_milli=renewal.price_milli,
        renewal_currency=renewal.currency,
        renewal_offer=renewal.offer,
        price_increase=renewal.price_increase,
    )


def _expiration_reason(subscription: Subscription, status: SubscriptionStatus) -> ExpirationReason | None:
    """Why, once it has expired: as the store states it, or because all its tries to be paid are over."""
    renewal = subscription.last_renewal
    if status != "expired" or renewal is None:
        return None
    return renewal.expiration_reason or ("billing_error" if renewal.in_billing_retry else None)


@dataclass(frozen=True, slots=True)
class KnownSubscription:
    """How a subscription stands on record. `told` is what was said of it last, None while nobody owns it."""

    user_id: UserId | None = None
    subscription: Subscription | None = None
    told: SubscriptionState | None = None

    @property
    def version(self) -> int:
        return self.told.version if self.told else 0


NEVER_HEARD: Final = KnownSubscription()


def restated(key: SubscriptionKey, known: KnownSubscription, *, now: datetime) -> KnownSubscription:
    """What is to be told of it now. The version counts on where something new is; nothing is told of nobody's."""
    if known.subscription is None or known.user_id is None:
        return known
    state = state_at(key, known.subscription, now=now, version=known.version)
    if state == known.told:
        return known
    return replace(known, told=replace(state, version=known.version + 1))
