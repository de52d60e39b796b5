"""Reading a renewal info from the claims that the App Store signed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from appstoreserverlibrary.models.ExpirationIntent import ExpirationIntent
from appstoreserverlibrary.models.PriceIncreaseStatus import PriceIncreaseStatus
from hypothesis import given
from hypothesis import strategies as st

from shared.events import Offer, Renewal
from shared.ids import TransactionId
from verifier.domain import AppleRenewalInfo, Rejected, read_renewal_info
from verifier.domain.renewals import EXPIRATION_INTENTS, PRICE_INCREASE_STATUSES

CLAIMS: dict[str, Any] = {
    "originalTransactionId": "2000000277760000",
    "productId": "com.example.game.vip.monthly",
    "autoRenewProductId": "com.example.game.vip.yearly",
    "autoRenewStatus": 1,
    "isInBillingRetryPeriod": True,
    "expirationIntent": 2,
    "gracePeriodExpiresDate": 1767312000000,
    "priceIncreaseStatus": 0,
    "offerType": 3,
    "offerIdentifier": "spring",
    "offerDiscountType": "PAY_AS_YOU_GO",
    "offerPeriod": "P1M",
    "renewalDate": 1769904000000,
    "renewalPrice": 9990,
    "currency": "USD",
    "recentSubscriptionStartDate": 1767225600000,
    "appAccountToken": "7E3FB204-2F53-4B1E-A29C-6B19CDFB0A1B",
    "eligibleWinBackOfferIds": ["back"],
    "signedDate": 1767225601500,
    "environment": "Production",
}
REQUIRED = ("originalTransactionId", "productId", "autoRenewStatus", "signedDate", "environment")


def claims(**changes: Any) -> dict[str, Any]:
    """The claims, changed; `...` takes one out."""
    return {name: value for name, value in {**CLAIMS, **changes}.items() if value is not ...}


def read(**changes: Any) -> AppleRenewalInfo:
    found = read_renewal_info(claims(**changes))
    assert isinstance(found, AppleRenewalInfo)
    return found


def test_every_fact_of_a_renewal_info_is_read() -> None:
    assert read() == AppleRenewalInfo(
        environment="production",
        original_transaction_id=TransactionId("2000000277760000"),
        app_account_token=UUID("7e3fb204-2f53-4b1e-a29c-6b19cdfb0a1b"),
        renewal=Renewal(
            signed_at=datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC),
            auto_renew=True,
            product_id="com.example.game.vip.yearly",
            renews_at=datetime(2026, 2, 1, tzinfo=UTC),
            price_milli=9990,
            currency="USD",
            offer=Offer(type="offer_code", identifier="spring", discount_type="pay_as_you_go", period="P1M"),
            in_billing_retry=True,
            grace_period_expires_at=datetime(2026, 1, 2, tzinfo=UTC),
            expiration_reason="billing_error",
            price_increase="pending",
        ),
    )


@pytest.mark.parametrize("null", [True, False], ids=["null", "absent"])
def test_what_apple_may_leave_out_may_be_missing(null: bool) -> None:
    bare = read_renewal_info(
        {name: CLAIMS[name] if name in REQUIRED else None for name in CLAIMS if null or name in REQUIRED}
    )
    assert bare == AppleRenewalInfo(
        environment="production",
        original_transaction_id=TransactionId("2000000277760000"),
        app_account_token=None,
        renewal=Renewal(signed_at=datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC), auto_renew=True),
    )


@pytest.mark.parametrize(
    ("words", "apples"),
    [(EXPIRATION_INTENTS, ExpirationIntent), (PRICE_INCREASE_STATUSES, PriceIncreaseStatus)],
)
def test_each_number_of_apples_library_has_its_word(words: dict[int, str], apples: Any) -> None:
    assert set(words) == {member.value for member in apples}
    assert len(set(words.values())) == len(words)


@pytest.mark.parametrize(("status", "renews"), [(0, False), (1, True), (7, True)])
def test_it_renews_unless_it_is_said_not_to(status: int, renews: bool) -> None:
    """A status of the future is another way of renewing: it is better to look once too often."""
    assert read(autoRenewStatus=status).renewal.auto_renew is renews


def test_numbers_of_the_future_are_kept_as_they_are() -> None:
    found = read(expirationIntent=8, priceIncreaseStatus=9, offerType=-1).renewal
    assert (found.expiration_reason, found.price_increase) == ("8", "9")
    assert found.offer is not None
    assert found.offer.type == "-1"


def test_words_and_fields_of_the_future_do_no_harm() -> None:
    assert read(offerDiscountType="FUTURE").renewal.offer == Offer("offer_code", "spring", "future", "P1M")
    assert read(commitmentInfo={"x": [1]}, future=None) == read()


def test_dates_may_be_floats_as_xcode_writes_them() -> None:
    assert read(renewalDate=1769904000000.7297).renewal.renews_at == datetime(2026, 2, 1, tzinfo=UTC)


def test_an_offer_is_one_only_with_its_type() -> None:
    assert read(offerType=...).renewal.offer is None


@pytest.mark.parametrize("environment", ["Xcode", "LocalTesting", "production", ""])
def test_only_production_and_sandbox_are_environments(environment: str) -> None:
    rejected = read_renewal_info(claims(environment=environment))
    assert isinstance(rejected, Rejected)
    assert rejected.code == "wrong_environment"


@pytest.mark.parametrize(
    "changes",
    [
        *({name: ...} for name in REQUIRED),
        *({name: None} for name in REQUIRED),
        {"transactionId": "2000000277760217"},
        {"notificationType": "DID_RENEW"},
        {"originalTransactionId": 2000000277760000},
        {"originalTransactionId": "1\n"},
        {"productId": ["com.example.game.vip.monthly"]},
        {"autoRenewStatus": "1"},
        {"autoRenewStatus": True},
        {"autoRenewStatus": 1.5},
        {"autoRenewStatus": 10**5000},
        {"autoRenewProductId": ""},
        {"isInBillingRetryPeriod": 1},
        {"isInBillingRetryPeriod": "true"},
        {"expirationIntent": "2"},
        {"expirationIntent": 2**31},
        {"gracePeriodExpiresDate": "2026-01-01"},
        {"gracePeriodExpiresDate": 10**18},
        {"priceIncreaseStatus": []},
        {"renewalDate": -1},
        {"renewalPrice": 9.99},
        {"renewalPrice": 2**63},
        {"currency": 840},
        {"currency": "U\x00"},
        {"offerIdentifier": "\ud800"},
        {"offerIdentifier": "x" * 257},
        {"offerType": "3"},
        {"offerIdentifier": 3},
        {"offerPeriod": {}},
        {"appAccountToken": 5},
        {"signedDate": "now"},
        {"environment": 1},
    ],
    ids=lambda changes: next(iter(changes)),  # a number of 5,000 digits has no text
)
def test_what_is_no_renewal_info_is_malformed_and_the_reason_quotes_nothing_of_it(changes: dict[str, Any]) -> None:
    rejected = read_renewal_info(claims(**changes))
    assert isinstance(rejected, Rejected)
    assert rejected.code == "receipt_malformed"
    assert len(rejected.detail) < 200
    assert not any(isinstance(value, str) and len(value) > 1 and value in rejected.detail for value in changes.values())


JSON = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers())


@given(st.dictionaries(st.sampled_from(sorted(CLAIMS)), JSON))
def test_no_claims_at_all_raise_anything(changes: dict[str, Any]) -> None:
    assert isinstance(read_renewal_info(claims(**changes)), AppleRenewalInfo | Rejected)
