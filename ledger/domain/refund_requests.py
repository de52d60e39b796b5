"""A user's request, made in the app, for a refund of a purchase: when it is taken, and how it ends.

Only a store gives money back. The request sees to it that what the purchase gave is not spent while the store is asked:
what is left of it is held until the store has refunded or declined, or until the request has been open for as long as
the catalogue lets it. A hold takes nothing: the store's refund does, once the hold is released.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from ledger.domain.books import ALL_MILLI, Amounts, KnownTransaction, TransactionKey, WalletKey
from ledger.domain.decisions import Decision, Fact
from shared.catalog import RefundPolicy
from shared.clock import rfc3339
from shared.events import Environment, Event, PurchaseRefunded, RefundDeclined, RefundRequestUpdated, Store
from shared.ids import PurchaseId, RefundRequestId, TransactionId, UserId, refund_request_id
from shared.money import Amount

RefundRequestStatus = Literal["open", "refunded", "declined", "expired"]
Ended = Literal["refunded", "declined", "expired"]
Ineligibility = Literal["not_completed", "not_offered", "already_refunded", "window_passed", "spent_too_much"]

CLOCKS_APART: Final = timedelta(minutes=5)
"""So much earlier than the request may the store's answer to it be dated: its clock is not ours."""


# ---- when it is taken --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NotEligible:
    """The request is not taken. `detail` may be shown to the user's app; `members` are for programs."""

    reason: Ineligibility
    detail: str
    members: Mapping[str, Any] = field(default_factory=dict)


def spent_milli(*, due: Amounts, spent: Amounts) -> int:
    """How much of a purchase is spent, in thousandths of a percent: of its currencies, that of which most is.

    Rounded up, so that what is a little over a limit does not pass for the limit.
    """
    return max((-(-spent.get(currency, 0) * ALL_MILLI // amount) for currency, amount in due.items()), default=0)


def why_not(*, known: KnownTransaction, policy: RefundPolicy | None, spent: int, now: datetime) -> NotEligible | None:
    """Why a refund of the purchase cannot be asked for, by the catalogue's policy for its product; None: it can.

    `spent` is the share of it that is spent, in thousandths of a percent; `policy` None: the product has none, or is
    not in the catalogue any more.
    """
    if known.state != "granted":
        return NotEligible("not_completed", "the purchase is not completed, so there is nothing to give back")
    if policy is None or known.purchased_at is None:
        return NotEligible("not_offered", "refunds of this product are not asked for in the app, but of the store")
    if known.refunded_milli >= ALL_MILLI:
        return NotEligible("already_refunded", "the store has refunded the whole purchase")
    if now - known.purchased_at > timedelta(days=policy.window_days):
        return NotEligible(
            "window_passed",
            f"a refund can be asked for within {policy.window_days} days of the purchase",
            {"window_days": policy.window_days, "purchased_at": rfc3339(known.purchased_at)},
        )
    if spent > policy.spent_percent_max * ALL_MILLI // 100:
        return NotEligible(
            "spent_too_much",
            f"a refund can be asked for while no more than {policy.spent_percent_max} % of the purchase is spent",
            {"spent_percent_max": policy.spent_percent_max, "spent_percentage_milli": spent},
        )
    return None


# ---- what it is --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """A request as it stands. `stated_as` is the store's own id of its transaction. `held` is what is set aside for it:
    nothing once it has ended."""

    id: UUID
    transaction: TransactionKey
    stated_as: TransactionId
    purchase_id: PurchaseId
    user_id: UserId
    status: RefundRequestStatus
    reason: str | None
    spent_percentage_milli: int
    held: Amounts
    created_at: datetime
    updated_at: datetime
    expires_at: datetime

    @property
    def public_id(self) -> RefundRequestId:
        return refund_request_id(self.id)

    @property
    def wallet(self) -> WalletKey:
        """Where its currency is held."""
        return WalletKey(self.transaction.app, self.transaction.environment, self.user_id)


@dataclass(frozen=True, slots=True)
class Advice:
    """What the app is to do so that the store hears of the request.

    `present_refund_sheet`: show the store's own form (Apple, StoreKit: `Transaction.beginRefundRequest(in:)`) for the
    transaction.
    """

    store: Store
    action: Literal["present_refund_sheet"]
    transaction_id: TransactionId


@dataclass(frozen=True, slots=True)
class RefundRequestView:
    """What a user is told of a request. `is_new`: it was opened by the very call that this answers."""

    id: RefundRequestId
    purchase_id: PurchaseId
    user_id: UserId
    environment: Environment
    status: RefundRequestStatus
    reason: str | None
    spent_percentage_milli: int
    held: Sequence[Amount]
    advice: Advice
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    is_new: bool = False


def view_of(request: RefundRequest, *, advice: Advice, is_new: bool = False) -> RefundRequestView:
    """A request as its user is told of it."""
    return RefundRequestView(
        id=request.public_id,
        purchase_id=request.purchase_id,
        user_id=request.user_id,
        environment=request.transaction.environment,
        status=request.status,
        reason=request.reason,
        spent_percentage_milli=request.spent_percentage_milli,
        held=_listed(request.held),
        advice=advice,
        created_at=request.created_at,
        updated_at=request.updated_at,
        expires_at=request.expires_at,
        is_new=is_new,
    )


def word_of(request: RefundRequest) -> RefundRequestUpdated:
    """What is said about a request when it was opened, and when it has ended."""
    return RefundRequestUpdated(
        refund_request_id=request.public_id,
        purchase_id=request.purchase_id,
        environment=request.transaction.environment,
        status=request.status,
        spent_percentage_milli=request.spent_percentage_milli,
        expires_at=request.expires_at,
        held=_listed(request.held),
        reason=request.reason,
    )


def _listed(amounts: Amounts) -> list[Amount]:
    return [Amount(currency, amount) for currency, amount in sorted(amounts.items())]


# ---- how it ends -------------------------------------------------------------------------------------------------


def outcome(request: RefundRequest, event: Event[Fact], decision: Decision) -> Ended | None:
    """How the store's word on the transaction, and what was decided on it, end the request; None: they do not.

    A refund ends it when it refunds more than was refunded before: stores repeat themselves, and a repeat of an
    earlier, partial refund answers nothing. Likewise a refusal that is older than the request answered another one.
    """
    if any(isinstance(word, PurchaseRefunded) for word in decision.words):
        return "refunded"
    fact = event.payload
    if isinstance(fact, RefundDeclined) and fact.transaction.signed_at >= request.created_at - CLOCKS_APART:
        return "declined"
    return None


def ended(request: RefundRequest, status: Ended, *, now: datetime) -> RefundRequest:
    """The request at its end, when its holds are released."""
    return replace(request, status=status, held={}, updated_at=now)
