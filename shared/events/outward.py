"""What everybody outside is told, by HTTP and by webhook alike: plain values, times as RFC 3339."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from shared.clock import rfc3339
from shared.events.base import Event, Payload
from shared.events.ledger import (
    EntitlementChanged,
    PurchaseCompleted,
    PurchaseRefunded,
    PurchaseRefundReversed,
    RefundRequestUpdated,
    SubscriptionUpdated,
    WalletChange,
    WalletCredited,
    WalletDebited,
)
from shared.events.store import Offer, StoreTransaction, SubscriptionState
from shared.events.verifier import PurchaseRejected
from shared.ids import PurchaseId
from shared.money import Amount

ALL_MILLI: Final = 100_000


class OutwardEventUnknown(LookupError):
    """An event of this type is told to nobody outside: it is missing in `outward_data`."""


def outward_document(event: Event[Payload]) -> dict[str, Any]:
    """An outward event as Standard Webhooks wants it: `{"type", "timestamp", "data"}`; the time is the event's own.

    Raises OutwardEventUnknown.
    """
    return {"type": event.type, "timestamp": rfc3339(event.occurred_at), "data": outward_data(event)}


def outward_data(event: Event[Payload]) -> dict[str, Any]:
    """`data` of an outward event: a purchase as in `GET /v1/purchases/{id}`, an entry of a wallet, a refund request, a
    subscription as in `GET /v1/users/{u}/subscriptions`, or an entitlement.

    What the event does not say of a purchase is null. Raises OutwardEventUnknown.
    """
    payload = event.payload
    match payload:
        case PurchaseCompleted():
            thing = _purchase(payload.purchase_id, "completed", payload.transaction, granted=payload.granted)
        case PurchaseRefunded() | PurchaseRefundReversed():
            thing = _refunded(payload)
        case PurchaseRejected():
            thing = _rejected(payload)
        case WalletCredited() | WalletDebited():
            thing = _wallet_entry(payload.change)
        case RefundRequestUpdated():
            thing = _refund_request(payload)
        case SubscriptionUpdated():
            thing = subscription_document(payload.subscription)
        case EntitlementChanged():
            thing = _entitlement(payload)
        case _:
            raise OutwardEventUnknown(f"{event.type} is not told to anybody outside")
    return {"user_id": event.user_id, **thing}


def _purchase(
    purchase_id: PurchaseId,
    status: str,
    transaction: StoreTransaction,
    *,
    granted: Sequence[Amount],
    refunded: Sequence[Amount] = (),
) -> dict[str, Any]:
    return {
        "environment": transaction.environment,
        "id": purchase_id,
        "store": transaction.store,
        "status": status,
        "transaction_id": transaction.transaction_id,
        "original_transaction_id": transaction.original_transaction_id,
        "product_id": transaction.product_id,
        "quantity": transaction.quantity,
        "granted": granted,
        "refunded": refunded,
        "rejection": None,
    }


def _refunded(payload: PurchaseRefunded | PurchaseRefundReversed) -> dict[str, Any]:
    return _purchase(
        payload.purchase_id,
        _refund_status(payload),
        payload.transaction,
        granted=payload.granted,
        refunded=payload.refunded,
    )


def _refund_status(payload: PurchaseRefunded | PurchaseRefundReversed) -> str:
    """By the store's percentage, as in `GET /v1/purchases/{id}`: amounts are rounded, and may be none at all."""
    if isinstance(payload, PurchaseRefunded) and payload.cause == "family_sharing_ended":
        return "revoked"
    if payload.percentage_milli >= ALL_MILLI:
        return "refunded"
    return "partially_refunded" if payload.percentage_milli > 0 else "completed"


def _rejected(payload: PurchaseRejected) -> dict[str, Any]:
    return {
        "environment": payload.environment,
        "id": payload.purchase_id,
        "store": payload.store,
        "status": "rejected",
        "transaction_id": payload.transaction_id,
        "original_transaction_id": None,
        "product_id": payload.product_id,
        "quantity": None,
        "granted": (),
        "refunded": (),
        "rejection": {"code": payload.code, "detail": payload.detail},
    }


def _wallet_entry(change: WalletChange) -> dict[str, Any]:
    """As in `GET /v1/users/{u}/wallet/entries`: what is not there had no part in it."""
    reasons = {"spend_id": change.spend_id, "grant_id": change.grant_id, "reference": change.reference}
    return {
        "environment": change.environment,
        "entry_id": change.entry_id,
        "kind": change.kind,
        "currency": change.currency,
        "amount": change.amount,
        "balance_after": change.balance_after,
        "version": change.version,
        "purchase_id": change.purchase_id,
        **{name: reason for name, reason in reasons.items() if reason is not None},
    }


def _refund_request(payload: RefundRequestUpdated) -> dict[str, Any]:
    """As in `GET /v1/refund-requests/{id}`, without what only that one knows."""
    return {
        "environment": payload.environment,
        "id": payload.refund_request_id,
        "purchase_id": payload.purchase_id,
        "status": payload.status,
        "reason": payload.reason,
        "spent_percentage_milli": payload.spent_percentage_milli,
        "held": payload.held,
        "expires_at": rfc3339(payload.expires_at),
    }


def _entitlement(payload: EntitlementChanged) -> dict[str, Any]:
    """As in `GET /v1/users/{u}/entitlements`, without its name."""
    return {
        "environment": payload.environment,
        "id": payload.entitlement,
        "active": payload.active,
        "until": None if payload.until is None else rfc3339(payload.until),
        "source": payload.source,
        "version": payload.version,
    }


def subscription_document(state: SubscriptionState) -> dict[str, Any]:
    """`GET /v1/users/{user}/subscriptions` has a list of these, `subscription.updated` one with its user."""
    return {
        "id": state.id,
        "store": state.store,
        "environment": state.environment,
        "status": state.status,
        "product_id": state.product_id,
        "group": state.group,
        "original_transaction_id": state.original_transaction_id,
        "transaction_id": state.transaction_id,
        "period": _period(state),
        "renewal": _renewal(state),
        "access_until": _moment(state.access_until),
        "grace_period_expires_at": _moment(state.grace_period_expires_at),
        "expiration_reason": state.expiration_reason,
        "revoked_at": _moment(state.revoked_at),
        "family_shared": state.family_shared,
        "version": state.version,
    }


def _moment(value: datetime | None) -> str | None:
    """A time that may not be."""
    return None if value is None else rfc3339(value)


def _period(state: SubscriptionState) -> dict[str, Any]:
    return {
        "starts_at": rfc3339(state.period_starts_at),
        "expires_at": rfc3339(state.expires_at),
        "trial": state.trial,
        "offer": _offer(state.offer),
        "price_milli": state.price_milli,
        "currency": state.currency,
    }


def _renewal(state: SubscriptionState) -> dict[str, Any] | None:
    """None: the store has not said yet."""
    if state.auto_renew is None:
        return None
    return {
        "auto_renew": state.auto_renew,
        "product_id": state.renewal_product_id,
        "renews_at": _moment(state.renews_at),
        "price_milli": state.renewal_price_milli,
        "currency": state.renewal_currency,
        "offer": _offer(state.renewal_offer),
        "price_increase": state.price_increase,
    }


def _offer(offer: Offer | None) -> dict[str, Any] | None:
    if offer is None:
        return None
    return {
        "type": offer.type,
        "identifier": offer.identifier,
        "discount_type": offer.discount_type,
        "period": offer.period,
    }
