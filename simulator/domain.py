"""What the store sells and remembers: values and rules, no clock, no I/O."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, NewType

from shared.catalog import QUANTITY_MAX
from shared.events import Environment, ProductType
from shared.ids import TransactionId
from simulator.lengths import Length

CustomerName = NewType("CustomerName", str)
RevocationKind = Literal["REFUND_FULL", "REFUND_PRORATED", "FAMILY_REVOKE"]

OfferType = Literal["introductory", "promotional", "offer_code", "win_back"]
DiscountType = Literal["free_trial", "pay_as_you_go", "pay_up_front"]

NotificationType = Literal[
    "SUBSCRIBED",
    "DID_RENEW",
    "DID_CHANGE_RENEWAL_PREF",
    "DID_CHANGE_RENEWAL_STATUS",
    "OFFER_REDEEMED",
    "DID_FAIL_TO_RENEW",
    "GRACE_PERIOD_EXPIRED",
    "EXPIRED",
    "PRICE_INCREASE",
    "RENEWAL_EXTENDED",
    "RENEWAL_EXTENSION",
    "ONE_TIME_CHARGE",
    "REFUND",
    "REFUND_REVERSED",
    "REFUND_DECLINED",
    "CONSUMPTION_REQUEST",
    "REVOKE",
    "TEST",
]
Subtype = Literal[
    "INITIAL_BUY",
    "RESUBSCRIBE",
    "BILLING_RECOVERY",
    "UPGRADE",
    "DOWNGRADE",
    "AUTO_RENEW_ENABLED",
    "AUTO_RENEW_DISABLED",
    "GRACE_PERIOD",
    "VOLUNTARY",
    "BILLING_RETRY",
    "PRICE_INCREASE",
    "PRODUCT_NOT_FOR_SALE",
    "PENDING",
    "ACCEPTED",
    "FAILURE",
    "SUMMARY",
]

PERCENT_100_MILLI: Final = 100_000
"""Apple writes percentages in milliunits: 67.932 % is 67932 (revocationPercentage)."""


class SimulatorError(Exception):
    """What the store refuses to do; the message is for the developer who asked."""


class FieldInvalid(SimulatorError):
    """A field of the request cannot be used; `field` names it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


class TransactionUnknown(SimulatorError):
    """The store knows no transaction, or no subscription, of this id."""


class NotificationUnknown(SimulatorError):
    """The store knows no notification of this id (it remembers a limited number of the settled ones)."""


class StateConflict(SimulatorError):
    """What was asked does not fit what has happened; `code` says how."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True, slots=True)
class Notice:
    """What the App Store calls something that happened."""

    type: NotificationType
    subtype: Subtype | None = None


@dataclass(frozen=True, slots=True)
class Customer:
    """One person's download of one app in one environment: what an app receipt is about."""

    bundle_id: str
    app_apple_id: int | None
    environment: Environment
    name: CustomerName

    @property
    def app_transaction_id(self) -> str:
        """Apple's id of the download (18 digits): always the same for the same customer."""
        digest = hashlib.sha256("\0".join((self.bundle_id, self.environment, self.name)).encode()).digest()
        return str(700_000_000_000_000_000 + int.from_bytes(digest[:8], "big") % 10**17)


@dataclass(frozen=True, slots=True)
class Listing:
    """What is on sale: a product of one app as the store lists it. The price is for one of it, in milliunits."""

    bundle_id: str
    app_apple_id: int | None
    product_id: str
    type: ProductType
    group: str | None
    price_milli: int
    currency: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A period of a subscription for less: `length` is how long it lasts. An introductory offer has no identifier."""

    type: OfferType
    discount: DiscountType
    length: Length
    identifier: str | None = None

    def price_milli(self, list_price_milli: int) -> int:
        """What it costs: nothing in a free trial, half of the price in every other."""
        return 0 if self.discount == "free_trial" else list_price_milli // 2


@dataclass(frozen=True, slots=True)
class Revocation:
    """A refund, or the end of a family's sharing. `reason`: 1 an issue with the app, 0 another (Apple)."""

    at: datetime
    kind: RevocationKind
    reason: Literal[0, 1]
    percentage_milli: int | None


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction as the store knows it. `stated_at` is the moment of its newest change; times are whole ms.

    A family-shared one has no price. `finished` says that the app has finished it, which matters for consumables only:
    they are in receipts until then. Of a subscription each is a period: `renewal` when the store began it by itself,
    `offer` when it was sold for less, `upgraded` when the customer has left it for a better one.
    """

    transaction_id: TransactionId
    original_transaction_id: TransactionId
    web_order_line_item_id: str | None
    customer: Customer
    product_id: str
    type: ProductType
    group: str | None
    quantity: int
    price_milli: int | None
    currency: str | None
    app_account_token: str | None
    family_shared: bool
    purchased_at: datetime
    original_purchased_at: datetime
    expires_at: datetime | None
    stated_at: datetime
    revocation: Revocation | None = None
    finished: bool = False
    renewal: bool = False
    offer: Offer | None = None
    upgraded: bool = False

    @property
    def renews(self) -> bool:
        return self.type == "auto_renewable"

    @property
    def paid(self) -> bool:
        """The customer's money was taken for it."""
        return bool(self.price_milli)

    def active(self, now: datetime) -> bool:
        """The customer has what was bought: not revoked, not expired."""
        return self.revocation is None and (self.expires_at is None or now < self.expires_at)

    def in_receipt(self) -> bool:
        """A consumable is in receipts until it is finished or refunded, everything else for ever.

        Apple: in_app (a consumable "until your app finishes the transaction"); cancellation_date_ms ("present only if
        the refund or revocation was for a non-consumable product, an auto-renewable subscription, or a non-renewing
        subscription").
        """
        return self.type != "consumable" or not (self.finished or self.revocation)


