"""What the App Store signs, in its own field names and units: times in UNIX ms, prices in milliunits, no nulls.

Source: Apple's JWSTransactionDecodedPayload, JWSRenewalInfoDecodedPayload and responseBodyV2DecodedPayload.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from shared.clock import to_unix_ms
from shared.events import Environment, ProductType
from simulator.domain import Customer, DiscountType, Notice, Offer, OfferType, Transaction
from simulator.subscriptions import Ending, Subscription

Payload = dict[str, Any]
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
OFFER_TYPES: Final[dict[OfferType, int]] = {"introductory": 1, "promotional": 2, "offer_code": 3, "win_back": 4}
DISCOUNT_TYPES: Final[dict[DiscountType, str]] = {
    "free_trial": "FREE_TRIAL",
    "pay_as_you_go": "PAY_AS_YOU_GO",
    "pay_up_front": "PAY_UP_FRONT",
}
EXPIRATION_INTENTS: Final[dict[Ending, int]] = {
    "voluntary": 1,
    "billing_retry": 2,
    "price_increase": 3,
    "product_not_for_sale": 4,
    "other": 5,
}
PRICE_INCREASE_STATUSES: Final = {"pending": 0, "accepted": 1}
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
            "isUpgraded": True if transaction.upgraded else None,  # Apple: present only when it is true
            "type": TYPE_NAMES[transaction.type],
            "appAccountToken": transaction.app_account_token,
            "inAppOwnershipType": ownership(transaction),
            "signedDate": to_unix_ms(signed_at),
            "revocationReason": revocation and revocation.reason,
            "revocationDate": revocation and to_unix_ms(revocation.at),
            "revocationType": revocation and revocation.kind,
            "revocationPercentage": revocation and revocation.percentage_milli,
            "environment": ENVIRONMENT_NAMES[transaction.customer.environment],
            "transactionReason": "RENEWAL" if transaction.renewal else "PURCHASE",
            "storefront": _STOREFRONT,
            "storefrontId": _STOREFRONT_ID,
            "price": transaction.price_milli,
            "currency": transaction.currency,
            **_offer_fields(transaction.offer),
            "appTransactionId": transaction.customer.app_transaction_id,
        }
    )


def renewal_payload(subscription: Subscription, *, signed_at: datetime) -> Payload:
    """JWSRenewalInfoDecodedPayload of an auto-renewable subscription."""
    period, increase = subscription.period, subscription.price_increase
    price_milli = subscription.renewal_price_milli
    return _without_nulls(
        {
            "originalTransactionId": subscription.id,
            "autoRenewProductId": subscription.renews_as,
            "productId": period.product_id,
            "autoRenewStatus": auto_renew_status(subscription),
            "isInBillingRetryPeriod": subscription.billing != "ok",
            "expirationIntent": expiration_intent(subscription),
            "gracePeriodExpiresDate": _unix_ms(subscription.grace_until),
            "priceIncreaseStatus": None if increase is None else PRICE_INCREASE_STATUSES[increase],
            **_offer_fields(subscription.renewal_offer),
            "renewalPrice": price_milli,
            "currency": None if price_milli is None else period.currency,
            "signedDate": to_unix_ms(signed_at),
            "environment": ENVIRONMENT_NAMES[subscription.customer.environment],
            "recentSubscriptionStartDate": to_unix_ms(subscription.started_at),
            "renewalDate": to_unix_ms(subscription.expires_at),  # Apple: when the newest period ends
            "appAccountToken": period.app_account_token,
            "appTransactionId": subscription.customer.app_transaction_id,
        }
    )


def _offer_fields(offer: Offer | None) -> Payload:
    if offer is None:
        return {}
    return {
        "offerType": OFFER_TYPES[offer.type],
        "offerIdentifier": offer.identifier,
        "offerDiscountType": DISCOUNT_TYPES[offer.discount],
        "offerPeriod": str(offer.length),
    }


def notification_payload(
    customer: Customer,
    *,
    notification_id: UUID,
    notice: Notice,
    signed_at: datetime,
    signed_transaction: str,
    subscription: Subscription | None = None,
    signed_renewal: str | None = None,
    consumption_request_reason: ConsumptionRequestReason | None = None,
) -> Payload:
    """responseBodyV2DecodedPayload about one transaction of the customer, and the subscription that it belongs to."""
    data = {
        **_app_fields(customer.bundle_id, customer.app_apple_id, customer.environment),
        "signedTransactionInfo": signed_transaction,
        "signedRenewalInfo": signed_renewal,
        "status": subscription and int(subscription.status(signed_at)),
        "consumptionRequestReason": consumption_request_reason,
    }
    return _notification(notification_id, notice, signed_at, data=_without_nulls(data))


def summary_payload(
    *,
    bundle_id: str,
    app_apple_id: int | None,
    environment: Environment,
    notification_id: UUID,
    signed_at: datetime,
    request_id: UUID,
    product_id: str,
    succeeded: int,
    failed: int,
) -> Payload:
    """responseBodyV2DecodedPayload of a RENEWAL_EXTENSION's SUMMARY: it is about a product, and no transaction."""
    app = _app_fields(bundle_id, app_apple_id, environment)
    del app["bundleVersion"]
    summary = {
        **app,
        "requestIdentifier": str(request_id),
        "productId": product_id,
        "storefrontCountryCodes": [_STOREFRONT],
        "succeededCount": succeeded,
        "failedCount": failed,
    }
    notice = Notice("RENEWAL_EXTENSION", "SUMMARY")
    return _notification(notification_id, notice, signed_at, summary=_without_nulls(summary))


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
    return _notification(notification_id, Notice("TEST"), signed_at, data=_without_nulls(data))


def _app_fields(bundle_id: str, app_apple_id: int | None, environment: Environment) -> Payload:
    return {
        "appAppleId": app_apple_id if environment == "production" else None,  # Apple: not in the sandbox
        "bundleId": bundle_id,
        "bundleVersion": _APP_VERSION,
        "environment": ENVIRONMENT_NAMES[environment],
    }


def _notification(notification_id: UUID, notice: Notice, signed_at: datetime, **body: Payload) -> Payload:
    return _without_nulls(
        {
            "notificationType": notice.type,
            "subtype": notice.subtype,
            "notificationUUID": str(notification_id),
            **body,
            "version": "2.0",
            "signedDate": to_unix_ms(signed_at),
        }
    )


def ownership(transaction: Transaction) -> str:
    """inAppOwnershipType, the same in transactions and in receipts."""
    return "FAMILY_SHARED" if transaction.family_shared else "PURCHASED"


def auto_renew_status(subscription: Subscription) -> Literal[0, 1]:
    """autoRenewStatus: 1 renews, 0 does not."""
    return 1 if subscription.auto_renew else 0


def expiration_intent(subscription: Subscription) -> int | None:
    """expirationIntent: why it expired. While the store still tries to be paid it says so already, but not in grace."""
    if subscription.ended is not None:
        return EXPIRATION_INTENTS[subscription.ended]
    return EXPIRATION_INTENTS["billing_retry"] if subscription.billing == "retry" else None


def _unix_ms(moment: datetime | None) -> int | None:
    return None if moment is None else to_unix_ms(moment)


def _without_nulls(fields: dict[str, Any]) -> Payload:
    return {name: value for name, value in fields.items() if value is not None}
