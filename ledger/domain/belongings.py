"""What a user is told of what they have beside a wallet: subscriptions, and what they may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from ledger.domain.entitlements import FOR_EVER, Entitlement, Holder, SourceId
from ledger.domain.subscriptions import Subscription, SubscriptionKey, state_at
from shared.events import Store, SubscriptionState
from shared.ids import EntitlementId, TransactionId


class SubscriptionPlace(NamedTuple):
    """Where a subscription stands in its user's list, the one whose period began last coming first."""

    began_at: datetime
    store: Store
    original_transaction_id: TransactionId


@dataclass(frozen=True, slots=True)
class OwnedSubscription:
    """A subscription on record, and how often its user was told of it."""

    key: SubscriptionKey
    subscription: Subscription
    version: int

    @property
    def place(self) -> SubscriptionPlace:
        began_at = self.subscription.transaction.purchased_at
        return SubscriptionPlace(began_at, self.key.store, self.key.original_transaction_id)

    def state_at(self, now: datetime) -> SubscriptionState:
        return state_at(self.key, self.subscription, now=now, version=self.version)


@dataclass(frozen=True, slots=True)
class SubscriptionPage:
    """Subscriptions as they stand at a moment. `next_after` is the place to read on after; None: there are no more."""

    holder: Holder
    subscriptions: Sequence[SubscriptionState]
    next_after: SubscriptionPlace | None


@dataclass(frozen=True, slots=True)
class EntitlementStatement:
    """Whether something may be used at this moment. `until` None: for ever; when it is not `active`, when it ended."""

    id: EntitlementId
    name: str
    active: bool
    until: datetime | None
    source: SourceId | None
    version: int


@dataclass(frozen=True, slots=True)
class EntitlementList:
    """All that a user may use, or might once."""

    holder: Holder
    entitlements: Sequence[EntitlementStatement]


def stated_at(entitlement: Entitlement, *, name: str, now: datetime) -> EntitlementStatement:
    """How it stands at a moment: an end that has come ends it, whether or not anybody was told yet."""
    active = entitlement.active and now < entitlement.until
    return EntitlementStatement(
        id=entitlement.entitlement,
        name=name,
        active=active,
        until=None if entitlement.until == FOR_EVER else entitlement.until,
        source=entitlement.source if active else None,
        version=entitlement.version,
    )
