"""What the control calls answer, as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from shared.clock import rfc3339
from simulator.agenda import Setting
from simulator.domain import PERCENT_100_MILLI, Offer, Transaction
from simulator.notification_log import Attempt, Notification
from simulator.payloads import expiration_intent
from simulator.subscribers import Truth
from simulator.subscriptions import Status, Subscription
from simulator.telling import Statement

Json = dict[str, Any]


def statement_view(statement: Statement) -> Json:
    """A transaction and all that an app would hold of it."""
    return {
        **transaction_view(statement.transaction),
        "signed_transaction": statement.signed_transaction,
        "receipt": statement.receipt,
        "notification_id": statement.notification_id,
    }


def transaction_view(transaction: Transaction) -> Json:
    """A transaction as the store knows it."""
    revocation = transaction.revocation
    return {
        "transaction_id": transaction.transaction_id,
        "original_transaction_id": transaction.original_transaction_id,
        "environment": transaction.customer.environment,
        "customer": transaction.customer.name,
        "bundle_id": transaction.customer.bundle_id,
        "product_id": transaction.product_id,
        "type": transaction.type,
        "quantity": transaction.quantity,
        "purchased_at": rfc3339(transaction.purchased_at),
        "expires_at": _when(transaction.expires_at),
        "finished": transaction.finished,
        "revocation": revocation
        and {
            "at": rfc3339(revocation.at),
            "kind": revocation.kind,
            "reason": revocation.reason,
            "percentage_milli": revocation.percentage_milli,
        },
    }


def notification_view(notification: Notification) -> Json:
    """A notification and its fate."""
    return {
        "id": notification.id,
        "type": notification.type,
        "subtype": notification.subtype,
        "transaction_id": notification.transaction_id,
        "environment": notification.environment,
        "state": notification.state,
        "created_at": rfc3339(notification.created_at),
        "next_attempt_at": _when(notification.next_attempt_at),
        "attempts": [_attempt_view(attempt) for attempt in notification.attempts],
        "signed_payload": notification.signed_payload,
    }


def _attempt_view(attempt: Attempt) -> Json:
    return {
        "at": rfc3339(attempt.at),
        "result": attempt.result,
        "http_status": attempt.http_status,
        "answer": attempt.answer,
        "duration_ms": attempt.duration_ms,
    }


# ---- subscriptions ----------------------------------------------------------------------------------------------


def command_view(statement: Statement) -> Json:
    """A subscription after a command, and all that an app would hold of its current period."""
    subscription = statement.subscription
    assert subscription is not None  # only subscriptions have commands
    return {
        **subscription_view(subscription, subscription.status(statement.signed_at)),
        "signed_transaction": statement.signed_transaction,
        "signed_renewal": statement.signed_renewal,
        "receipt": statement.receipt,
        "notification_id": statement.notification_id,
    }


def truth_view(truth: Truth) -> Json:
    """A subscription with all its periods, oldest first."""
    periods = [_period_view(period) for period in truth.periods]
    return {**subscription_view(truth.subscription, truth.status), "periods": periods}


def subscription_view(subscription: Subscription, status: Status) -> Json:
    """A subscription; `status` is Apple's number for it."""
    period = subscription.period
    return {
        "original_transaction_id": subscription.id,
        "transaction_id": period.transaction_id,
        "environment": period.customer.environment,
        "customer": period.customer.name,
        "bundle_id": period.customer.bundle_id,
        "group": period.group,
        "product_id": period.product_id,
        "status": int(status),
        "family_shared": period.family_shared,
        "app_account_token": period.app_account_token,
        "expires_at": _when(period.expires_at),
        "access_until": _when(subscription.access_until),
        "auto_renew": subscription.auto_renew,
        "auto_renew_product_id": subscription.renews_as,
        "renewal_price_milli": subscription.renewal_price_milli,
        "renewal_offer": _offer_view(subscription.renewal_offer),
        "billing": subscription.billing,
        "fails_next": subscription.fails_next,
        "retry_until": _when(subscription.retry_until),
        "grace_until": _when(subscription.grace_until),
        "expiration_intent": expiration_intent(subscription),
        "price_increase": subscription.price_increase,
    }


def _period_view(period: Transaction) -> Json:
    return {
        "transaction_id": period.transaction_id,
        "web_order_line_item_id": period.web_order_line_item_id,
        "product_id": period.product_id,
        "purchased_at": rfc3339(period.purchased_at),
        "expires_at": _when(period.expires_at),
        "offer": _offer_view(period.offer),
        "price_milli": period.price_milli,
        "paid": period.paid,
        "refunded_percent_milli": _taken_back_milli(period),
        "family_shared": period.family_shared,
        "upgraded": period.upgraded,
    }


def _taken_back_milli(period: Transaction) -> int:
    """How much of it was refunded; what the family shares no more is taken back wholly."""
    if period.revocation is None:
        return 0
    milli = period.revocation.percentage_milli
    return PERCENT_100_MILLI if milli is None else milli


def _offer_view(offer: Offer | None) -> Json | None:
    if offer is None:
        return None
    return {
        "type": offer.type,
        "discount": offer.discount,
        "identifier": offer.identifier,
        "period": str(offer.length),
    }


def setting_view(setting: Setting) -> Json:
    """How long a month is, and whether subscriptions live by themselves."""
    return {"month_s": setting.month_s, "running": setting.running}


def _when(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None
