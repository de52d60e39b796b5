"""Who hears of what. Adding a subscriber is one line in SUBSCRIPTIONS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NewType

from shared import events

ConsumerName = NewType("ConsumerName", str)

VERIFIER = ConsumerName("verifier")
VERIFIER_STORE = ConsumerName("verifier-store")
VERIFIER_LOOKUPS = ConsumerName("verifier-lookups")
LEDGER = ConsumerName("ledger")
NOTIFIER = ConsumerName("notifier")


@dataclass(frozen=True, slots=True)
class Consumer:
    """How a consumer is served. Its queue has its name.

    ids_per_message  the batch: per-message cost on Redis is what caps a queue
    ids_in_flight    handed over and not yet handled, at most: a backlog waits in Postgres, not on the broker
    lease_s          how long after a hand-over an id is taken for lost and handed over again; longer than it takes to
                     work off what is in flight
    pause_busy_s     at least so long between two hand-overs to its queue when it is busy: under load larger batches
                     win, in latency too
    """

    name: ConsumerName
    ids_per_message: int
    ids_in_flight: int
    lease_s: float
    pause_busy_s: float = 0.05


CONSUMERS: Mapping[ConsumerName, Consumer] = {
    consumer.name: consumer
    for consumer in (
        Consumer(VERIFIER, ids_per_message=50, ids_in_flight=1000, lease_s=15),
        # Waits on a store that answers in 0.2 to 2 s, at worst three times in its time-out of 13 s: twice as many in
        # flight as are asked about at once, a lease that a crash is waited out for, and time to fill messages.
        Consumer(VERIFIER_STORE, ids_per_message=32, ids_in_flight=256, lease_s=60, pause_busy_s=0.2),
        # Anybody can name transaction ids, and Apple answers 50 a second, or 5: they wait for each other, not receipts
        # for them.
        Consumer(VERIFIER_LOOKUPS, ids_per_message=16, ids_in_flight=128, lease_s=60, pause_busy_s=0.2),
        Consumer(LEDGER, ids_per_message=200, ids_in_flight=2000, lease_s=15),
        Consumer(NOTIFIER, ids_per_message=200, ids_in_flight=2000, lease_s=15),
    )
}

SUBSCRIPTIONS: Mapping[str, tuple[ConsumerName, ...]] = {
    events.ReceiptSubmitted.TYPE: (VERIFIER_STORE,),
    events.TransactionIdSubmitted.TYPE: (VERIFIER_LOOKUPS,),
    events.TransactionSubmitted.TYPE: (VERIFIER,),
    events.NotificationReceived.TYPE: (VERIFIER,),
    events.AccountTokenIssued.TYPE: (VERIFIER,),
    events.PurchaseVerified.TYPE: (LEDGER,),
    events.PurchaseRejected.TYPE: (NOTIFIER,),
    events.RefundReceived.TYPE: (LEDGER,),
    events.RefundReversed.TYPE: (LEDGER,),
    events.RefundDeclined.TYPE: (LEDGER,),
    events.SubscriptionReported.TYPE: (VERIFIER,),
    events.SubscriptionChanged.TYPE: (LEDGER,),
    events.PurchaseCompleted.TYPE: (NOTIFIER,),
    events.PurchaseRefunded.TYPE: (NOTIFIER,),
    events.PurchaseRefundReversed.TYPE: (NOTIFIER,),
    events.WalletCredited.TYPE: (NOTIFIER,),
    events.WalletDebited.TYPE: (NOTIFIER,),
    events.RefundRequestUpdated.TYPE: (NOTIFIER,),
    events.SubscriptionUpdated.TYPE: (NOTIFIER,),
    events.EntitlementChanged.TYPE: (NOTIFIER,),
}


def types_for(consumer: ConsumerName) -> list[str]:
    """The event types that a consumer hears of."""
    return [event_type for event_type, consumers in SUBSCRIPTIONS.items() if consumer in consumers]
