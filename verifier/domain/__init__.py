"""What the App Store states, as typed facts, and what follows from them for a claim. Values in, values out.

- `kinds`: which of the things that Apple signs a verified JWS is
- `transactions`: one transaction, from the claims of a verified JWS
- `renewals`: one renewal info, from the claims of a verified JWS
- `notifications`: one notification, from the claims of a verified JWS; what is to be done about it
- `reports`: an answer of the App Store Server API about a subscription
- `receipts`: an answer of verifyReceipt
- `lookups`: an answer of the App Store Server API about one transaction
- `claims`: whether a statement is about this app, and whether a user may have what it is about
- `records`: what is on record of one transaction, and how statements and claims change it
- `origins`: who owns a subscription with all its transactions, and when the store is to be asked about it

No clock, no I/O, and no signatures: those are checked (`shared.jws`) before anything comes here.
"""

from verifier.domain.claims import KnownTransaction, Verified, check_app, decide_claim, shows_owner
from verifier.domain.kinds import Kind, kind_of
from verifier.domain.lookups import LookupAnswer, TransactionFound, TransactionUnknown
from verifier.domain.notifications import (
    Act,
    Action,
    AppleNotification,
    Intent,
    RecordOnly,
    RecordUnknown,
    as_notified,
    check_inner,
    intent_of,
    read_notification,
)
from verifier.domain.receipts import (
    ProductTypes,
    ReceiptAnswer,
    ReceiptRefused,
    ReceiptValid,
    StoreBusy,
    StoreMisconfigured,
    UseProduction,
    UseSandbox,
    read_receipt_answer,
)
from verifier.domain.renewals import AppleRenewalInfo, read_renewal_info
from verifier.domain.reports import as_reported, check_report
from verifier.domain.transactions import AppleTransaction, Rejected, Revocation, read_transaction

__all__ = [
    "Act",
    "Action",
    "AppleNotification",
    "AppleRenewalInfo",
    "AppleTransaction",
    "Intent",
    "Kind",
    "KnownTransaction",
    "LookupAnswer",
    "ProductTypes",
    "ReceiptAnswer",
    "ReceiptRefused",
    "ReceiptValid",
    "RecordOnly",
    "RecordUnknown",
    "Rejected",
    "Revocation",
    "StoreBusy",
    "StoreMisconfigured",
    "TransactionFound",
    "TransactionUnknown",
    "UseProduction",
    "UseSandbox",
    "Verified",
    "as_notified",
    "as_reported",
    "check_app",
    "check_inner",
    "check_report",
    "decide_claim",
    "intent_of",
    "kind_of",
    "read_notification",
    "read_receipt_answer",
    "read_renewal_info",
    "read_transaction",
    "shows_owner",
]
