"""What the verifier says: the drafts of its events, as they followed from another."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from shared.events import (
    Draft,
    Event,
    Payload,
    PurchaseRejected,
    PurchaseVerified,
    ReceiptSubmitted,
    RefundDeclined,
    RefundReceived,
    RefundReversed,
    Renewal,
    StoreTransaction,
    SubscriptionChanged,
    TransactionIdSubmitted,
    TransactionSubmitted,
    following,
)
from shared.ids import PurchaseId, TransactionId, UserId, transaction_subject
from verifier.domain import AppleTransaction, Rejected
from verifier.domain.origins import Origin
from verifier.domain.records import Record

Submitted = TransactionSubmitted | ReceiptSubmitted | TransactionIdSubmitted


def verified(event: Event[Payload], record: Record, renewal: Renewal | None, now: datetime) -> Draft:
    """That the owner of the record has a good claim, and what is known of the next renewal."""
    assert record.statement is not None
    assert record.purchase_id is not None
    payload = PurchaseVerified(record.purchase_id, record.statement, renewal)
    return following(event, payload, subject=record.purchase_id, user_id=record.user_id, occurred_at=now)


def rejected(event: Event[Payload], why: Rejected, transaction: AppleTransaction | None, now: datetime) -> Draft:
    """That a claim is refused; `transaction` is shown of what it is about, None shows nothing."""
    submitted = event.payload
    assert isinstance(submitted, Submitted)
    payload = PurchaseRejected(
        purchase_id=PurchaseId(event.subject),
        store=submitted.store,
        transaction_id=submitted.transaction_id,
        code=why.code,
        detail=why.detail,
        environment=transaction.environment if transaction else None,
        product_id=transaction.transaction.product_id if transaction else None,
    )
    return following(event, payload, occurred_at=now)


def claimed_id(event: Event[Payload]) -> TransactionId:
    """The transaction that a client claims."""
    assert isinstance(event.payload, Submitted)
    return event.payload.transaction_id


def about_refunds(
    event: Event[Payload], statement: AppleTransaction, record: Record, renewal: Renewal | None, now: datetime
) -> Draft:
    """How far the transaction is refunded by the statement that counts; a refund of nothing leaves it as a reversal."""
    transaction, revocation = _charged(statement.transaction, record), statement.revocation
    if record.revoked is not None:  # a receipt's word on it is older than the receipt
        transaction = replace(transaction, signed_at=record.revoked.signed_at)
    if revocation is None or record.refunded_milli == 0:
        return _fact(event, RefundReversed(transaction, record.purchase_id, renewal), record, now)
    payload = RefundReceived(
        transaction=transaction,
        revoked_at=revocation.at,
        reason=revocation.reason,
        percentage_milli=revocation.percentage_milli,
        purchase_id=record.purchase_id,
        cause=revocation.cause,
        renewal=renewal,
    )
    return _fact(event, payload, record, now)


def declined(event: Event[Payload], transaction: StoreTransaction, record: Record, now: datetime) -> Draft:
    """That nothing is refunded to somebody who asked."""
    return _fact(event, RefundDeclined(_charged(transaction, record), record.purchase_id), record, now)


def subscription_changed(event: Event[Payload], record: Record, origin: Origin, now: datetime) -> Draft:
    """All that is known of a period and of the next renewal by now: so whoever hears of it late hears the newest."""
    assert record.statement is not None
    payload = SubscriptionChanged(
        subscription_id=origin.key.subscription_id,
        transaction=record.statement,
        revoked=record.revoked,
        renewal=origin.renewal,
    )
    return _of(following(event, payload, subject=payload.subscription_id, occurred_at=now), origin.user_id)


def _charged(transaction: StoreTransaction, record: Record) -> StoreTransaction:
    """As the charge that the record has it for."""
    if record.statement is None:
        return transaction
    return replace(transaction, charge_id=record.statement.charge_id)


def _fact(event: Event[Payload], payload: Payload, record: Record, now: datetime) -> Draft:
    """A fact about the owner's purchase, or about nobody's."""
    key = record.key
    unowned = transaction_subject(
        app=key.app, store=key.store, environment=key.environment, transaction_id=key.transaction_id
    )
    return _of(following(event, payload, subject=record.purchase_id or unowned, occurred_at=now), record.user_id)


def _of(draft: Draft, user_id: UserId | None) -> Draft:
    """Of this user, or of nobody: a fact is not of whoever named the transaction."""
    return replace(draft, user_id=user_id)
