"""What the App Store states, as typed facts, and what follows from them for a claim. Values in, values out.

- `transactions`: one transaction, from the claims of a verified JWS
- `notifications`: one notification, from the claims of a verified JWS
- `receipts`: an answer of verifyReceipt
- `claims`: whether a statement is about this app, and whether a user may have what it is about

No clock, no I/O, and no signatures: those are checked (`shared.jws`) before anything comes here.
"""

from verifier.domain.claims import KnownTransaction, Verified, check_app, decide_claim
from verifier.domain.notifications import AppleNotification, read_notification
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
from verifier.domain.transactions import AppleTransaction, Rejected, Revocation, read_transaction

__all__ = [
    "AppleNotification",
    "AppleTransaction",
    "KnownTransaction",
    "ProductTypes",
    "ReceiptAnswer",
    "ReceiptRefused",
    "ReceiptValid",
    "Rejected",
    "Revocation",
    "StoreBusy",
    "StoreMisconfigured",
    "UseProduction",
    "UseSandbox",
    "Verified",
    "check_app",
    "decide_claim",
    "read_notification",
    "read_receipt_answer",
    "read_transaction",
]
