"""What comes in (pydantic models) and what goes out (dataclasses, for msgspec): the contract's schemas are made of it.

A schema is known by the name of its class, so all of them are one namespace, whichever file they stand in.
"""

from gateway.api.documents.operations import Health, Problem
from gateway.api.documents.parts import CurrencyAmount, Example
from gateway.api.documents.purchases import (
    PURCHASE_EXAMPLES,
    WAIT_S_MAX,
    PageQuery,
    Purchase,
    PurchasePage,
    PurchaseSubmission,
    SubmittedPurchase,
    WaitQuery,
)
from gateway.api.documents.refund_requests import REFUND_REQUEST_EXAMPLES, NewRefundRequest, RefundRequest
from gateway.api.documents.subscriptions import (
    ENTITLEMENT_EXAMPLES,
    SUBSCRIPTION_EXAMPLES,
    BelongingsQuery,
    EntitlementList,
    SubscriptionPage,
    SubscriptionPageQuery,
)
from gateway.api.documents.timelines import Timeline, TimelineEvent
from gateway.api.documents.users import AccountToken, Product, ProductList
from gateway.api.documents.wallets import (
    GRANT_EXAMPLES,
    HOLD_CAPTURE_EXAMPLES,
    HOLD_EXAMPLES,
    HOLD_RELEASE_EXAMPLES,
    SPEND_EXAMPLES,
    SPEND_REVERSAL_EXAMPLES,
    Grant,
    Hold,
    HoldCapture,
    HoldRelease,
    NewGrant,
    NewHold,
    NewSpend,
    Spend,
    SpendReversal,
    Wallet,
    WalletPage,
    WalletPageQuery,
    WalletQuery,
)
from gateway.api.documents.webhooks import AppleNotification

__all__ = [
    "ENTITLEMENT_EXAMPLES",
    "GRANT_EXAMPLES",
    "HOLD_CAPTURE_EXAMPLES",
    "HOLD_EXAMPLES",
    "HOLD_RELEASE_EXAMPLES",
    "PURCHASE_EXAMPLES",
    "REFUND_REQUEST_EXAMPLES",
    "SPEND_EXAMPLES",
    "SPEND_REVERSAL_EXAMPLES",
    "SUBSCRIPTION_EXAMPLES",
    "WAIT_S_MAX",
    "AccountToken",
    "AppleNotification",
    "BelongingsQuery",
    "CurrencyAmount",
    "EntitlementList",
    "Example",
    "Grant",
    "Health",
    "Hold",
    "HoldCapture",
    "HoldRelease",
    "NewGrant",
    "NewHold",
    "NewRefundRequest",
    "NewSpend",
    "PageQuery",
    "Problem",
    "Product",
    "ProductList",
    "Purchase",
    "PurchasePage",
    "PurchaseSubmission",
    "RefundRequest",
    "Spend",
    "SpendReversal",
    "SubmittedPurchase",
    "SubscriptionPage",
    "SubscriptionPageQuery",
    "Timeline",
    "TimelineEvent",
    "WaitQuery",
    "Wallet",
    "WalletPage",
    "WalletPageQuery",
    "WalletQuery",
]
