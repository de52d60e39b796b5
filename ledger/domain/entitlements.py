"""What a user may use, and until when: from subscriptions, non-consumables and non-renewing products.

Each thing that gives an entitlement is a source of it. What follows from a set of sources does not depend on the order
in which they were heard of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from ledger.domain.books import ALL_MILLI, KnownTransaction
from ledger.domain.subscriptions import KnownSubscription
from shared.catalog import Product
from shared.events import Environment
from shared.ids import AppId, EntitlementId, PurchaseId, SubscriptionId, UserId

FOR_EVER: Final = datetime.max.replace(tzinfo=UTC)
"""Longer than any other time. Outside it is null."""

SourceId = SubscriptionId | PurchaseId


class Holder(NamedTuple):
    """Who may use things: a user in one environment. The order of holders is that in which they are locked."""

    app: AppId
    environment: Environment
    user_id: UserId


@dataclass(frozen=True, slots=True)
class Source:
    """Something that gives an entitlement: from `since` until `until` (FOR_EVER: it never ends).

    `lasts`: it was bought for so long, and adds to what its user has left of the same; then `until` is not used.
    """

    id: SourceId
    entitlement: EntitlementId
    since: datetime
    until: datetime = FOR_EVER
    lasts: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What a holder was told of one entitlement. `until` FOR_EVER: it never ends; while not `active`, when it did."""

    entitlement: EntitlementId
    active: bool
    until: datetime
    version: int
    source: SourceId | None


@dataclass(frozen=True, slots=True)
class Held:
    """All that gives a holder something, and what was told of it."""

    sources: Sequence[Source] = ()
    told: Mapping[EntitlementId, Entitlement] = field(default_factory=dict)


# ---- what gives something ----------------------------------------------------------------------------------------


def of_subscription(id: SubscriptionId, known: KnownSubscription, product: Product | None) -> Sequence[Source]:
    """What a subscription gives. One that was taken back, or that is of no product of the catalogue, gives nothing."""
    subscription = known.subscription
    if subscription is None or product is None or (until := subscription.access_until) is None:
        return ()
    since = subscription.transaction.purchased_at
    return [Source(id, entitlement, since, until) for entitlement in product.entitlements]


def of_purchase(known: KnownTransaction, product: Product | None) -> Sequence[Source]:
    """What a purchase gives that is no subscription. What is refunded in part lasts a part of its time."""
    if not _gives(known, product) or known.purchase_id is None or known.purchased_at is None or product is None:
        return ()
    lasts = None
    if product.days is not None:
        whole = timedelta(days=product.days) * known.quantity
        lasts = whole * (ALL_MILLI - known.refunded_milli) / ALL_MILLI
    return [
        Source(known.purchase_id, entitlement, known.purchased_at, lasts=lasts) for entitlement in product.entitlements
    ]


def _gives(known: KnownTransaction, product: Product | None) -> bool:
    if product is None or product.type == "auto_renewable":
        return False
    return known.state == "granted" and known.refunded_milli < ALL_MILLI


# ---- what follows from it ----------------------------------------------------------------------------------------


def until_of(sources: Iterable[Source]) -> tuple[datetime, SourceId] | None:
    """Up to when they give it all together, and which of them does so longest; None: there are none.

    What was bought for a time is used up one after the other, in the order of buying: whoever buys a pass while one
    runs has both.
    """
    untils: list[tuple[datetime, SourceId]] = []
    end: datetime | None = None
    for source in sorted(sources, key=lambda each: (each.since, each.id)):
        if source.lasts is None:
            untils.append((source.until, source.id))
        else:
            end = _capped(max(end or source.since, source.since), source.lasts)
            untils.append((end, source.id))
    return max(untils, default=None)


def _capped(start: datetime, lasts: timedelta) -> datetime:
    return FOR_EVER if lasts > FOR_EVER - start else start + lasts


def changed(
    told: Mapping[EntitlementId, Entitlement], sources: Iterable[Source], *, now: datetime
) -> Sequence[Entitlement]:
    """The entitlements of a holder that stand otherwise now than was told, each a version on."""
    by_entitlement: dict[EntitlementId, list[Source]] = {entitlement: [] for entitlement in told}
    for source in sources:
        by_entitlement.setdefault(source.entitlement, []).append(source)
    found = (
        _restated(entitlement, told.get(entitlement), until_of(own), now=now)
        for entitlement, own in sorted(by_entitlement.items())
    )
    return [entitlement for entitlement in found if entitlement is not None]


def _restated(
    id: EntitlementId, before: Entitlement | None, given: tuple[datetime, SourceId] | None, *, now: datetime
) -> Entitlement | None:
    """None: there is nothing new to tell. What never was active, and what is over, are no news."""
    if given is not None and now < given[0]:
        until, source = given
        after = Entitlement(id, True, until, before.version if before else 0, source)
        return None if after == before else replace(after, version=after.version + 1)
    if before is None or not before.active:
        return None
    ended = min(now, given[0] if given else now)
    return Entitlement(id, False, ended, before.version + 1, None)
