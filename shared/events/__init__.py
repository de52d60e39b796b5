"""Every event there is: its name, its payload, and what it says about the thing it is about.

A payload is a frozen dataclass; it is kept in the journal as JSON and read back by `decode`. A field that is added
needs a default, so that the events of yesterday are still read. `subject` names what an event is about (a purchase, a
subscription, a notification, an account token); all events of one subject are its timeline.

base.py                                 what every event has
store.py                                what a store says, in the words of all stores
outward.py                              how events are told outside
gateway.py, verifier.py, ledger.py, notifier.py, operator.py    who says what
registry.py                             all of them by name
"""

from shared.events.base import Draft, Event, EventMalformed, EventUnknown, Payload, Recorded, UnreadEvent, following
from shared.events.gateway import (
    PROOF_REMOVED,
    TOKEN_REMOVED,
    AccountTokenIssued,
    NotificationReceived,
    ReceiptSubmitted,
    TransactionIdSubmitted,
    TransactionSubmitted,
)
from shared.events.ledger import (
    EntitlementChanged,
    GrantPosted,
    HoldEnded,
    HoldPlaced,
    PurchaseCompleted,
    PurchaseParked,
    PurchaseRefunded,
    PurchaseRefundReversed,
    RefundRequestUpdated,
    SpendPosted,
    SpendReversed,
    SubscriptionUpdated,
    WalletChange,
    WalletCredited,
    WalletDebited,
)
from shared.events.notifier import (
    WebhookDelivered,
    WebhookEndpointDisabled,
    WebhookEndpointEnabled,
    WebhookExhausted,
)
from shared.events.operator import DeliveryDropped, DeliveryRetried, UserErased
from shared.events.outward import OutwardEventUnknown, outward_data, outward_document, subscription_document
from shared.events.registry import OUTWARD, PAYLOADS, WORD_RANK, decode, encode
from shared.events.store import (
    Environment,
    ExpirationReason,
    Offer,
    Period,
    ProductType,
    RejectionCode,
    Renewal,
    RevocationCause,
    Revoked,
    Store,
    StoreTransaction,
    SubscriptionState,
    SubscriptionStatus,
)
from shared.events.verifier import (
    PurchaseRejected,
    PurchaseVerified,
    RefundDeclined,
    RefundReceived,
    RefundReversed,
    SubscriptionChanged,
    SubscriptionReported,
)

__all__ = [
    "OUTWARD",
    "PAYLOADS",
    "PROOF_REMOVED",
    "TOKEN_REMOVED",
    "WORD_RANK",
    "AccountTokenIssued",
    "DeliveryDropped",
    "DeliveryRetried",
    "Draft",
    "EntitlementChanged",
    "Environment",
    "Event",
    "EventMalformed",
    "EventUnknown",
    "ExpirationReason",
    "GrantPosted",
    "HoldEnded",
    "HoldPlaced",
    "NotificationReceived",
    "Offer",
    "OutwardEventUnknown",
    "Payload",
    "Period",
    "ProductType",
    "PurchaseCompleted",
    "PurchaseParked",
    "PurchaseRefundReversed",
    "PurchaseRefunded",
    "PurchaseRejected",
    "PurchaseVerified",
    "ReceiptSubmitted",
    "Recorded",
    "RefundDeclined",
    "RefundReceived",
    "RefundRequestUpdated",
    "RefundReversed",
    "RejectionCode",
    "Renewal",
    "RevocationCause",
    "Revoked",
    "SpendPosted",
    "SpendReversed",
    "Store",
    "StoreTransaction",
    "SubscriptionChanged",
    "SubscriptionReported",
    "SubscriptionState",
    "SubscriptionStatus",
    "SubscriptionUpdated",
    "TransactionIdSubmitted",
    "TransactionSubmitted",
    "UnreadEvent",
    "UserErased",
    "WalletChange",
    "WalletCredited",
    "WalletDebited",
    "WebhookDelivered",
    "WebhookEndpointDisabled",
    "WebhookEndpointEnabled",
    "WebhookExhausted",
    "decode",
    "encode",
    "following",
    "outward_data",
    "outward_document",
    "subscription_document",
]
