"""Every event there is: its name, its payload, and what it says about the thing it is about.

A payload is a frozen dataclass; it is kept in the journal as JSON and read back by `decode`. A field that is added
needs a default, so that the events of yesterday are still read. `subject` names what an event is about (a purchase, a
notification, an account token); all events of one subject are its timeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Generic, Literal, TypeVar
from uuid import UUID

import msgspec

from shared.ids import AppId, EventId, GrantId, HoldId, PurchaseId, RefundRequestId, SpendId, TransactionId, UserId
from shared.money import Amount, CurrencyId

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


class EventUnknown(LookupError):
    """No event of this name and version is known here: deploy consumers before producers."""


class EventMalformed(ValueError):
    """The payload in the journal is not what this event's type says."""


@dataclass(frozen=True, slots=True)
class Payload:
    """What every payload class says of itself."""

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1


P_co = TypeVar("P_co", bound=Payload, covariant=True)


@dataclass(frozen=True, slots=True)
class Event(Generic[P_co]):
    """A fact in the journal. `causation_id` is the event that it followed from; times are UTC."""

    id: EventId
    app: AppId
    subject: str
    user_id: UserId | None
    payload: P_co
    trace_id: str
    causation_id: EventId | None
    occurred_at: datetime
    recorded_at: datetime

    @property
    def type(self) -> str:
        return self.payload.TYPE


@dataclass(frozen=True, slots=True)
class UnreadEvent:
    """A fact in the journal whose payload this release cannot read, a newer one's say: all but the payload."""

    id: EventId
    type: str
    version: int
    app: AppId
    subject: str
    user_id: UserId | None
    trace_id: str
    causation_id: EventId | None
    occurred_at: datetime
    recorded_at: datetime


Recorded = Event[Payload] | UnreadEvent
"""Whatever is in the journal: to be shown, not to be acted on."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A fact that is about to be recorded; the journal gives it its time of recording, and its id unless it has one
    (what else is written in the same transaction may name it)."""

    payload: Payload
    app: AppId
    subject: str
    user_id: UserId | None
    occurred_at: datetime
    trace_id: str
    causation_id: EventId | None = None
    id: EventId | None = None


def following(
    cause: Event[Payload],
    payload: Payload,
    *,
    subject: str | None = None,
    user_id: UserId | None = None,
    occurred_at: datetime,
) -> Draft:
    """A draft that followed from an event: same app and trace, and its subject and user unless others are named."""
    return Draft(
        payload=payload,
        app=cause.app,
        subject=subject or cause.subject,
        user_id=user_id or cause.user_id,
        occurred_at=occurred_at,
        trace_id=cause.trace_id,
        causation_id=cause.id,
    )


# ---- what the gateway says --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReceiptSubmitted(Payload):
    """A client sent an app receipt and the transaction that it claims from it. The store has to be asked.

    `vouched`: it was the app's own backend that sent it, and it says whose the purchase is.
    """

    TYPE: ClassVar[str] = "receipt.submitted"

    store: Store
    transaction_id: TransactionId
    receipt: str
    vouched: bool = False


@dataclass(frozen=True, slots=True)
class TransactionIdSubmitted(Payload):
    """Somebody named a transaction, with no proof of it. The store has to be asked. `vouched` as of a receipt."""

    TYPE: ClassVar[str] = "transaction_id.submitted"

    store: Store
    transaction_id: TransactionId
    vouched: bool = False


@dataclass(frozen=True, slots=True)
class TransactionSubmitted(Payload):
    """A client sent a StoreKit 2 transaction, which carries its own proof; its id is what it says, unverified."""

    TYPE: ClassVar[str] = "transaction.submitted"

    store: Store
    transaction_id: TransactionId
    signed_transaction: str


@dataclass(frozen=True, slots=True)
class NotificationReceived(Payload):
    """The store told us something; the signature of the outer JWS was checked before it was recorded."""

    TYPE: ClassVar[str] = "notification.received"

    store: Store
    notification_id: str
    notification_type: str
    subtype: str | None
    signed_payload: str


@dataclass(frozen=True, slots=True)
class AccountTokenIssued(Payload):
    """The UUID that a user's app gives StoreKit as `appAccountToken`. One per user, for ever."""

    TYPE: ClassVar[str] = "account_token.issued"

    token: UUID


