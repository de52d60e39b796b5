"""What the gateway says: what clients and stores have sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final
from uuid import UUID

from shared.events.base import Payload
from shared.events.store import Store
from shared.ids import TransactionId

PROOF_REMOVED: Final = "removed"
"""Stands where a receipt, or what a store has signed, was removed from the journal: its user was erased, or it was kept
for as long as it was to be (journal.without_proofs in shared/bus/migrations/0005_personal_data.py)."""
TOKEN_REMOVED: Final = UUID(int=0)
"""The same of an account token."""


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
    """The store told us something; the signature of the outer JWS was checked before it was recorded.

    `original_transaction_id` is the first transaction of what it is about, by which notifications about a user's
    purchases are found; None: it names none.
    """

    TYPE: ClassVar[str] = "notification.received"

    store: Store
    notification_id: str
    notification_type: str
    subtype: str | None
    signed_payload: str
    original_transaction_id: TransactionId | None = None


@dataclass(frozen=True, slots=True)
class AccountTokenIssued(Payload):
    """The UUID that a user's app gives StoreKit as `appAccountToken`. One per user, for ever."""

    TYPE: ClassVar[str] = "account_token.issued"

    token: UUID
