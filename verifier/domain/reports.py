"""What the App Store answers when it is asked how a subscription stands (Get All Subscription Statuses)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from shared.ids import TransactionId
from verifier.domain.notifications import same_subscription
from verifier.domain.renewals import AppleRenewalInfo
from verifier.domain.transactions import AppleTransaction, Rejected

ENDED: Final = frozenset({2, 5})
"""Apple's `status` of a subscription that has expired, or was revoked."""

NOT_REVOKED: Final = frozenset({1, 2, 3, 4})
"""Apple's `status` of a subscription that is active, expired, in billing retry or in its grace period. 5 is revoked."""


def check_report(
    original_id: TransactionId, transaction: AppleTransaction, renewal_info: AppleRenewalInfo | None
) -> Rejected | None:
    """None when an answer's parts, each verified by itself, are about what was asked and belong together."""
    if transaction.transaction.original_transaction_id != original_id:
        return Rejected("receipt_malformed", "the store states another subscription than the one asked about")
    if renewal_info is None:
        return None
    if renewal_info.environment != transaction.environment:
        return Rejected("wrong_environment", "the transaction and its renewal info are from different environments")
    if not same_subscription(transaction, renewal_info):
        return Rejected("receipt_malformed", "the renewal info is of another subscription")
    return None


def as_reported(transaction: AppleTransaction, *, status: int) -> AppleTransaction:
    """The transaction as the status beside it has it.

    A transaction without a revocation does not say that it stands: Apple does not document which fields a reversed
    refund leaves behind. The status is explicit: whatever it is but revoked, no refund of this period stands, so a
    REFUND_REVERSED that never came is made good. A revocation counts only where Apple signed it.
    """
    if transaction.revocation is None and status in NOT_REVOKED:
        return replace(transaction, stands=True)
    return transaction