# ---- what the verifier says -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoreTransaction:
    """One transaction as the store states it, in the store's own terms; times are UTC.

    `signed_at` is when the store said so (a receipt: when it answered): of two statements the newer counts.
    `product_type` None: a receipt does not say, and the catalogue did not know the product.
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


@dataclass(frozen=True, slots=True)
class PurchaseVerified(Payload):
    """The store confirms the transaction, and this user owns it."""

    TYPE: ClassVar[str] = "purchase.verified"

    purchase_id: PurchaseId
    transaction: StoreTransaction


@dataclass(frozen=True, slots=True)
class PurchaseRejected(Payload):
    """This claim is refused for good, with the reason. `detail` is safe to show to the claimant."""

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
    has claimed the transaction.
    """

    TYPE: ClassVar[str] = "refund.received"

    transaction: StoreTransaction
    revoked_at: datetime
    reason: str
    percentage_milli: int = 100_000
    purchase_id: PurchaseId | None = None
    cause: RevocationCause = "refund"


@dataclass(frozen=True, slots=True)
class RefundReversed(Payload):
    """The store took a refund back: the purchase stands again, wholly. `transaction.signed_at` is when it said so."""

    TYPE: ClassVar[str] = "refund.reversed"

    transaction: StoreTransaction
    purchase_id: PurchaseId | None = None


@dataclass(frozen=True, slots=True)
class RefundDeclined(Payload):
    """Somebody asked the store for a refund, and the store said no: the purchase stands as it did."""

    TYPE: ClassVar[str] = "refund.declined"

    transaction: StoreTransaction
    purchase_id: PurchaseId | None = None


# ---- what the ledger says ---------------------------------------------------------------------------------------


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


# ---- what the notifier says -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WebhookQueued(Payload):
    """An outward event is to be told to one endpoint of the app's backend."""

    TYPE: ClassVar[str] = "webhook.queued"

    endpoint_id: str
    event_id: UUID
    event_type: str


@dataclass(frozen=True, slots=True)
class WebhookDelivered(Payload):
    """The endpoint took it. `attempt` counts from 1."""

    TYPE: ClassVar[str] = "webhook.delivered"

    endpoint_id: str
    event_id: UUID
    event_type: str
    attempt: int
    status: int


@dataclass(frozen=True, slots=True)
class WebhookExhausted(Payload):
    """The endpoint did not take it, and no attempt is left."""

    TYPE: ClassVar[str] = "webhook.exhausted"

    endpoint_id: str
    event_id: UUID
    event_type: str
    attempts: int
    reason: str


PAYLOADS: Mapping[tuple[str, int], type[Payload]] = {
    (cls.TYPE, cls.VERSION): cls
    for cls in (
        ReceiptSubmitted,
        TransactionIdSubmitted,
        TransactionSubmitted,
        NotificationReceived,
        AccountTokenIssued,
        PurchaseVerified,
        PurchaseRejected,
        RefundReceived,
        RefundReversed,
        RefundDeclined,
        PurchaseCompleted,
        PurchaseParked,
        PurchaseRefunded,
        PurchaseRefundReversed,
        WalletCredited,
        WalletDebited,
        SpendPosted,
        SpendReversed,
        HoldPlaced,
        HoldEnded,
        GrantPosted,
        RefundRequestUpdated,
        WebhookQueued,
        WebhookDelivered,
        WebhookExhausted,
    )
}

OUTWARD = (
    PurchaseCompleted.TYPE,
    PurchaseRejected.TYPE,
    PurchaseRefunded.TYPE,
    PurchaseRefundReversed.TYPE,
    WalletCredited.TYPE,
    WalletDebited.TYPE,
    RefundRequestUpdated.TYPE,
)
"""The events that the app's own backend may hear of."""

WORD_RANK: Mapping[str, int] = {
    ReceiptSubmitted.TYPE: 1,
    TransactionIdSubmitted.TYPE: 1,
    TransactionSubmitted.TYPE: 1,
    PurchaseRejected.TYPE: 1,
    PurchaseVerified.TYPE: 2,
    PurchaseParked.TYPE: 3,
    PurchaseCompleted.TYPE: 3,
    PurchaseRefunded.TYPE: 3,
    PurchaseRefundReversed.TYPE: 3,
}
"""Which events say what a purchase's status is. The newest of the highest rank is the word that counts. A claim may
come with several proofs, looked at in any order or at once, and one that is good is enough: a rejection is about one
proof, so it does not undo what another has proved. The ledger's word outranks all others. Ranks are kept with the
timelines: none may ever become lower."""


def encode(payload: Payload) -> bytes:
    """The payload as JSON."""
    return msgspec.json.encode(payload)


def decode(event_type: str, version: int, document: str | bytes) -> Payload:
    """The payload read back from its JSON document.

    Raises EventUnknown for a name or version that is not known here, EventMalformed when a field is missing or wrong.
    """
    payload_class = PAYLOADS.get((event_type, version))
    if payload_class is None:
        raise EventUnknown(f"no event {event_type!r} version {version} is known here")
    try:
        return msgspec.json.decode(document, type=payload_class)
    except msgspec.DecodeError as error:
        raise EventMalformed(f"{event_type} version {version}: {error}") from error
