"""What a store says of a purchase or a subscription, in words that hold for every store. Times are UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.ids import SubscriptionId, TransactionId

Store = Literal["apple"]
Environment = Literal["production", "sandbox"]
ProductType = Literal["consumable", "non_consumable", "auto_renewable", "non_renewing"]
RejectionCode = Literal[
    "receipt_malformed",
    "receipt_unauthentic",
    "transaction_not_found",
    "wrong_app",
    "wrong_environment",
    "wrong_product",
    "claimed_by_another_user",
    "account_token_mismatch",
    "already_refunded",
    "not_granted_family_shared",
    "store_refused",
]
RevocationCause = Literal["refund", "family_sharing_ended"]
"""Why the store took a purchase back: the money was returned, or the family member who bought it shares it no more."""


SubscriptionStatus = Literal["active", "in_grace_period", "in_billing_retry", "expired", "revoked", "refunded"]
"""`revoked`: shared by a family member who shares it no more; `refunded`: the money for the current period was
returned. In the first two the customer may use it."""
ExpirationReason = str
"""Why a subscription expired: `customer_cancelled`, `billing_error`, `price_increase_not_consented`,
`product_not_available`, `other`; what a store says beyond these is kept as it is."""

FREE_TRIAL = "free_trial"


@dataclass(frozen=True, slots=True)
class Offer:
    """What a period was sold under, or will be: `type` is `introductory`, `promotional`, `offer_code` or `win_back`;
    `discount_type` `free_trial`, `pay_as_you_go`, `pay_up_front` or `one_time`; `period` an ISO 8601 duration. What a
    store says beyond these is kept in digits or lower case; None is what it does not say."""

    type: str
    identifier: str | None = None
    discount_type: str | None = None
    period: str | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """What a transaction of an auto-renewable subscription pays for. `price_milli` is in thousandths of `currency`
    (ISO 4217), for the whole quantity; a receipt states no price."""

    expires_at: datetime
    group: str | None = None
    offer: Offer | None = None
    price_milli: int | None = None
    currency: str | None = None

    @property
    def is_paid(self) -> bool:
        """Money was asked for it; where the store does not say, it was."""
        if self.price_milli == 0:
            return False
        return self.offer is None or self.offer.discount_type != FREE_TRIAL


@dataclass(frozen=True, slots=True)
class StoreTransaction:
    """One transaction as the store states it, in the store's own terms; times are UTC.

    `signed_at` is when the store said so (a receipt: when it answered): of two statements the newer counts.
    `product_type` None: a receipt does not say, and the catalogue did not know the product. `period` is of
    auto-renewable subscriptions only. `family_shared`: it was not bought by this customer; a family member shares it.

    `charge_id`: a store may show one charge under several transaction ids, as restored copies. They share this id, and
    what the charge gives is given once. None: the transaction is the charge.
    """

    store: Store
    environment: Environment
    transaction_id: TransactionId
    original_transaction_id: TransactionId
    product_id: str
    product_type: ProductType | None
    quantity: int
    purchased_at: datetime
    signed_at: datetime
    charge_id: TransactionId | None = None
    family_shared: bool = False
    period: Period | None = None

    @property
    def charge(self) -> TransactionId:
        """What it is granted as, once."""
        return self.charge_id or self.transaction_id


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a store says of a subscription's next renewal. `auto_renew`: it will be tried; `product_id` is what it will
    be renewed as, at `renews_at`, for `price_milli` thousandths of `currency`.

    `in_billing_retry`: the last renewal could not be paid, and the store tries again; until `grace_period_expires_at`
    (if there is one) the customer keeps the subscription meanwhile. `expiration_reason` is why it expired, None while
    it has not. `price_increase` `pending`: the customer was told, and has not agreed; None: there is none.
    """

    signed_at: datetime
    auto_renew: bool
    product_id: str | None = None
    renews_at: datetime | None = None
    price_milli: int | None = None
    currency: str | None = None
    offer: Offer | None = None
    in_billing_retry: bool = False
    grace_period_expires_at: datetime | None = None
    expiration_reason: ExpirationReason | None = None
    price_increase: str | None = None


@dataclass(frozen=True, slots=True)
class Revoked:
    """How far a transaction is refunded by the statement that says so last (`signed_at`): `percentage_milli` 100,000 is
    all of it, 0 that the store took its refund back."""

    signed_at: datetime
    percentage_milli: int
    at: datetime
    cause: RevocationCause = "refund"


@dataclass(frozen=True, slots=True)
class SubscriptionState:
    """A subscription as it stands. `access_until`: the customer may use it up to then; None: not at all.

    `auto_renew` None: the store has not said yet. The current period began at `period_starts_at`; a `trial` is free.
    `renewal_product_id` is what it will be renewed as. `version` counts what was said of it: drop what is older.
    """

    id: SubscriptionId
    store: Store
    environment: Environment
    status: SubscriptionStatus
    product_id: str
    original_transaction_id: TransactionId
    transaction_id: TransactionId
    period_starts_at: datetime
    expires_at: datetime
    access_until: datetime | None
    version: int = 0
    group: str | None = None
    trial: bool = False
    offer: Offer | None = None
    price_milli: int | None = None
    currency: str | None = None
    family_shared: bool = False
    auto_renew: bool | None = None
    renewal_product_id: str | None = None
    renews_at: datetime | None = None
    renewal_price_milli: int | None = None
    renewal_currency: str | None = None
    renewal_offer: Offer | None = None
    price_increase: str | None = None
    grace_period_expires_at: datetime | None = None
    expiration_reason: ExpirationReason | None = None
    revoked_at: datetime | None = None
