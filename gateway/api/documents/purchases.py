"""Purchases: as they are submitted, and as they are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.api.documents.parts import PAGE_DEFAULT, PAGE_MAX, CurrencyAmount, Example, Moment, UserText
from gateway.domain.purchases import Purchase as KnownPurchase
from gateway.domain.purchases import Status
from gateway.handlers import Submitted
from shared.clock import rfc3339
from shared.events import Environment, RejectionCode, Store
from shared.ids import EventId

WAIT_S_MAX: Final = 30

TransactionText = Annotated[
    str,
    Field(pattern=r"^[0-9A-Za-z._-]{1,64}$", description="The store's own id of the transaction."),
]


# ---- what comes in ----------------------------------------------------------------------------------------------

_TEXT: Final[Mapping[str, str]] = {"type": "string"}
_NONE: Final[Mapping[str, str]] = {"type": "null"}
_FORMS: Final[list[Any]] = [
    {
        "required": ["transaction_id", "receipt"],
        "properties": {"transaction_id": _TEXT, "receipt": _TEXT, "signed_transaction": _NONE},
    },
    {"required": ["signed_transaction"], "properties": {"signed_transaction": _TEXT, "receipt": _NONE}},
    {
        "required": ["transaction_id"],
        "properties": {"transaction_id": _TEXT, "receipt": _NONE, "signed_transaction": _NONE},
    },
]


class PurchaseSubmission(BaseModel):
    """A purchase and its proof: `signed_transaction`, or `transaction_id` with `receipt`, or `transaction_id` alone.

    One request brings one proof: `receipt` and `signed_transaction` together are refused.
    """

    model_config = ConfigDict(json_schema_extra={"oneOf": _FORMS})

    store: Literal["apple"]
    transaction_id: TransactionText | None = None
    receipt: str | None = Field(default=None, description="The app receipt, base64.")
    signed_transaction: str | None = Field(default=None, description="The JWS that StoreKit 2 gives for it.")
    user_id: UserText | None = Field(default=None, description="Whose purchase it is; only with a server key.")

    @model_validator(mode="after")
    def _has_one_proof(self) -> PurchaseSubmission:
        if self.receipt is not None and self.signed_transaction is not None:
            raise ValueError("receipt, signed_transaction: one of the two is wanted, not both")
        if self.receipt is not None and self.transaction_id is None:
            raise ValueError("transaction_id: a receipt needs the transaction that is claimed from it")
        if self.transaction_id is None and self.signed_transaction is None:
            raise ValueError("signed_transaction, receipt, transaction_id: a proof of the purchase is wanted")
        return self


_EXAMPLE_ID: Final = "2000000277760217"
_EXAMPLE_JWS: Final = (
    # {"alg":"ES256","x5c":["MIIE","MIID","MIIC"]}.{"transactionId":"2000000277760217"}: real ones are 6,000 characters
    "eyJhbGciOiJFUzI1NiIsIng1YyI6WyJNSUlFIiwiTUlJRCIsIk1JSUMiXX0"
    ".eyJ0cmFuc2FjdGlvbklkIjoiMjAwMDAwMDI3Nzc2MDIxNyJ9"
    ".ZXhhbXBsZQ"
)
PURCHASE_EXAMPLES: Final[Mapping[str, Example]] = {
    "signed_transaction": Example(
        "StoreKit 2: the transaction as it was signed; verified here, the store is not asked",
        {"store": "apple", "signed_transaction": _EXAMPLE_JWS},
    ),
    "receipt": Example(
        "StoreKit 1: the app receipt and the transaction in it; the store is asked",
        {"store": "apple", "transaction_id": _EXAMPLE_ID, "receipt": "MIITtAYJKoZIhvcNAQcCoIITpTCCE6E="},
    ),
    "transaction_id": Example(
        "The transaction's id alone; the store is asked, with the app's key of the App Store Server API",
        {"store": "apple", "transaction_id": _EXAMPLE_ID},
    ),
}


class WaitQuery(BaseModel):
    """`wait`: so many seconds at the longest, until the purchase is in a final state."""

    wait: Annotated[int, Field(ge=0, le=WAIT_S_MAX)] | None = None


class PageQuery(BaseModel):
    """One page of a list: `after` is the `next` of the page before."""

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    after: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None


# ---- what goes out ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a purchase was refused. `detail` may be shown to the user."""

    code: RejectionCode
    detail: str


@dataclass(frozen=True, slots=True)
class SubmittedPurchase:
    """A purchase that was taken in, durably, now or before; its path is in `Location`."""

    id: str
    status: Status
    store: Store
    transaction_id: str
    user_id: str | None

    @classmethod
    def of(cls, submitted: Submitted | KnownPurchase) -> SubmittedPurchase:
        return cls(
            id=submitted.id,
            status=submitted.status,
            store=submitted.store,
            transaction_id=submitted.transaction_id,
            user_id=submitted.user_id,
        )


@dataclass(frozen=True, slots=True)
class Purchase:
    """A purchase. What the store has not confirmed yet is null.

    `status`: `accepted`, then `verifying` while the store is asked, then `completed`, `rejected`, or `parked` (it waits
    for an operator). After a refund `partially_refunded` or `refunded`, and `completed` again once the store reverses
    it; `revoked` when whoever bought it no longer shares it with this user.
    """

    id: str
    store: Store
    environment: Environment | None
    status: Status
    transaction_id: str
    original_transaction_id: str | None
    product_id: str | None
    quantity: int | None
    user_id: str | None
    granted: Sequence[CurrencyAmount]
    refunded: Sequence[CurrencyAmount]
    rejection: Rejection | None
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, purchase: KnownPurchase) -> Purchase:
        refusal = purchase.rejection
        return cls(
            id=purchase.id,
            store=purchase.store,
            environment=purchase.environment,
            status=purchase.status,
            transaction_id=purchase.transaction_id,
            original_transaction_id=purchase.original_transaction_id,
            product_id=purchase.product_id,
            quantity=purchase.quantity,
            user_id=purchase.user_id,
            granted=[CurrencyAmount.of(amount) for amount in purchase.granted],
            refunded=[CurrencyAmount.of(amount) for amount in purchase.refunded],
            rejection=None if refusal is None else Rejection(code=refusal.code, detail=refusal.detail),
            created_at=rfc3339(purchase.created_at),
            updated_at=rfc3339(purchase.updated_at),
        )


@dataclass(frozen=True, slots=True)
class PurchasePage:
    """A user's purchases, newest first. `next` null: there are no more."""

    purchases: Sequence[Purchase]
    next: str | None

    @classmethod
    def of(cls, page: Sequence[KnownPurchase], following: EventId | None) -> PurchasePage:
        return cls(purchases=[Purchase.of(each) for each in page], next=None if following is None else following.hex)
