"""What the App Store answers when it is asked how a subscription stands."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.events import Period, Renewal, Revoked, StoreTransaction
from shared.ids import TransactionId
from verifier.domain import AppleRenewalInfo, AppleTransaction, Rejected, Revocation, as_reported, check_report

THEN = datetime(2026, 1, 1, tzinfo=UTC)
ORIGINAL = TransactionId("2000000277760000")
TRANSACTION = AppleTransaction(
    transaction=StoreTransaction(
        store="apple",
        environment="production",
        transaction_id=TransactionId("2000000277760217"),
        original_transaction_id=ORIGINAL,
        product_id="com.example.game.vip.monthly",
        product_type="auto_renewable",
        quantity=1,
        purchased_at=THEN,
        signed_at=THEN,
        period=Period(datetime(2026, 2, 1, tzinfo=UTC)),
    ),
    bundle_id="com.example.game",
    app_account_token=None,
    in_app_ownership_type="PURCHASED",
    revocation=None,
)
RENEWAL = AppleRenewalInfo("production", ORIGINAL, None, Renewal(THEN, auto_renew=True))
REFUNDED = replace(TRANSACTION, revocation=Revocation(THEN, "other", percentage_milli=40_000))


@pytest.mark.parametrize("renewal", [RENEWAL, None])
def test_parts_that_belong_together_are_taken(renewal: AppleRenewalInfo | None) -> None:
    assert check_report(ORIGINAL, TRANSACTION, renewal) is None


@pytest.mark.parametrize(
    ("asked", "renewal", "code"),
    [
        (TransactionId("1"), RENEWAL, "receipt_malformed"),
        (ORIGINAL, replace(RENEWAL, original_transaction_id=TransactionId("1")), "receipt_malformed"),
        (ORIGINAL, replace(RENEWAL, environment="sandbox"), "wrong_environment"),
    ],
)
def test_a_part_that_belongs_elsewhere_is_refused(asked: TransactionId, renewal: Any, code: str) -> None:
    rejected = check_report(asked, TRANSACTION, renewal)
    assert isinstance(rejected, Rejected)
    assert rejected.code == code


@pytest.mark.parametrize("status", [1, 2, 3, 4])
def test_a_subscription_that_is_not_revoked_is_not_refunded(status: int) -> None:
    """The absence of a refund in its transaction alone does not say so."""
    assert TRANSACTION.revoked is None
    assert as_reported(TRANSACTION, status=status).revoked == Revoked(THEN, 0, at=THEN)


@pytest.mark.parametrize("status", [1, 2, 3, 4, 5])
def test_a_refund_that_its_transaction_shows_is_one_whatever_the_status(status: int) -> None:
    assert as_reported(REFUNDED, status=status) == REFUNDED


@pytest.mark.parametrize("status", [0, 5, 6])
def test_what_the_store_did_not_sign_takes_nothing_back(status: int) -> None:
    assert as_reported(TRANSACTION, status=status) == TRANSACTION
