"""What the simulator signs is verified by Apple's own library, in its strict mode, and by nobody else's leave."""

from __future__ import annotations

import base64
import json
from uuid import UUID

import pytest
from appstoreserverlibrary.models.ResponseBodyV2DecodedPayload import ResponseBodyV2DecodedPayload
from appstoreserverlibrary.signed_data_verifier import VerificationException

from simulator.certificates import Authority, create
from simulator.signing import Signer
from tests.support.shop import ADFREE, APP_APPLE_ID, GEMS, MONTHLY, SEASON, START, Shop, apples_verifier, claims

TOKEN = UUID("0f5b0b4c-1111-4222-8333-444455556666")


def sent(shop: Shop) -> ResponseBodyV2DecodedPayload:
    """The newest notification, as Apple's verifier reads it."""
    newest = shop.sender.sent[-1]
    apple = shop.apple if newest.environment == "production" else shop.apple_sandbox
    return apple.verify_and_decode_notification(newest.signed_payload)


@pytest.mark.parametrize("product_id", [GEMS, ADFREE, MONTHLY, SEASON])
def test_apples_library_verifies_a_transaction_of_every_product_type(shop: Shop, product_id: str) -> None:
    bought = shop.store.buy(product_id=product_id, app_account_token=TOKEN)
    seen = shop.apple.verify_and_decode_signed_transaction(bought.signed_transaction)
    assert (seen.transactionId, seen.productId, seen.appAccountToken) == (
        bought.transaction.transaction_id,
        product_id,
        str(TOKEN),
    )
    assert None not in (seen.type, seen.inAppOwnershipType, seen.transactionReason, seen.price, seen.signedDate)


@pytest.mark.parametrize("product_id", [GEMS, ADFREE, MONTHLY, SEASON])
def test_apples_library_verifies_a_purchase_notification_and_what_is_inside(shop: Shop, product_id: str) -> None:
    bought = shop.store.buy(product_id=product_id)
    data = sent(shop).data
    assert data is not None
    assert data.signedTransactionInfo is not None
    inner = shop.apple.verify_and_decode_signed_transaction(data.signedTransactionInfo)
    assert inner.transactionId == bought.transaction.transaction_id
    assert data.appAppleId == APP_APPLE_ID


def test_apples_library_verifies_the_renewal_info_of_a_subscription(shop: Shop) -> None:
    bought = shop.store.buy(product_id=MONTHLY)
    data = sent(shop).data
    assert data is not None
    assert data.signedRenewalInfo is not None
    renewal = shop.apple.verify_and_decode_renewal_info(data.signedRenewalInfo)
    assert renewal.originalTransactionId == bought.transaction.transaction_id
    assert (renewal.rawAutoRenewStatus, data.rawStatus) == (1, 1)


def test_the_sandbox_signs_for_the_sandbox_only_and_names_no_app_id(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS, environment="sandbox")
    data = sent(shop).data
    assert data is not None
    assert data.appAppleId is None
    shop.apple_sandbox.verify_and_decode_signed_transaction(bought.signed_transaction)
    with pytest.raises(VerificationException, match="INVALID_ENVIRONMENT"):
        shop.apple.verify_and_decode_signed_transaction(bought.signed_transaction)


def test_another_root_does_not_verify_it(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS)
    stranger = apples_verifier(create(now=START).root_der)
    with pytest.raises(VerificationException, match="VERIFICATION_FAILURE"):
        stranger.verify_and_decode_signed_transaction(bought.signed_transaction)


def test_another_apps_purchase_is_refused_for_its_bundle(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS, bundle_id="com.example.stranger")
    with pytest.raises(VerificationException, match="INVALID_APP_IDENTIFIER"):
        shop.apple.verify_and_decode_signed_transaction(bought.signed_transaction)


def test_the_header_is_es256_with_the_whole_chain(authority: Authority) -> None:
    header, _, signature = Signer(authority).sign({"a": "é"}).split(".")
    decoded = json.loads(base64.urlsafe_b64decode(header + "=="))
    assert decoded["alg"] == "ES256"
    assert base64.b64decode(decoded["x5c"][2], validate=True) == authority.root_der
    assert len(decoded["x5c"]) == 3
    assert len(base64.urlsafe_b64decode(signature + "==")) == 64


def test_no_segment_is_padded(authority: Authority) -> None:
    signed = [Signer(authority).sign({"a": "x" * length}) for length in range(4)]
    assert not any("=" in jws for jws in signed)
    assert [claims(jws)["a"] for jws in signed] == ["", "x", "xx", "xxx"]
