"""Reading a transaction from the claims that the App Store signed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from appstoreserverlibrary.models.OfferType import OfferType
from hypothesis import given
from hypothesis import strategies as st

from shared.events import Offer, Period, StoreTransaction
from shared.ids import TransactionId
from verifier.domain import AppleTransaction, Rejected, Revocation, read_transaction
from verifier.domain.transactions import OFFER_TYPES

CLAIMS: dict[str, Any] = {
    "transactionId": "2000000277760217",
    "originalTransactionId": "2000000277760000",
    "bundleId": "com.example.game",
    "productId": "com.example.game.gems100",
    "purchaseDate": 1767225600000,
    "originalPurchaseDate": 1767225600000,
    "quantity": 2,
    "type": "Consumable",
    "appAccountToken": "7E3FB204-2F53-4B1E-A29C-6B19CDFB0A1B",
    "inAppOwnershipType": "PURCHASED",
    "signedDate": 1767225601500,
    "environment": "Production",
    "transactionReason": "PURCHASE",
    "storefront": "USA",
    "price": 1980,
    "currency": "USD",
}


def claims(**changes: Any) -> dict[str, Any]:
    """The claims, changed; `...` takes one out."""
    return {name: value for name, value in {**CLAIMS, **changes}.items() if value is not ...}


def read(**changes: Any) -> AppleTransaction:
    found = read_transaction(claims(**changes))
    assert isinstance(found, AppleTransaction)
    return found


def test_every_fact_of_a_transaction_is_read() -> None:
    assert read() == AppleTransaction(
        transaction=StoreTransaction(
            store="apple",
            environment="production",
            transaction_id=TransactionId("2000000277760217"),
            original_transaction_id=TransactionId("2000000277760000"),
            product_id="com.example.game.gems100",
            product_type="consumable",
            quantity=2,
            purchased_at=datetime(2026, 1, 1, tzinfo=UTC),
            signed_at=datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC),
        ),
        bundle_id="com.example.game",
        app_account_token=UUID("7e3fb204-2f53-4b1e-a29c-6b19cdfb0a1b"),
        in_app_ownership_type="PURCHASED",
        revocation=None,
    )


@pytest.mark.parametrize(
    ("apple", "ours"),
    [
        ("Consumable", "consumable"),
        ("Non-Consumable", "non_consumable"),
        ("Auto-Renewable Subscription", "auto_renewable"),
        ("Non-Renewing Subscription", "non_renewing"),
    ],
)
def test_each_of_apples_product_types_is_known(apple: str, ours: str) -> None:
    assert read(type=apple, expiresDate=1769904000000).transaction.product_type == ours


def test_the_sandbox_is_told_from_production() -> None:
    assert read(environment="Sandbox").environment == "sandbox"


def test_dates_may_be_floats_as_xcode_writes_them() -> None:
    assert read(purchaseDate=1767225600000.7297).transaction.purchased_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_what_apple_may_leave_out_has_the_value_that_it_means() -> None:
    found = read(originalTransactionId=..., quantity=..., appAccountToken=..., inAppOwnershipType=...)
    assert found.transaction.original_transaction_id == found.transaction.transaction_id
    assert found.transaction.quantity == 1
    assert found.app_account_token is None
    assert found.in_app_ownership_type == "PURCHASED"


def test_an_account_token_that_is_no_uuid_binds_to_nobody() -> None:
    assert read(appAccountToken="alice").app_account_token is None
    assert read(appAccountToken="").app_account_token is None


def test_a_full_refund_is_all_of_it() -> None:
    assert read(
        revocationDate=1767312000000, revocationReason=1, revocationType="REFUND_FULL"
    ).revocation == Revocation(
        at=datetime(2026, 1, 2, tzinfo=UTC), reason="app_issue", type="REFUND_FULL", percentage_milli=100_000
    )


def test_a_prorated_refund_is_the_stated_share() -> None:
    revocation = read(revocationDate=1767312000000, revocationReason=0, revocationPercentage=67932).revocation
    assert revocation == Revocation(
        at=datetime(2026, 1, 2, tzinfo=UTC), reason="other", type=None, percentage_milli=67_932
    )


@pytest.mark.parametrize(("code", "word"), [(0, "other"), (1, "app_issue"), (7, "7"), (..., "unstated")])
def test_a_reason_of_the_future_is_kept_as_it_is(code: object, word: str) -> None:
    revocation = read(revocationDate=1767312000000, revocationReason=code).revocation
    assert revocation is not None
    assert revocation.reason == word


@pytest.mark.parametrize(
    ("stated", "cause"),
    [(..., "refund"), ("REFUND_FULL", "refund"), ("FUTURE", "refund"), ("FAMILY_REVOKE", "family_sharing_ended")],
)
def test_only_what_was_shared_and_is_no_more_is_taken_back_without_a_refund(stated: object, cause: str) -> None:
    revocation = read(revocationDate=1767312000000, revocationType=stated).revocation
    assert revocation is not None
    assert revocation.cause == cause


def test_what_was_shared_and_is_taken_back_without_a_word_why_is_shared_no_more() -> None:
    """Statements of before December 2025 do not say which it is, and nobody who was given a share is given money."""
    shared = read(revocationDate=1767312000000, inAppOwnershipType="FAMILY_SHARED").revocation
    assert shared is not None
    assert shared.cause == "family_sharing_ended"


def milli(**changes: Any) -> int | None:
    revoked = read(**changes).revoked
    return None if revoked is None else revoked.percentage_milli


def test_a_transaction_that_was_not_taken_back_does_not_say_that_it_stands() -> None:
    """It may have been signed before the refund, and a reversal is told otherwise."""
    assert milli() is None
    assert milli(revocationDate=1767312000000, revocationPercentage=0) == 0
    assert milli(revocationDate=1767312000000, revocationPercentage=40_000) == 40_000
    assert milli(revocationDate=1767312000000) == 100_000


# ---- subscriptions, and what can be restored ---------------------------------------------------------------------

SUBSCRIPTION: dict[str, Any] = {
    "type": "Auto-Renewable Subscription",
    "productId": "com.example.game.vip.monthly",
    "quantity": 1,
    "webOrderLineItemId": "2000000099",
    "subscriptionGroupIdentifier": "21000000",
    "expiresDate": 1769904000000,
    "offerType": 1,
    "offerDiscountType": "FREE_TRIAL",
    "offerPeriod": "P1W",
    "price": 0,
}


def period(**changes: Any) -> Period:
    found = read(**SUBSCRIPTION | changes).transaction.period
    assert found is not None
    return found


def test_every_fact_of_a_period_is_read() -> None:
    transaction = read(**SUBSCRIPTION).transaction
    assert transaction.period == Period(
        expires_at=datetime(2026, 2, 1, tzinfo=UTC),
        group="21000000",
        offer=Offer("introductory", identifier=None, discount_type="free_trial", period="P1W"),
        price_milli=0,
        currency="USD",
    )
    assert (transaction.charge_id, transaction.family_shared) == ("2000000277760000/2000000099", False)


def test_of_a_period_only_its_end_is_always_said() -> None:
    left_out = ("webOrderLineItemId", "subscriptionGroupIdentifier", "offerType", "price", "currency")
    assert period(**dict.fromkeys(left_out, ...)) == Period(expires_at=datetime(2026, 2, 1, tzinfo=UTC))
    assert period(subscriptionGroupIdentifier="", offerType=None).group is None


def test_a_subscription_that_does_not_say_when_it_ends_is_malformed() -> None:
    """Apple always says. Taken for a purchase for ever, it would be one."""
    rejected = read_transaction(claims(**SUBSCRIPTION | {"expiresDate": ...}))
    assert isinstance(rejected, Rejected)
    assert rejected.code == "receipt_malformed"


@pytest.mark.parametrize("product_type", ["Consumable", "Non-Consumable", "Non-Renewing Subscription"])
def test_nothing_else_has_a_period(product_type: str) -> None:
    assert read(**SUBSCRIPTION | {"type": product_type}).transaction.period is None


def test_each_number_of_apples_offer_types_has_its_word() -> None:
    assert set(OFFER_TYPES) == {member.value for member in OfferType}
    assert len(set(OFFER_TYPES.values())) == len(OFFER_TYPES)


@pytest.mark.parametrize(("number", "kind"), [(1, "introductory"), (2, "promotional"), (3, "offer_code"), (9, "9")])
def test_an_offer_of_the_future_is_kept_as_it_is(number: int, kind: str) -> None:
    offer = period(offerType=number, offerIdentifier="spring", offerDiscountType="NEW_KIND").offer
    assert offer == Offer(kind, "spring", "new_kind", "P1W")


@pytest.mark.parametrize(
    ("changes", "paid"),
    [
        ({}, False),
        ({"price": 9990}, False),
        ({"offerDiscountType": "PAY_AS_YOU_GO"}, False),
        ({"offerDiscountType": "PAY_AS_YOU_GO", "price": 990}, True),
        ({"offerType": ..., "price": 9990}, True),
        ({"offerType": ..., "price": ...}, True),
    ],
    ids=str,
)
def test_a_period_is_paid_unless_it_costs_nothing_or_is_a_trial(changes: dict[str, Any], paid: bool) -> None:
    assert period(**changes).is_paid is paid


def charge(**changes: Any) -> str:
    return read(**changes).transaction.charge


def test_a_restored_copy_of_a_period_is_the_same_charge() -> None:
    assert charge(**SUBSCRIPTION, transactionId="1") == charge(**SUBSCRIPTION, transactionId="2")


def test_each_period_of_a_subscription_is_a_charge_of_its_own() -> None:
    next_order = {"webOrderLineItemId": "2000000100", "purchaseDate": 1769904000000}
    without = {"webOrderLineItemId": ...}
    assert charge(**SUBSCRIPTION) != charge(**SUBSCRIPTION | next_order)
    assert charge(**SUBSCRIPTION | without) == "2000000277760000@1767225600000"
    assert charge(**SUBSCRIPTION | next_order | without) == "2000000277760000@1769904000000"
    assert charge(**SUBSCRIPTION | {"webOrderLineItemId": ""}) == "2000000277760000@1767225600000"


def test_a_restored_copy_of_what_is_bought_once_for_ever_is_the_same_charge() -> None:
    first = {"type": "Non-Consumable", "transactionId": "2000000277760000"}
    assert read(**first).transaction.charge_id is None
    assert charge(**first) == charge(type="Non-Consumable", transactionId="2000000277760999")


@pytest.mark.parametrize("product_type", ["Consumable", "Non-Renewing Subscription"])
def test_what_cannot_be_restored_is_a_charge_each_time(product_type: str) -> None:
    assert read(type=product_type).transaction.charge_id is None


def test_what_a_family_member_shares_is_told_from_what_was_bought() -> None:
    assert read(**SUBSCRIPTION, inAppOwnershipType="FAMILY_SHARED").transaction.family_shared
    assert not read(inAppOwnershipType="PURCHASED").transaction.family_shared


def test_unknown_fields_do_no_harm() -> None:
    assert read(advancedCommerceInfo={"x": [1]}, future=None) == read()


@pytest.mark.parametrize("environment", ["Xcode", "LocalTesting", "production", ""])
def test_only_production_and_sandbox_are_environments(environment: str) -> None:
    rejected = read_transaction(claims(environment=environment))
    assert isinstance(rejected, Rejected)
    assert rejected.code == "wrong_environment"


@pytest.mark.parametrize(
    "changes",
    [
        *({name: ...} for name in ("transactionId", "productId", "bundleId", "type", "environment")),
        *({name: ...} for name in ("purchaseDate", "signedDate")),
        {"notificationType": "REFUND"},
        {"autoRenewStatus": 1},
        {"receiptType": "Production"},
        {"transactionId": ""},
        {"transactionId": 2000000277760217},
        {"transactionId": "1\x00"},
        {"transactionId": "1\n"},
        {"transactionId": "1 OR 1"},
        {"transactionId": "é"},
        {"transactionId": "1" * 129},
        {"originalTransactionId": "\n"},
        {"productId": None},
        {"bundleId": ["com.example.game"]},
        {"type": "Lottery"},
        {"environment": None},
        {"quantity": "2"},
        {"quantity": 1.5},
        {"quantity": True},
        {"quantity": 2**31},
        {"quantity": None},
        {"purchaseDate": "2026-01-01"},
        {"purchaseDate": -1},
        {"signedDate": 10**18},
        {"expiresDate": "tomorrow"},
        {"expiresDate": -1},
        {"price": 9.99},
        {"currency": 840},
        {"offerType": "1"},
        {"offerIdentifier": "\x00"},
        {"offerPeriod": 7},
        {"webOrderLineItemId": 2000000099},
        {"webOrderLineItemId": "1 2"},
        {"subscriptionGroupIdentifier": ["21000000"]},
        {"revocationDate": "yesterday"},
        {"revocationDate": 1767312000000, "revocationReason": 10**5000},
        {"revocationDate": 1767312000000, "revocationPercentage": 100_001},
        {"revocationDate": 1767312000000, "revocationPercentage": -1},
    ],
    ids=" ".join,  # a number of 5,000 digits has no text
)
def test_what_is_no_transaction_is_malformed_and_the_reason_quotes_nothing_of_it(changes: dict[str, Any]) -> None:
    rejected = read_transaction(claims(**changes))
    assert isinstance(rejected, Rejected)
    assert rejected.code == "receipt_malformed"
    assert len(rejected.detail) < 200
    assert not any(isinstance(value, str) and len(value) > 1 and value in rejected.detail for value in changes.values())


def test_the_last_date_that_is_taken_leaves_room_for_what_is_counted_on_from_it() -> None:
    """Where a datetime ends, a deadline some days later would be none, and the transaction could never be handled."""
    last = 253_370_764_799_999
    period = read(**SUBSCRIPTION | {"expiresDate": last}).transaction.period
    assert period is not None
    assert period.expires_at + timedelta(days=365) < datetime.max.replace(tzinfo=UTC)
    assert isinstance(read_transaction(claims(**SUBSCRIPTION | {"expiresDate": last + 1})), Rejected)


JSON = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers())


@given(
    st.dictionaries(st.sampled_from([*CLAIMS, *SUBSCRIPTION, "revocationDate", "revocationPercentage"]), JSON),
    st.booleans(),
)
def test_no_claims_at_all_raise_anything(changes: dict[str, Any], renews: bool) -> None:
    found = read_transaction(claims(**(SUBSCRIPTION if renews else {}) | changes))
    assert isinstance(found, AppleTransaction | Rejected)
