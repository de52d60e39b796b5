"""How the App Store comes to hear that a user wants a refund."""

from __future__ import annotations

from ledger.domain.refund_requests import Advice
from shared.ids import TransactionId


class AppleRefunds:
    """Apple takes requests on its own form only, which the app presents to its user; no server can make one.

    StoreKit: `Transaction.beginRefundRequest(for:in:)` with the transaction's id. What Apple decides comes as the
    notification `REFUND` or `REFUND_DECLINED`; that the user closed the form without sending it, only the app learns
    (`RefundRequestStatus.userCancelled`).
    """

    def advice(self, transaction_id: TransactionId) -> Advice:
        """The app presents the store's form for this transaction."""
        return Advice("apple", "present_refund_sheet", transaction_id)
