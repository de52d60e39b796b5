"""What the ledger says: what moved, and what users have."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal

from shared.events.base import Payload
from shared.events.store import Environment, RevocationCause, StoreTransaction, SubscriptionState
from shared.ids import EntitlementId, GrantId, HoldId, PurchaseId, RefundRequestId, SpendId, SubscriptionId
from shared.money import Amount, CurrencyId


@dataclass(frozen=True, slots=True)
class PurchaseCompleted(Payload):
    """All that the purchase gives is granted."""

    TYPE: ClassVar[str] = "purchase.completed"

    purchase_id: PurchaseId
    transaction: StoreTransaction
    granted: list[Amount] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PurchaseParked(Payload):
    """Verified, but it cannot be granted yet, with the reason; it is retried when the operator says so."""

    TYPE: ClassVar[str] = "purchase.parked"

    purchase_id: PurchaseId
    transaction: StoreTransaction
    reason: str


@dataclass(frozen=True, slots=True)
class PurchaseRefunded(Payload):
    """What the purchase gave is taken back. `granted` and `refunded` are the totals of this purchase so far.

    `percentage_milli` of it are refunded (100,000 = all): it tells a part from the whole where no currency was granted.
    """

    TYPE: ClassVar[str] = "purchase.refunded"

    purchase_id: PurchaseId
    transaction: StoreTransaction
    granted: list[Amount] = field(default_factory=list)
    refunded: list[Amount] = field(default_factory=list)
    percentage_milli: int = 100_000
    cause: RevocationCause = "refund"


@dataclass(frozen=True, slots=True)
class PurchaseRefundReversed(Payload):
    """What a refund took is given again; `percentage_milli` is what is still refunded then (0: nothing).

    `granted` and `refunded` are the totals of this purchase so far.
    """

    TYPE: ClassVar[str] = "purchase.refund_reversed"

    purchase_id: PurchaseId
    transaction: StoreTransaction
    granted: list[Amount] = field(default_factory=list)
    refunded: list[Amount] = field(default_factory=list)
    percentage_milli: int = 0


@dataclass(frozen=True, slots=True)
class WalletChange:
    """One entry of a wallet. `version` counts the wallet's entries without a gap: drop what is older than you have.

    `purchase_id`, `spend_id` or `grant_id` is what moved the currency; `reference` is what the app's backend said of
    it.
    """

    entry_id: str
    environment: Environment
    currency: CurrencyId
    amount: int
    balance_after: int
    version: int
    kind: str
    purchase_id: PurchaseId | None = None
    spend_id: SpendId | None = None
    grant_id: GrantId | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class WalletCredited(Payload):
    """Currency came into a wallet; `amount` is positive."""

    TYPE: ClassVar[str] = "wallet.credited"

    change: WalletChange


@dataclass(frozen=True, slots=True)
class WalletDebited(Payload):
    """Currency left a wallet; `amount` is negative."""

    TYPE: ClassVar[str] = "wallet.debited"

    change: WalletChange


# What is asked of the ledger directly is recorded too, so that every posting has its event. `actor` is who asked:
# `client:<user id>`, `server:<key id>`, or `ledger` itself.


@dataclass(frozen=True, slots=True)
class SpendPosted(Payload):
    """Currency was spent, at once or by capturing a hold."""

    TYPE: ClassVar[str] = "spend.posted"

    spend_id: SpendId
    environment: Environment
    currency: CurrencyId
    amount: int
    actor: str
    reference: str | None = None
    item: str | None = None
    hold_id: HoldId | None = None


@dataclass(frozen=True, slots=True)
class SpendReversed(Payload):
    """A spend was given back; `amount` now, `reversed` in all."""

    TYPE: ClassVar[str] = "spend.reversed"

    spend_id: SpendId
    environment: Environment
    currency: CurrencyId
    amount: int
    reversed: int
    actor: str


@dataclass(frozen=True, slots=True)
class HoldPlaced(Payload):
    """Currency was set aside until `expires_at`."""

    TYPE: ClassVar[str] = "hold.placed"

    hold_id: HoldId
    environment: Environment
    currency: CurrencyId
    amount: int
    expires_at: datetime
    actor: str
    reference: str | None = None
    refund_request_id: RefundRequestId | None = None


@dataclass(frozen=True, slots=True)
class HoldEnded(Payload):
    """What was set aside was spent (`captured` of it), or is free again."""

    TYPE: ClassVar[str] = "hold.ended"

    hold_id: HoldId
    environment: Environment
    currency: CurrencyId
    amount: int
    captured: int
    state: Literal["captured", "released", "expired"]
    actor: str


@dataclass(frozen=True, slots=True)
class GrantPosted(Payload):
    """Currency was given as goodwill: why, and by whom."""

    TYPE: ClassVar[str] = "grant.posted"

    grant_id: GrantId
    environment: Environment
    currency: CurrencyId
    amount: int
    reason: str
    actor: str


@dataclass(frozen=True, slots=True)
class RefundRequestUpdated(Payload):
    """A user's request for a refund was taken (`open`), or has come to an end.

    `held` is what is set aside while it is open; `expires_at` is when it ends if the store says nothing.
    """

    TYPE: ClassVar[str] = "refund_request.updated"

    refund_request_id: RefundRequestId
    purchase_id: PurchaseId
    environment: Environment
    status: Literal["open", "refunded", "declined", "expired"]
    spent_percentage_milli: int
    expires_at: datetime
    held: list[Amount] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionUpdated(Payload):
    """A user's subscription stands otherwise than was said before."""

    TYPE: ClassVar[str] = "subscription.updated"

    subscription: SubscriptionState


@dataclass(frozen=True, slots=True)
class EntitlementChanged(Payload):
    """A user may use something, may use it until another time, or may no more. `until` None while `active`: for ever.

    `source` is what gives it, or what gives it longest; `version` counts the changes: drop what is older.
    """

    TYPE: ClassVar[str] = "entitlement.changed"

    entitlement: EntitlementId
    environment: Environment
    active: bool
    until: datetime | None
    version: int
    source: SubscriptionId | PurchaseId | None = None
