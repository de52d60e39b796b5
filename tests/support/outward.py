"""One event of each type that is told outside, always the same: what the pages and the contract are held to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from shared.events import (
    EntitlementChanged,
    Event,
    Payload,
    PurchaseCompleted,
    PurchaseRefunded,
    PurchaseRefundReversed,
    PurchaseRejected,
    RefundRequestUpdated,
    StoreTransaction,
    SubscriptionState,
    SubscriptionUpdated,
    WalletChange,
    WalletCredited,
    WalletDebited,
)
from shared.ids import (
    AppId,
    EntitlementId,
    EventId,
    PurchaseId,
    RefundRequestId,
    SubscriptionId,
    TransactionId,
    UserId,
)
from shared.money import Amount, CurrencyId

NOON: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)
GEMS: Final = CurrencyId("gems")
BOUGHT: Final = PurchaseId("pur_ndpakn6owx7abdyax7jxgpqzwx")
SUBSCRIBED: Final = SubscriptionId("sub_wlnr77rol34tmlqejdvz3nmrsn")
TRANSACTION: Final = StoreTransaction(
    store="apple",
    environment="production",
    transaction_id=TransactionId("2000000000000001"),
    original_transaction_id=TransactionId("2000000000000001"),
    product_id="com.example.game.gems100",
    product_type="consumable",
    quantity=1,
    purchased_at=NOON,
    signed_at=NOON,
)
SUBSCRIPTION: Final = SubscriptionState(
    id=SUBSCRIBED,
    store="apple",
    environment="production",
    status="active",
    product_id="com.example.game.vip.monthly",
    group="21500001",
    original_transaction_id=TransactionId("2000000000000002"),
    transaction_id=TransactionId("2000000000000002"),
    period_starts_at=NOON,
    expires_at=NOON + timedelta(days=30),
    price_milli=9990,
    currency="USD",
    auto_renew=True,
    renewal_product_id="com.example.game.vip.monthly",
    renews_at=NOON + timedelta(days=30),
    renewal_price_milli=9990,
    renewal_currency="USD",
    access_until=NOON + timedelta(days=30),
    version=1,
)


def change(amount: int, *, balance_after: int, version: int, kind: str) -> WalletChange:
    """An entry of alice's wallet, moved by her purchase."""
    return WalletChange(
        entry_id=f"ent_{version}",
        environment="production",
        currency=GEMS,
        amount=amount,
        balance_after=balance_after,
        version=version,
        kind=kind,
        purchase_id=BOUGHT,
    )


PAYLOADS: Final = (
    PurchaseCompleted(BOUGHT, TRANSACTION, granted=[Amount(GEMS, 100)]),
    PurchaseRejected(
        purchase_id=PurchaseId("pur_hzxjdy3nnlsy4fv43xwcgcyzqu"),
        store="apple",
        transaction_id=TransactionId("2000000000000003"),
        code="claimed_by_another_user",
        detail="another user has claimed this transaction",
    ),
    PurchaseRefunded(BOUGHT, TRANSACTION, granted=[Amount(GEMS, 100)], refunded=[Amount(GEMS, 100)]),
    PurchaseRefundReversed(BOUGHT, TRANSACTION, granted=[Amount(GEMS, 100)]),
    WalletCredited(change(100, balance_after=100, version=1, kind="purchase")),
    WalletDebited(change(-100, balance_after=0, version=2, kind="refund")),
    SubscriptionUpdated(SUBSCRIPTION),
    EntitlementChanged(
        entitlement=EntitlementId("vip"),
        environment="production",
        active=True,
        until=NOON + timedelta(days=30),
        version=1,
        source=SUBSCRIBED,
    ),
    RefundRequestUpdated(
        refund_request_id=RefundRequestId("rfr_0192f0c8e1d07c3f9a4b5c6d7e8f9012"),
        purchase_id=BOUGHT,
        environment="production",
        status="open",
        spent_percentage_milli=0,
        expires_at=NOON + timedelta(days=2),
        held=[Amount(GEMS, 100)],
        reason="My child bought it by mistake.",
    ),
)


def event_of(payload: Payload) -> Event[Payload]:
    """The payload as an event of alice's, told at noon."""
    return Event(
        id=EventId(UUID("01a4d2c1-5e00-7000-8000-000000000001")),
        app=AppId("game"),
        subject=BOUGHT,
        user_id=UserId("alice"),
        payload=payload,
        trace_id="0" * 32,
        causation_id=None,
        occurred_at=NOON,
        recorded_at=NOON,
    )


EVENTS: Final[Mapping[str, Event[Payload]]] = {payload.TYPE: event_of(payload) for payload in PAYLOADS}
"""By their types."""
