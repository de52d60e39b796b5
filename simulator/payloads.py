"""What the App Store signs, in its own field names and units: times in UNIX ms, prices in milliunits, no nulls.

Source: Apple's JWSTransactionDecodedPayload, JWSRenewalInfoDecodedPayload and responseBodyV2DecodedPayload.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from shared.clock import to_unix_ms
from shared.events import Environment, ProductType
from simulator.domain import Transaction

Payload = dict[str, Any]
NotificationType = Literal[
    "SUBSCRIBED",
    "ONE_TIME_CHARGE",
    "REFUND",
    "REFUND_REVERSED",
    "REFUND_DECLINED",
    "CONSUMPTION_REQUEST",
    "REVOKE",
    "TEST",
]
Subtype = Literal["INITIAL_BUY", "RESUBSCRIBE"]
ConsumptionRequestReason = Literal[
    "UNINTENDED_PURCHASE", "FULFILLMENT_ISSUE", "UNSATISFIED_WITH_PURCHASE", "LEGAL", "OTHER"
]

ENVIRONMENT_NAMES: Final[dict[Environment, str]] = {"production": "Production", "sandbox": "Sandbox"}
TYPE_NAMES: Final[dict[ProductType, str]] = {
    "consumable": "Consumable",
    "non_consumable": "Non-Consumable",
    "auto_renewable": "Auto-Renewable Subscription",
    "non_renewing": "Non-Renewing Subscription",
}
SubscriptionStatus = Literal[1, 2, 3, 4, 5]
"""Apple: status of an auto-renewable subscription: active, expired, in billing retry, in its grace period, revoked."""
_APP_VERSION = "1"
_STOREFRONT, _STOREFRONT_ID = "USA", "143441"


def transaction_payload(transaction: Transaction, *, signed_at: datetime) -> Payload:
    """JWSTransactionDecodedPayload."""
    revocation = transaction.revocation
    return _without_nulls(
        {
            "transactionId": transaction.transaction_id,
            "originalTransactionId": transaction.original_transaction_id,
            "webOrderLineItemId": transaction.web_order_line_item_id,
            "bundleId": transaction.customer.bundle_id,
            "productId": transaction.product_id,
            "subscriptionGroupIdentifier": transaction.group,
            "purchaseDate": to_unix_ms(transaction.purchased_at),
            "originalPurchaseDate": to_unix_ms(transaction.original_purchased_at),
            "expiresDate": _unix_ms(transaction.expires_at),
            "quantity": transaction.quantity,
            "type": TYPE_NAMES[transaction.type],
            "appAccountToken": transaction.app_account_token,
            "inAppOwnershipType": ownership(transaction),
            "signedDate": to_unix_ms(signed_at),
            "revocationReason": revocation and revocation.reason,
            "revocationDate": revocation and to_unix_ms(revocation.at),
            "revocationType": revocation and revocation.kind,
            "revocationPercentage": revocation and revocation.percentage_milli,
            "environment": ENVIRONMENT_NAMES[transaction.customer.environment],
            "transactionReason": "PURCHASE",
            "storefront": _STOREFRONT,
            "storefrontId": _STOREFRONT_ID,
            "price": transaction.price_milli,
            "currency": transaction.currency,
            "appTransactionId": transaction.customer.app_transaction_id,
        }
    )


def renewal_payload(transaction: Transaction, *, signed_at: datetime) -> Payload:
    """JWSRenewalInfoDecodedPayload of an auto-renewable subscription: it renews unless it was revoked."""
    return _without_nulls(
        {
            "originalTransactionId": transaction.original_transaction_id,
            "autoRenewProductId": transaction.product_id,
            "productId": transaction.product_id,
            "autoRenewStatus": auto_renew_status(transaction),
            "renewalPrice": transaction.price_milli,
            "currency": transaction.currency,
            "signedDate": to_unix_ms(signed_at),
            "environment": ENVIRONMENT_NAMES[transaction.customer.environment],
            "recentSubscriptionStartDate": to_unix_ms(transaction.purchased_at),
            "renewalDate": _unix_ms(transaction.expires_at),
            "appAccountToken": transaction.app_account_token,
            "appTransactionId": transaction.customer.app_transaction_id,
        }
    )


def notification_payload(
    transaction: Transaction,
    *,
    notification_id: UUID,
    notification_type: NotificationType,
    subtype: Subtype | None,
    signed_at: datetime,
    signed_transaction: str,
    signed_renewal: str | None,
    consumption_request_reason: ConsumptionRequestReason | None = None,
) -> Payload:
    """responseBodyV2DecodedPayload about one transaction. `signed_renewal` and `status` are subscriptions' only."""
    customer = transaction.customer
    data = {
        **_app_fields(customer.bundle_id, customer.app_apple_id, customer.environment),
        "signedTransactionInfo": signed_transaction,
        "signedRenewalInfo": signed_renewal,
        "status": subscription_status(transaction, signed_at) if transaction.renews else None,
        "consumptionRequestReason": consumption_request_reason,
    }
    return _notification(notification_id, notification_type, subtype, signed_at, data)


def app_notification_payload(
    *,
    bundle_id: str,
    app_apple_id: int | None,
    environment: Environment,
    notification_id: UUID,
    signed_at: datetime,
) -> Payload:
    """responseBodyV2DecodedPayload of a TEST: it is about an app, and about no transaction."""
    data = _app_fields(bundle_id, app_apple_id, environment)
    return _notification(notification_id, "TEST", None, signed_at, data)


def _app_fields(bundle_id: str, app_apple_id: int | None, environment: Environment) -> Payload:
    return {
        "appAppleId": app_apple_id if environment == "production" else None,  # Apple: not in the sandbox
        "bundleId": bundle_id,
        "bundleVersion": _APP_VERSION,
        "environment": ENVIRONMENT_NAMES[environment],
    }


def _notification(
    notification_id: UUID,
    notification_type: NotificationType,
    subtype: Subtype | None,
    signed_at: datetime,
    data: Payload,
) -> Payload:
    return _without_nulls(
        {
            "notificationType": notification_type,
            "subtype": subtype,
            "notificationUUID": str(notification_id),
            "data": _without_nulls(data),
            "version": "2.0",
            "signedDate": to_unix_ms(signed_at),
        }
    )


def ownership(transaction: Transaction) -> str:
    """inAppOwnershipType, the same in transactions and in receipts."""
    return "FAMILY_SHARED" if transaction.family_shared else "PURCHASED"


def auto_renew_status(transaction: Transaction) -> Literal[0, 1]:
    """autoRenewStatus: 1 renews, 0 does not."""
    return 1 if transaction.revocation is None else 0


def subscription_status(transaction: Transaction, now: datetime) -> SubscriptionStatus:
    """The status of the subscription whose newest transaction this is."""
    if transaction.revocation is not None:
        return 5
    return 1 if transaction.active(now) else 2


def _unix_ms(moment: datetime | None) -> int | None:
    return None if moment is None else to_unix_ms(moment)


def _without_nulls(fields: dict[str, Any]) -> Payload:
    return {name: value for name, value in fields.items() if value is not None}
