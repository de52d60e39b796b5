"""Reading a transaction from the claims that the App Store signed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import StoreTransaction
from shared.ids import TransactionId
from verifier.domain import AppleTransaction, Rejected, Revocation, read_transaction

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
    assert read(type=apple).transaction.product_type == ours


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


def test_a_transaction_that_was_not_taken_back_does_not_say_that_it_stands() -> None:
    """It may have been signed before the refund, and a reversal is told otherwise."""
    assert read().refunded_milli is None
    assert read(revocationDate=1767312000000, revocationPercentage=0).refunded_milli == 0
    assert read(revocationDate=1767312000000, revocationPercentage=40_000).refunded_milli == 40_000
    assert read(revocationDate=1767312000000).refunded_milli == 100_000


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


JSON = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers())


@given(st.dictionaries(st.sampled_from([*CLAIMS, "revocationDate", "revocationPercentage"]), JSON))
def test_no_claims_at_all_raise_anything(changes: dict[str, Any]) -> None:
    found = read_transaction(claims(**changes))
    assert isinstance(found, AppleTransaction | Rejected)