def refunded(transaction: Transaction, *, percentage_milli: int, reason: Literal[0, 1], now: datetime) -> Transaction:
    """The transaction after Apple gave money back: `percentage_milli` is all that it gave back by then.

    A further refund takes more than the one before. Raises StateConflict when as much was taken back already.
    """
    _must_be_left(transaction, percentage_milli)
    kind: RevocationKind = "REFUND_FULL" if percentage_milli == PERCENT_100_MILLI else "REFUND_PRORATED"
    return _changed(transaction, Revocation(now, kind, reason, percentage_milli), now)


def family_revoked(transaction: Transaction, *, now: datetime) -> Transaction:
    """The transaction after the family stopped sharing it. Raises StateConflict when it was never shared."""
    if not transaction.family_shared:
        raise StateConflict("not-family-shared", "only a family-shared transaction is revoked; refund the others")
    _must_be_left(transaction, PERCENT_100_MILLI)
    return _changed(transaction, Revocation(now, "FAMILY_REVOKE", 0, None), now)


def refund_reversed(transaction: Transaction, *, now: datetime) -> Transaction:
    """The transaction after Apple took the refund back. Raises StateConflict when there was none."""
    if transaction.revocation is None or transaction.revocation.kind == "FAMILY_REVOKE":
        raise StateConflict("not-refunded", "there is no refund to reverse")
    return _changed(transaction, None, now)


def finished(transaction: Transaction) -> Transaction:
    """The transaction after the app has finished it. Nothing that is signed changes."""
    return replace(transaction, finished=True)


def _must_be_left(transaction: Transaction, percentage_milli: int) -> None:
    """So much can be taken back only if it was not all taken back before, nor as much of it."""
    before = transaction.revocation
    if before is None:
        return
    if before.kind != "REFUND_PRORATED":
        raise StateConflict("already-revoked", f"the transaction was revoked before ({before.kind})")
    if before.percentage_milli is not None and percentage_milli <= before.percentage_milli:
        share = f"{before.percentage_milli / 1000:g} %"
        raise StateConflict("already-refunded", f"{share} of it are refunded already: name all that is refunded then")


def _changed(transaction: Transaction, revocation: Revocation | None, now: datetime) -> Transaction:
    return replace(transaction, revocation=revocation, stated_at=now)


def percentage_milli(percent: float) -> int:
    """Percent (above 0, at most 100) in Apple's milliunits. Raises FieldInvalid outside of that."""
    milli = round(percent * 1000) if 0 < percent <= 100 else 0
    if milli == 0:
        raise FieldInvalid("percent", "above 0, at most 100")
    return milli


def check_purchase(listing: Listing, *, quantity: int, family_shared: bool, offer: Offer | None = None) -> None:
    """Raises FieldInvalid when Apple would not sell it so.

    StoreKit: a quantity above 1 is for consumables and non-renewing subscriptions; only non-consumables and
    auto-renewable subscriptions can be shared with the family. Offers are for subscriptions, and for who pays them.
    """
    quantity_max = QUANTITY_MAX if listing.type in ("consumable", "non_renewing") else 1
    if not 1 <= quantity <= quantity_max:
        raise FieldInvalid("quantity", f"1 to {quantity_max} for a {listing.type} product")
    if family_shared and listing.type not in ("non_consumable", "auto_renewable"):
        raise FieldInvalid("family_shared", f"a {listing.type} product cannot be shared with the family")
    if offer is not None and (listing.type != "auto_renewable" or family_shared):
        raise FieldInvalid("offer", "only for a subscription that the customer pays for")


# ---- what the catalogue does not say ----------------------------------------------------------------------------

_PRICES_MILLI = (990, 1_990, 2_990, 4_990, 9_990, 19_990, 49_990)


def invented_price_milli(product_id: str) -> int:
    """A price for one of the product, in milliunits of the currency: the same for a product every time."""
    return _PRICES_MILLI[hashlib.sha256(product_id.encode()).digest()[0] % len(_PRICES_MILLI)]
