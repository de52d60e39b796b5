"""Purchases: which proofs are taken in, and what a purchase's newest word makes of it.

The word that counts is kept by the journal (shared.events.WORD_RANK); here it is only read.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from shared.apps import AppleApp
from shared.events import (
    Environment,
    Event,
    Payload,
    PurchaseCompleted,
    PurchaseParked,
    PurchaseRefunded,
    PurchaseRefundReversed,
    PurchaseRejected,
    PurchaseVerified,
    ReceiptSubmitted,
    RejectionCode,
    Store,
    StoreTransaction,
    TransactionIdSubmitted,
    TransactionSubmitted,
)
from shared.ids import EventId, PurchaseId, TransactionId, UserId, uuid7_moment
from shared.jws import JwsMalformed, peek_claims
from shared.money import Amount

Status = Literal[
    "accepted", "verifying", "completed", "rejected", "parked", "partially_refunded", "refunded", "revoked"
]
Proof = ReceiptSubmitted | TransactionSubmitted | TransactionIdSubmitted

OPEN: Final[frozenset[str]] = frozenset({"accepted", "verifying"})
"""The states that a purchase leaves by itself; all others are final for whoever waits."""
SUBMITTED: Final = frozenset(proof.TYPE for proof in (ReceiptSubmitted, TransactionSubmitted, TransactionIdSubmitted))
"""The words by which a proof came in."""
OPEN_WORDS: Final = SUBMITTED | {PurchaseVerified.TYPE}
"""The words that say that a purchase is open."""
ALL_MILLI: Final = 100_000
"""A whole refund, in thousandths of a percent, as the App Store counts."""

_TRANSACTION_ID: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")
_COMPACT_JWS: Final = re.compile(r"[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+")
"""Whatever else it says, it has to be text that a database can keep: header and signature are not looked into here."""
_PURCHASE_ID: Final = re.compile(r"pur_[a-z2-7]{26}")


class ProofInvalid(ValueError):
    """What was sent cannot be a proof of a purchase. The message names the field."""


class PurchaseMalformed(Exception):
    """The word of this purchase is an event that says nothing about a purchase: a fault of ours."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that a consumer has not handled yet. `due_at` None: only an operator makes it due."""

    consumer: str
    event_id: EventId
    state: str
    due_at: datetime | None
    handovers: int
    attempts: int
    error: str | None

    @property
    def is_stuck(self) -> bool:
        return self.state in {"parked", "dead"}

    @property
    def is_untouched(self) -> bool:
        return self.state == "waiting" and self.handovers == 0 and self.attempts == 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a purchase stands: its first event, its newest word, and the deliveries of that word that are open."""

    purchase_id: PurchaseId
    user_id: UserId | None
    first_event_id: EventId
    word: Event[Payload]
    deliveries: Sequence[Delivery] = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a purchase was refused; `detail` may be shown."""

    code: RejectionCode
    detail: str


@dataclass(frozen=True, slots=True)
class Purchase:
    """One user's claim to one store transaction. What the store has not confirmed yet is None."""

    id: PurchaseId
    status: Status
    store: Store
    transaction_id: TransactionId
    user_id: UserId | None
    environment: Environment | None
    original_transaction_id: TransactionId | None
    product_id: str | None
    quantity: int | None
    granted: Sequence[Amount]
    refunded: Sequence[Amount]
    rejection: Rejection | None
    created_at: datetime
    updated_at: datetime

    @property
    def is_final(self) -> bool:
        return self.status not in OPEN


def parse_purchase_id(text: str) -> PurchaseId | None:
    """None for what cannot be the id of a purchase."""
    return PurchaseId(text) if _PURCHASE_ID.fullmatch(text) else None


def receipt_proof(*, store: Store, transaction_id: str, receipt: str, vouched: bool) -> ReceiptSubmitted:
    """An app receipt and the transaction that is claimed from it. Raises ProofInvalid."""
    try:
        is_empty = not a2b_base64(receipt, strict_mode=True)
    except ValueError as error:  # non-ASCII too
        raise ProofInvalid("receipt: it is not base64") from error
    if is_empty:
        raise ProofInvalid("receipt: it is empty")
    return ReceiptSubmitted(
        store=store,
        transaction_id=_transaction_id(transaction_id, field="transaction_id"),
        receipt=receipt,
        vouched=vouched,
    )


def transaction_proof(*, store: Store, signed_transaction: str, transaction_id: str | None) -> TransactionSubmitted:
    """A StoreKit 2 transaction; its id is what it says, unverified. Raises ProofInvalid, also if the claim differs."""
    if _COMPACT_JWS.fullmatch(signed_transaction) is None:
        raise ProofInvalid("signed_transaction: three segments of base64url, separated by dots, are wanted")
    try:
        said = peek_claims(signed_transaction).get("transactionId")
    except JwsMalformed as error:
        raise ProofInvalid(f"signed_transaction: {error}") from error
    if not isinstance(said, str):
        raise ProofInvalid("signed_transaction: its payload has no transactionId")
    if transaction_id not in {None, said}:
        raise ProofInvalid("transaction_id: it is not that of signed_transaction")
    return TransactionSubmitted(
        store=store,
        transaction_id=_transaction_id(said, field="signed_transaction: its transactionId"),
        signed_transaction=signed_transaction,
    )


