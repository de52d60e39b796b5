"""What comes in (pydantic models) and what goes out (dataclasses, for msgspec): the contract's schemas are made of it.

Every moment is RFC 3339 in UTC with milliseconds, every amount a whole number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from gateway.domain.callers import UNADDRESSABLE, parse_user_id
from gateway.domain.purchases import Delivery, Status
from gateway.domain.purchases import Purchase as KnownPurchase
from gateway.domain.timelines import Entry
from gateway.handlers import Submitted
from shared import catalog
from shared.clock import rfc3339
from shared.events import Environment, ProductType, RejectionCode, Store
from shared.ids import EventId, UserId
from shared.money import Amount

WAIT_S_MAX: Final = 30
PAGE_MAX: Final = 200
PAGE_DEFAULT: Final = 50

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
UserText = Annotated[
    UserId,
    AfterValidator(parse_user_id),
    Field(
        description="A user of the app, as the app's own login names it.",
        json_schema_extra={"pattern": r"^[^\x00-\x1f\x7f]{1,128}$", "not": {"enum": sorted(UNADDRESSABLE)}},
    ),
]
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


@dataclass(frozen=True, slots=True)
class Example:
    """A request body as the contract shows it, and what it is one of."""

    summary: str
    value: Mapping[str, Any]


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


class AppleNotification(BaseModel):
    """App Store Server Notifications, version 2: `responseBodyV2`."""

    signedPayload: str = Field(description="A JWS of the App Store.")  # noqa: N815  Apple's name


class WaitQuery(BaseModel):
    """`wait`: so many seconds at the longest, until the purchase is in a final state."""

    wait: Annotated[int, Field(ge=0, le=WAIT_S_MAX)] | None = None


class PageQuery(BaseModel):
    """One page of a list: `after` is the `next` of the page before."""

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    after: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None


class WalletQuery(BaseModel):
    """Which of the user's wallets."""

    environment: Environment = "production"


class WalletPageQuery(WalletQuery):
    """Which wallet, and which page of it: `after` is the `next` of the page before."""

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    after: Annotated[str, Field(min_length=1, max_length=64)] | None = None


# ---- what goes out ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CurrencyAmount:
    """So many whole units of one currency."""

    currency: str
    amount: int

    @classmethod
    def of(cls, amount: Amount) -> CurrencyAmount:
        return cls(currency=amount.currency, amount=amount.amount)


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
    for an operator); after a refund `partially_refunded` or `refunded`.
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


@dataclass(frozen=True, slots=True)
class OpenDelivery:
    """A consumer that has not handled the event yet. `due_at` null: it waits for an operator."""

    consumer: str
    state: str
    due_at: Moment | None
    handovers: int
    attempts: int
    error: str | None

    @classmethod
    def of(cls, delivery: Delivery) -> OpenDelivery:
        return cls(
            consumer=delivery.consumer,
            state=delivery.state,
            due_at=None if delivery.due_at is None else rfc3339(delivery.due_at),
            handovers=delivery.handovers,
            attempts=delivery.attempts,
            error=delivery.error,
        )


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One event: what it says (proofs left out), what it followed from, and what followed from it.

    `data` is empty when a newer release wrote the event and the one that answers cannot read it.
    """

    id: str
    type: str
    user_id: str | None
    data: Mapping[str, Any]
    trace_id: str
    caused_by: str | None
    led_to: Sequence[str]
    deliveries: Sequence[OpenDelivery]
    occurred_at: Moment
    recorded_at: Moment

    @classmethod
    def of(cls, entry: Entry) -> TimelineEvent:
        return cls(
            id=str(entry.id),
            type=entry.type,
            user_id=entry.user_id,
            data=_plain(msgspec.to_builtins(entry.data, builtin_types=(datetime,))),
            trace_id=entry.trace_id,
            caused_by=None if entry.caused_by is None else str(entry.caused_by),
            led_to=[str(event_id) for event_id in entry.led_to],
            deliveries=[OpenDelivery.of(delivery) for delivery in entry.deliveries],
            occurred_at=rfc3339(entry.occurred_at),
            recorded_at=rfc3339(entry.recorded_at),
        )


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that is recorded of a purchase, and of what caused it, oldest first."""

    events: Sequence[TimelineEvent]


@dataclass(frozen=True, slots=True)
class Product:
    """A product of the store, and what each unit of it gives."""

    id: str
    type: ProductType
    name: str
    group: str | None
    grants: Sequence[CurrencyAmount]
    entitlements: Sequence[str]

    @classmethod
    def of(cls, product: catalog.Product) -> Product:
        return cls(
            id=product.id,
            type=product.type,
            name=product.name,
            group=product.group,
            grants=[CurrencyAmount.of(amount) for amount in product.granted(1)],
            entitlements=product.entitlements,
        )


@dataclass(frozen=True, slots=True)
class ProductList:
    """The app's catalogue."""

    products: Sequence[Product]


@dataclass(frozen=True, slots=True)
class AccountToken:
    """The UUID to give StoreKit as `appAccountToken`. One per user, for ever."""

    app_account_token: str


@dataclass(frozen=True, slots=True)
class Balance:
    """One currency of a wallet: `available` is `balance` without what is `held`; `debt` is owed after a refund."""

    balance: int
    available: int
    held: int
    debt: int


@dataclass(frozen=True, slots=True)
class Wallet:
    """What a user has. `version` counts the wallet's entries: of two answers the one with the higher is newer."""

    user_id: str
    environment: Environment
    version: int
    balances: Mapping[str, Balance]


@dataclass(frozen=True, slots=True)
class WalletEntry:
    """One change of a wallet. `purchase_id` is there when a purchase or its refund was the reason."""

    id: str
    kind: str
    currency: str
    amount: int
    balance_after: int
    version: int
    created_at: Moment
    purchase_id: str | None = None


@dataclass(frozen=True, slots=True)
class WalletPage:
    """A wallet's entries, newest first. `next` null: there are no more."""

    entries: Sequence[WalletEntry]
    next: str | None


@dataclass(frozen=True, slots=True)
class Health:
    """`ok` or `ready`."""

    status: str


@dataclass(frozen=True, slots=True)
class Problem:
    """An error (RFC 9457). `code` is stable; `trace_id` leads to the log."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    trace_id: str


def _plain(value: Any) -> Any:
    """The value with its moments as the contract writes them."""
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return value
