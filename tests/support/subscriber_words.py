"""What Apple signs, and what a receipt shows, of a subscription of the model: in Apple's own names and units.

Source: Apple's JWSTransactionDecodedPayload, JWSRenewalInfoDecodedPayload and verifyReceipt's responseBody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from shared.clock import to_unix_ms
from shared.events import Renewal
from tests.support.app_store import APP_APPLE_ID, BUNDLE_ID
from tests.support.subscriber_life import Life, Paid, Said

REASONS: Final[Mapping[str, int]] = {
    "customer_cancelled": 1,
    "billing_error": 2,
    "price_increase_not_consented": 3,
    "product_not_available": 4,
}
Claims = dict[str, Any]


def transaction_claims(said: Said, *, account_token: UUID | None = None) -> Claims:
    """The claims of the transaction. That a refund was reversed shows in none of them."""
    transaction, revoked = said.transaction, said.revoked
    period = transaction.period
    assert period is not None
    assert transaction.charge_id is not None
    offer = period.offer
    claims = {
        "transactionId": transaction.transaction_id,
        "originalTransactionId": transaction.original_transaction_id,
        "webOrderLineItemId": transaction.charge_id.partition("/")[2],
        "bundleId": BUNDLE_ID,
        "productId": transaction.product_id,
        "subscriptionGroupIdentifier": period.group,
        "purchaseDate": to_unix_ms(transaction.purchased_at),
        "expiresDate": to_unix_ms(period.expires_at),
        "signedDate": to_unix_ms(transaction.signed_at),
        "quantity": transaction.quantity,
        "type": "Auto-Renewable Subscription",
        "inAppOwnershipType": _ownership(family=transaction.family_shared),
        "environment": "Production",
        "appAccountToken": None if account_token is None else str(account_token),
        "offerType": 1 if offer else None,
        "offerDiscountType": "FREE_TRIAL" if offer else None,
        "offerPeriod": offer.period if offer else None,
        "price": period.price_milli,
        "currency": period.currency,
    }
    if revoked is not None and revoked.percentage_milli:
        is_refund = revoked.cause == "refund"
        whole = revoked.percentage_milli == 100_000
        claims |= {
            "revocationDate": to_unix_ms(revoked.at),
            "revocationReason": 0,
            "revocationType": ("REFUND_FULL" if whole else "REFUND_PRORATED") if is_refund else "FAMILY_REVOKE",
            "revocationPercentage": revoked.percentage_milli if is_refund else None,
        }
    return _stated(claims)


def renewal_claims(said: Said) -> Claims:
    """The claims of the renewal info."""
    renewal = said.renewal
    return _stated(
        {
            "originalTransactionId": said.transaction.original_transaction_id,
            "productId": said.transaction.product_id,
            "autoRenewProductId": renewal.product_id,
            "autoRenewStatus": int(renewal.auto_renew),
            "renewalDate": _unix_ms(renewal.renews_at),
            "renewalPrice": renewal.price_milli,
            "currency": renewal.currency,
            "signedDate": to_unix_ms(renewal.signed_at),
            "environment": "Production",
            "isInBillingRetryPeriod": renewal.in_billing_retry,
            "gracePeriodExpiresDate": _unix_ms(renewal.grace_period_expires_at),
            "expirationIntent": _intent(renewal),
            "priceIncreaseStatus": _consent(renewal),
        }
    )


def receipt_body(life: Life, *, at: datetime) -> bytes:
    """What verifyReceipt answers about the customer's receipt. It tells no prices, and of a refund not how much."""
    return json.dumps(
        {
            "status": 0,
            "environment": "Production",
            "receipt": {
                "bundle_id": BUNDLE_ID,
                "adam_id": APP_APPLE_ID,
                "request_date_ms": str(to_unix_ms(at)),
                "in_app": [],
            },
            "latest_receipt_info": [_row(life, period) for period in reversed(life.periods)],
            "pending_renewal_info": [_pending(life, at)],
        }
    ).encode()


def _row(life: Life, period: Paid) -> Claims:
    transaction = life.says(period, life.now).transaction
    return _stated(
        {
            "transaction_id": transaction.transaction_id,
            "original_transaction_id": life.original,
            "web_order_line_item_id": str(period.number),
            "product_id": period.product,
            "quantity": "1",
            "purchase_date_ms": str(to_unix_ms(period.starts)),
            "expires_date_ms": str(to_unix_ms(period.ends)),
            "is_trial_period": str(period.offer is not None).lower(),
            "is_in_intro_offer_period": "false",
            "in_app_ownership_type": _ownership(family=life.family),
            "subscription_group_identifier": "vip",
            "cancellation_date_ms": str(to_unix_ms(period.taken_back_at))
            if period.refunded_milli and period.taken_back_at
            else None,
            "cancellation_reason": "0" if period.refunded_milli else None,
        }
    )


def _pending(life: Life, at: datetime) -> Claims:
    renewal = life.says(life.last, at).renewal
    grace, intent, consent = _unix_ms(renewal.grace_period_expires_at), _intent(renewal), _consent(renewal)
    return _stated(
        {
            "original_transaction_id": life.original,
            "product_id": life.last.product,
            "auto_renew_product_id": renewal.product_id,
            "auto_renew_status": str(int(renewal.auto_renew)),
            "is_in_billing_retry_period": str(int(renewal.in_billing_retry)) if intent else None,
            "grace_period_expires_date_ms": None if grace is None else str(grace),
            "expiration_intent": None if intent is None else str(intent),
            "price_increase_status": None if consent is None else str(consent),
        }
    )


def _intent(renewal: Renewal) -> int | None:
    return None if renewal.expiration_reason is None else REASONS[renewal.expiration_reason]


def _consent(renewal: Renewal) -> int | None:
    return None if renewal.price_increase is None else int(renewal.price_increase == "accepted")


def _ownership(*, family: bool) -> str:
    return "FAMILY_SHARED" if family else "PURCHASED"


def _unix_ms(moment: datetime | None) -> int | None:
    return None if moment is None else to_unix_ms(moment)


def _stated(claims: Claims) -> Claims:
    return {name: value for name, value in claims.items() if value is not None}