def transaction_id_proof(*, store: Store, transaction_id: str, vouched: bool, app: AppleApp) -> TransactionIdSubmitted:
    """A transaction that is named, no more: the App Store Server API is asked what it is.

    Raises ProofInvalid, also when the app has no key for that.
    """
    if app.api_key is None:
        raise ProofInvalid(
            "transaction_id: alone it is looked up with the App Store Server API, for which this app has no key: "
            "send receipt or signed_transaction too, or configure apple.issuer_id, key_id and private_key_file"
        )
    named = _transaction_id(transaction_id, field="transaction_id")
    return TransactionIdSubmitted(store=store, transaction_id=named, vouched=vouched)


def _transaction_id(text: str, *, field: str) -> TransactionId:
    if _TRANSACTION_ID.fullmatch(text) is None:
        raise ProofInvalid(f"{field}: 1 to 64 letters, digits, dots, dashes or underscores are wanted")
    return TransactionId(text)


def proof_text(proof: Proof) -> str:
    """The proof itself: two submissions with the same are repeats. What is vouched for is another proof.

    Neither a receipt nor a JWS has a colon, so none is taken for another kind of proof.
    """
    match proof:
        case TransactionSubmitted():
            return proof.signed_transaction
        case ReceiptSubmitted():
            text: str = proof.receipt
        case TransactionIdSubmitted():
            text = f"id:{proof.transaction_id}"
    return f"vouched:{text}" if proof.vouched else text


def purchase_of(standing: Standing) -> Purchase:
    """The purchase that the newest word tells of. Raises PurchaseMalformed."""
    word = standing.word.payload
    facts = _facts(word)
    return Purchase(
        id=standing.purchase_id,
        status=_status(word, standing.deliveries),
        store=facts.store,
        transaction_id=facts.transaction_id,
        user_id=standing.user_id,
        environment=facts.environment,
        original_transaction_id=facts.original_transaction_id,
        product_id=facts.product_id,
        quantity=facts.quantity,
        granted=word.granted if isinstance(word, PurchaseCompleted | PurchaseRefunded | PurchaseRefundReversed) else (),
        refunded=word.refunded if isinstance(word, PurchaseRefunded | PurchaseRefundReversed) else (),
        rejection=Rejection(word.code, word.detail) if isinstance(word, PurchaseRejected) else None,
        created_at=uuid7_moment(standing.first_event_id),
        updated_at=uuid7_moment(standing.word.id),
    )


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a word says of the store's transaction."""

    store: Store
    transaction_id: TransactionId
    environment: Environment | None = None
    original_transaction_id: TransactionId | None = None
    product_id: str | None = None
    quantity: int | None = None

    @classmethod
    def confirmed(cls, transaction: StoreTransaction) -> _Facts:
        return cls(
            store=transaction.store,
            transaction_id=transaction.transaction_id,
            environment=transaction.environment,
            original_transaction_id=transaction.original_transaction_id,
            product_id=transaction.product_id,
            quantity=transaction.quantity,
        )


def _facts(word: Payload) -> _Facts:
    match word:
        case (
            PurchaseVerified() | PurchaseParked() | PurchaseCompleted() | PurchaseRefunded() | PurchaseRefundReversed()
        ):
            return _Facts.confirmed(word.transaction)
        case PurchaseRejected():
            return _Facts(word.store, word.transaction_id, environment=word.environment, product_id=word.product_id)
        case ReceiptSubmitted() | TransactionSubmitted() | TransactionIdSubmitted():
            return _Facts(word.store, word.transaction_id)
        case _:
            raise PurchaseMalformed(f"{word.TYPE} is no word about a purchase")


def _status(word: Payload, deliveries: Sequence[Delivery]) -> Status:
    match word:
        case PurchaseCompleted():
            return "completed"
        case PurchaseRejected():
            return "rejected"
        case PurchaseParked():
            return "parked"
        case PurchaseRefunded(cause="family_sharing_ended"):
            return "revoked"
        case PurchaseRefunded() | PurchaseRefundReversed():
            return _status_after_refund(word.percentage_milli)
        case _:
            return _open_status(word, deliveries)


def _status_after_refund(percentage_milli: int) -> Status:
    """By how much of it is refunded: once nothing is any more, the purchase stands as it did."""
    if percentage_milli <= 0:
        return "completed"
    return "refunded" if percentage_milli >= ALL_MILLI else "partially_refunded"


def _open_status(word: Payload, deliveries: Sequence[Delivery]) -> Status:
    """A word that another one is to follow: unless whoever was to say it has given up and waits for an operator."""
    if any(delivery.is_stuck for delivery in deliveries):
        return "parked"
    if word.TYPE in SUBMITTED and any(each.is_untouched for each in deliveries):
        return "accepted"
    return "verifying"
