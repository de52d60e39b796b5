"""What the verifier says: what stores have confirmed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from shared.events.base import Payload
from shared.events.store import (
    Environment,
    RejectionCode,
    Renewal,
    RevocationCause,
    Revoked,
    Store,
    StoreTransaction,
)
from shared.ids import PurchaseId, SubscriptionId, TransactionId


@dataclass(frozen=True, slots=True)
class PurchaseVerified(Payload):
    """The store confirms the transaction, and this user owns it. `renewal` is what is known by now of the next renewal
    of the subscription that it is a period of: a new period is told together with it, and never with the last one's."""

    TYPE: ClassVar[str] = "purchase.verified"

    purchase_id: PurchaseId
    transaction: StoreTransaction
    renewal: Renewal | None = None


@dataclass(frozen=True, slots=True)
class PurchaseRejected(Payload):
    """This claim is refused, with the reason: for good, unless it is a refund that the store takes back. `detail` is
    safe to show to the claimant."""

    TYPE: ClassVar[str] = "purchase.rejected"

    purchase_id: PurchaseId
    store: Store
    transaction_id: TransactionId
    code: RejectionCode
    detail: str
    environment: Environment | None = None
    product_id: str | None = None


@dataclass(frozen=True, slots=True)
class RefundReceived(Payload):
    """The store took the purchase back. `percentage_milli` is of the whole quantity (100,000 = all of it).

    Several refunds of one transaction are each told as the whole that is refunded by then; of two statements, the one
    that was signed later (`transaction.signed_at`) counts. `purchase_id` and the event's user are absent while nobody
    has claimed the transaction. `renewal`: as of PurchaseVerified.
    """

    TYPE: ClassVar[str] = "refund.received"

    transaction: StoreTransaction
    revoked_at: datetime
    reason: str
    percentage_milli: int = 100_000
    purchase_id: PurchaseId | None = None
    cause: RevocationCause = "refund"
    renewal: Renewal | None = None


@dataclass(frozen=True, slots=True)
class RefundReversed(Payload):
    """The store took a refund back: the purchase stands again, wholly. `transaction.signed_at` is when it said so.
    `renewal`: as of PurchaseVerified."""

    TYPE: ClassVar[str] = "refund.reversed"

    transaction: StoreTransaction
    purchase_id: PurchaseId | None = None
    renewal: Renewal | None = None


@dataclass(frozen=True, slots=True)
class RefundDeclined(Payload):
    """Somebody asked the store for a refund, and the store said no: the purchase stands as it did."""

    TYPE: ClassVar[str] = "refund.declined"

    transaction: StoreTransaction
    purchase_id: PurchaseId | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionReported(Payload):
    """Asked for a subscription that should have renewed, the store stated its last transaction and its next renewal,
    which are signed and not verified yet. `status` is the store's own number."""

    TYPE: ClassVar[str] = "subscription.reported"

    store: Store
    environment: Environment
    original_transaction_id: TransactionId
    status: int
    signed_transaction: str
    signed_renewal_info: str | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionChanged(Payload):
    """A statement of the store about one period of a subscription: what was sold (`transaction.period`), how far it is
    refunded if the store has said so, and what it said with it about the next renewal. The statements of a subscription
    come in any order; of each part the one that was signed last counts. The event's user is absent while nobody has
    claimed the subscription.
    """

    TYPE: ClassVar[str] = "subscription.changed"

    subscription_id: SubscriptionId
    transaction: StoreTransaction
    revoked: Revoked | None = None
    renewal: Renewal | None = None
