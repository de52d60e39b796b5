"""Requests for a refund, as users make them in the app. The ledger reads and checks the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, Field

from gateway.api.documents.parts import CurrencyAmount, Example, Moment
from gateway.api.documents.wallets import Reason
from shared.events import Environment, Store


class NewRefundRequest(BaseModel):
    """A user wants the money back."""

    reason: Reason | None = Field(default=None, description="What the user says; kept with the request.")


REFUND_REQUEST_EXAMPLES: Final[Mapping[str, Example]] = {
    "reason": Example("With what the user says", {"reason": "My child bought it by mistake."}),
    "bare": Example("Without a reason", {}),
}


@dataclass(frozen=True, slots=True)
class RefundAdvice:
    """What the app does next. Only the store gives money back, and it wants to be asked by the user.

    `present_refund_sheet`: show the store's own form for the transaction (StoreKit: `beginRefundRequest(for:in:)`).
    """

    store: Store
    action: Literal["present_refund_sheet"]
    transaction_id: str


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """A request for a refund. While it is `open`, what is left of the purchase is `held` and cannot be spent.

    `status`: `open`, then what the store said, `refunded` or `declined`, or `expired` if it says nothing until
    `expires_at`; what was held is free again then. `spent_percentage_milli`: how much of the purchase was spent when
    the request was made, in thousandths of a percent.
    """

    id: str
    purchase_id: str
    user_id: str
    environment: Environment
    status: Literal["open", "refunded", "declined", "expired"]
    reason: str | None
    spent_percentage_milli: int
    held: Sequence[CurrencyAmount]
    advice: RefundAdvice
    created_at: Moment
    updated_at: Moment
    expires_at: Moment
