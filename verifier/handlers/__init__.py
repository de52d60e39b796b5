"""The use-cases: a client's proof, the store's answer to a question, a notification, an account token.

All of them end in the same place (`settling`): a statement of the store about one transaction, checked to be authentic
and about this app, meets our record of it under the record's lock. So it does not matter which road a purchase came by,
how often, and in which order.

- `proofs`: StoreKit 2 transactions, which carry their own proof
- `questions`: receipts and bare transaction ids, about which the store is asked
- `notifications`: what the App Store tells us
- `reports`: how subscriptions stand of which nothing was heard
- `tokens`: account tokens that were issued
- `settling`, `holding`: where they end; `words`: what is said then
- `reconciling`: what never came here is found by asking
- `ports`: what these need from outside
"""

from verifier.handlers.notifications import receive_notifications
from verifier.handlers.ports import ReceiptStore, Records, Signatures, TransactionStore
from verifier.handlers.proofs import verify_transactions
from verifier.handlers.questions import ReceiptWord, ask_about_receipt, look_up, settle_lookups, settle_receipts
from verifier.handlers.reports import receive_reports
from verifier.handlers.tokens import issue_account_tokens

__all__ = [
    "ReceiptStore",
    "ReceiptWord",
    "Records",
    "Signatures",
    "TransactionStore",
    "ask_about_receipt",
    "issue_account_tokens",
    "look_up",
    "receive_notifications",
    "receive_reports",
    "settle_lookups",
    "settle_receipts",
    "verify_transactions",
]
