"""All events by name, and what the rest of the house wants to know of each."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from shared.events.base import EventMalformed, EventUnknown, Payload
from shared.events.gateway import (
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
from shared.events.verifier import (
    PurchaseRejected,
    PurchaseVerified,
    RefundDeclined,
    RefundReceived,
    RefundReversed,
    SubscriptionChanged,
    SubscriptionReported,
)

PAYLOADS: Mapping[tuple[str, int], type[Payload]] = {
    (cls.TYPE, cls.VERSION): cls
    for cls in (
        ReceiptSubmitted,
        TransactionIdSubmitted,
        TransactionSubmitted,
        NotificationReceived,
        AccountTokenIssued,
        PurchaseVerified,
        PurchaseRejected,
        RefundReceived,
        RefundReversed,
        RefundDeclined,
        SubscriptionReported,
        SubscriptionChanged,
        PurchaseCompleted,
        PurchaseParked,
        PurchaseRefunded,
        PurchaseRefundReversed,
        WalletCredited,
        WalletDebited,
        SpendPosted,
        SpendReversed,
        HoldPlaced,
        HoldEnded,
        GrantPosted,
        RefundRequestUpdated,
        SubscriptionUpdated,
        EntitlementChanged,
        WebhookDelivered,
        WebhookExhausted,
        WebhookEndpointDisabled,
        WebhookEndpointEnabled,
        UserErased,
        DeliveryRetried,
        DeliveryDropped,
    )
}

OUTWARD = (
    PurchaseCompleted.TYPE,
    PurchaseRejected.TYPE,
    PurchaseRefunded.TYPE,
    PurchaseRefundReversed.TYPE,
    WalletCredited.TYPE,
    WalletDebited.TYPE,
    RefundRequestUpdated.TYPE,
    SubscriptionUpdated.TYPE,
    EntitlementChanged.TYPE,
)
"""The events that the app's own backend may hear of."""

WORD_RANK: Mapping[str, int] = {
    ReceiptSubmitted.TYPE: 1,
    TransactionIdSubmitted.TYPE: 1,
    TransactionSubmitted.TYPE: 1,
    PurchaseRejected.TYPE: 1,
    PurchaseVerified.TYPE: 2,
    PurchaseParked.TYPE: 3,
    PurchaseCompleted.TYPE: 3,
    PurchaseRefunded.TYPE: 3,
    PurchaseRefundReversed.TYPE: 3,
}
"""Which events say what a purchase's status is. The newest of the highest rank is the word that counts. A claim may
come with several proofs, looked at in any order or at once, and one that is good is enough: a rejection is about one
proof, so it does not undo what another has proved. The ledger's word outranks all others. Ranks are kept with the
timelines: none may ever become lower."""


def encode(payload: Payload) -> bytes:
    """The payload as JSON."""
    return msgspec.json.encode(payload)


def decode(event_type: str, version: int, document: str | bytes) -> Payload:
    """The payload read back from its JSON document.

    Raises EventUnknown for a name or version that is not known here, EventMalformed when a field is missing or wrong.
    """
    payload_class = PAYLOADS.get((event_type, version))
    if payload_class is None:
        raise EventUnknown(f"no event {event_type!r} version {version} is known here")
    try:
        return msgspec.json.decode(document, type=payload_class)
    except msgspec.DecodeError as error:
        raise EventMalformed(f"{event_type} version {version}: {error}") from error
