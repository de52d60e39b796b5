"""A subscription as everybody outside is told of it, by HTTP and by webhook alike: plain values, times as RFC 3339."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from shared.clock import rfc3339
from shared.events.store import Offer, SubscriptionState


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
