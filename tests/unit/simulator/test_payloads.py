"""What is signed has Apple's field names and units, and leaves out what Apple leaves out."""

from __future__ import annotations

from uuid import UUID

from shared.clock import to_unix_ms
from simulator.payloads import transaction_payload
from simulator.state import whole_ms
from tests.support.shop import ADFREE, BUNDLE_ID, GEMS, MONTHLY, START, Shop, claims

NOW_MS = to_unix_ms(whole_ms(START))


def test_a_consumable_has_exactly_apples_fields(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS, quantity=3, app_account_token=UUID(int=5)).transaction
    assert transaction_payload(bought, signed_at=START) == {
        "transactionId": bought.transaction_id,
        "originalTransactionId": bought.transaction_id,
        "bundleId": BUNDLE_ID,
        "productId": GEMS,
        "purchaseDate": NOW_MS,
        "originalPurchaseDate": NOW_MS,
        "quantity": 3,
        "type": "Consumable",
        "appAccountToken": "00000000-0000-0000-0000-000000000005",
        "inAppOwnershipType": "PURCHASED",
        "signedDate": NOW_MS,
        "environment": "Production",
        "transactionReason": "PURCHASE",
        "storefront": "USA",
        "storefrontId": "143441",
        "price": bought.price_milli,
        "currency": "USD",
        "appTransactionId": bought.customer.app_transaction_id,
    }


def test_the_price_is_for_the_whole_quantity(shop: Shop) -> None:
    one, three = (shop.store.buy(product_id=GEMS, quantity=quantity).transaction for quantity in (1, 3))
    assert one.price_milli is not None
    assert three.price_milli == 3 * one.price_milli


def test_a_subscription_says_its_group_its_end_and_its_web_order_line(shop: Shop) -> None:
    payload = claims(shop.store.buy(product_id=MONTHLY).signed_transaction)
    assert payload["subscriptionGroupIdentifier"] == "vip"
    assert payload["expiresDate"] == to_unix_ms(whole_ms(START).replace(month=12))
    assert payload["webOrderLineItemId"] not in (None, payload["transactionId"])


def test_a_family_shared_transaction_has_no_price(shop: Shop) -> None:
    payload = claims(shop.store.buy(product_id=ADFREE, family_shared=True).signed_transaction)
    assert payload["inAppOwnershipType"] == "FAMILY_SHARED"
    assert not {"price", "currency"} & payload.keys()


def test_a_partial_refund_is_prorated_in_milliunits_of_percent(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS)
    shop.clock.advance(60)
    payload = claims(shop.store.refund(bought.transaction.transaction_id, percent=67.932, reason=1).signed_transaction)
    revocation = {name: value for name, value in payload.items() if name.startswith("revocation")}
    assert revocation == {
        "revocationDate": payload["signedDate"],
        "revocationReason": 1,
        "revocationType": "REFUND_PRORATED",
        "revocationPercentage": 67_932,
    }


def test_a_reversed_refund_leaves_no_trace_of_the_revocation(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS)
    shop.store.refund(bought.transaction.transaction_id)
    payload = claims(shop.store.reverse_refund(bought.transaction.transaction_id).signed_transaction)
    assert not any(name.startswith("revocation") for name in payload)


def test_a_notification_has_exactly_apples_fields(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS)
    assert claims(shop.sender.sent[0].signed_payload) == {
        "notificationType": "ONE_TIME_CHARGE",
        "notificationUUID": str(bought.notification_id),
        "data": {
            "appAppleId": bought.transaction.customer.app_apple_id,
            "bundleId": BUNDLE_ID,
            "bundleVersion": "1",
            "environment": "Production",
            "signedTransactionInfo": bought.signed_transaction,
        },
        "version": "2.0",
        "signedDate": NOW_MS,
    }


def test_a_refunded_subscription_is_revoked_and_renews_no_more(shop: Shop) -> None:
    bought = shop.store.buy(product_id=MONTHLY)
    shop.store.refund(bought.transaction.transaction_id)
    data = claims(shop.sender.sent[-1].signed_payload)["data"]
    assert data["status"] == 5
    assert claims(data["signedRenewalInfo"])["autoRenewStatus"] == 0
