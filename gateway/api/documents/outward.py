"""What is told outside of its own accord: the messages of webhooks, and the events of the pull side.

shared/events/outward.py writes them, for both; here it is what the contract says of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, RootModel

from gateway.api.documents.parts import CurrencyAmount, Moment
from gateway.api.documents.purchases import Rejection
from gateway.api.documents.subscriptions import Subscription
from gateway.api.documents.wallets import EntryKind
from gateway.domain.purchases import Status
from shared.events import Environment, Store

# ---- what they are about ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PurchaseData:
    """The purchase, as in `GET /v1/purchases/{purchase}`. What the event does not say is null."""

    user_id: str
    environment: Environment | None
    id: str
    store: Store
    status: Status
    transaction_id: str
    original_transaction_id: str | None
    product_id: str | None
    quantity: int | None
    granted: Sequence[CurrencyAmount]
    refunded: Sequence[CurrencyAmount]
    rejection: Rejection | None


@dataclass(frozen=True, slots=True)
class WalletData:
    """The entry of the wallet, as in `GET /v1/users/{user}/wallet/entries`. A debit's `amount` is negative.

    `version` counts the wallet's entries without a gap: `balance_after` of a lower one than you have is old.
    """

    user_id: str
    environment: Environment
    entry_id: str
    kind: EntryKind
    currency: str
    amount: int
    balance_after: int
    version: int
    purchase_id: str | None
    spend_id: str | None = None
    grant_id: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class RefundRequestData:
    """The request for a refund, as in `GET /v1/refund-requests/{refund_request}`."""

    user_id: str
    environment: Environment
    id: str
    purchase_id: str
    status: Literal["open", "refunded", "declined", "expired"]
    reason: str | None
    spent_percentage_milli: int
    held: Sequence[CurrencyAmount]
    expires_at: Moment


@dataclass(frozen=True, slots=True)
class SubscriptionData(Subscription):
    """The subscription, as in `GET /v1/users/{user}/subscriptions`: drop it if its `version` is lower than you have."""

    user_id: str


@dataclass(frozen=True, slots=True)
class EntitlementData:
    """The entitlement, as in `GET /v1/users/{user}/entitlements`: drop it if its `version` is lower than you have."""

    user_id: str
    environment: Environment
    id: str
    active: bool
    until: Moment | None
    source: str | None
    version: int


# ---- as they are sent: the event's id is in `webhook-id` ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PurchaseMessage:
    """A purchase was granted or rejected, or the store took it back, or not any more."""

    type: Literal["purchase.completed", "purchase.rejected", "purchase.refunded", "purchase.refund_reversed"]
    timestamp: Moment
    data: PurchaseData


@dataclass(frozen=True, slots=True)
class WalletMessage:
    """Currency came into a wallet, or left it."""

    type: Literal["wallet.credited", "wallet.debited"]
    timestamp: Moment
    data: WalletData


@dataclass(frozen=True, slots=True)
class RefundRequestMessage:
    """A user's request for a refund was taken, or has come to an end."""

    type: Literal["refund_request.updated"]
    timestamp: Moment
    data: RefundRequestData


@dataclass(frozen=True, slots=True)
class SubscriptionMessage:
    """A subscription stands otherwise than was said before."""

    type: Literal["subscription.updated"]
    timestamp: Moment
    data: SubscriptionData


@dataclass(frozen=True, slots=True)
class EntitlementMessage:
    """A user may use something, may use it until another time, or may no more."""

    type: Literal["entitlement.changed"]
    timestamp: Moment
    data: EntitlementData


class OutwardMessage(
    RootModel[
        Annotated[
            PurchaseMessage | WalletMessage | RefundRequestMessage | SubscriptionMessage | EntitlementMessage,
            Field(discriminator="type"),
        ]
    ]
):
    """What happened, and when. There may be more types, and more members of `data`, than are listed here."""


# ---- as they are read ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PurchaseEvent(PurchaseMessage):
    """A purchase was granted or rejected, or the store took it back, or not any more."""

    id: str


@dataclass(frozen=True, slots=True)
class WalletEvent(WalletMessage):
    """Currency came into a wallet, or left it."""

    id: str


@dataclass(frozen=True, slots=True)
class RefundRequestEvent(RefundRequestMessage):
    """A user's request for a refund was taken, or has come to an end."""

    id: str


@dataclass(frozen=True, slots=True)
class SubscriptionEvent(SubscriptionMessage):
    """A subscription stands otherwise than was said before."""

    id: str


@dataclass(frozen=True, slots=True)
class EntitlementEvent(EntitlementMessage):
    """A user may use something, may use it until another time, or may no more."""

    id: str


class OutwardEvent(
    RootModel[
        Annotated[
            PurchaseEvent | WalletEvent | RefundRequestEvent | SubscriptionEvent | EntitlementEvent,
            Field(discriminator="type"),
        ]
    ]
):
    """What webhooks tell, with its id: the `webhook-id`."""
