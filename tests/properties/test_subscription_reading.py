"""What the App Store signs of random lives, and what receipts show of them, is read as it was meant."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.domain.subscriptions import Statement, heard, status_at
from shared.events import Offer, StoreTransaction
from tests.support.subscriber_life import A_MOMENT, Life, Said
from tests.support.subscriber_lives import lives
from tests.support.subscriber_words import receipt_body, renewal_claims, transaction_claims
from verifier.domain import (
    AppleRenewalInfo,
    AppleTransaction,
    ReceiptValid,
    read_receipt_answer,
    read_renewal_info,
    read_transaction,
)


@settings(deadline=None)
@given(life=lives(moves=20), token=st.none() | st.uuids())
def test_each_signed_statement_is_read_as_it_was_meant(life: Life, token: UUID | None) -> None:
    for said in life.said:
        read = _read(said, token)
        assert read.transaction == said.transaction
        assert read.renewal == said.renewal
        if said.revoked is None or said.revoked.percentage_milli:
            assert read.revoked == said.revoked


def _read(said: Said, token: UUID | None = None) -> Statement:
    transaction = read_transaction(transaction_claims(said, account_token=token))
    renewal = read_renewal_info(renewal_claims(said))
    assert isinstance(transaction, AppleTransaction)
    assert isinstance(renewal, AppleRenewalInfo)
    return Statement(transaction.transaction, transaction.revoked, renewal.renewal)


@settings(deadline=None)
@given(life=lives(moves=20))
def test_a_receipt_says_how_a_subscription_stands_as_its_signed_statements_do(life: Life) -> None:
    at = life.now + A_MOMENT
    receipt = read_receipt_answer(
        receipt_body(life, at=at), asked="production", answered_at=at, product_types=lambda _: None
    )
    assert isinstance(receipt, ReceiptValid)
    subscription = None
    for statement in receipt.transactions:
        renewal = receipt.renewals[statement.transaction.original_transaction_id]
        subscription = heard(subscription, Statement(statement.transaction, statement.revoked, renewal))
    assert subscription is not None
    signed = life.says(life.last, at)
    assert subscription.transaction == _as_receipts_say(signed.transaction)
    assert (subscription.is_revoked, subscription.renewal) == (
        signed.revoked is not None,
        replace(signed.renewal, renews_at=None, price_milli=None, currency=None),
    )
    standing = heard(None, Statement(signed.transaction, signed.revoked, signed.renewal))
    assert status_at(subscription, at) == status_at(standing, at)


def _as_receipts_say(transaction: StoreTransaction) -> StoreTransaction:
    """Without prices, and of an offer only whether it is free."""
    period = transaction.period
    assert period is not None
    offer = period.offer and Offer(period.offer.type, discount_type=period.offer.discount_type)
    return replace(transaction, period=replace(period, offer=offer, price_milli=None, currency=None))
