"""Use-cases: what users may use follows from what they have, and from time alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.domain.books import ALL_MILLI, KnownTransaction, TransactionKey
from ledger.domain.decisions import Decisions, key_of
from ledger.domain.entitlements import FOR_EVER, Entitlement, Held, Holder, Source, SourceId, changed, of_purchase
from ledger.handlers.ports import Entitlements
from shared.catalog import Catalog
from shared.events import Draft, EntitlementChanged, Event, following
from shared.ids import entitlement_subject


@dataclass(frozen=True, slots=True)
class Given:
    """All that one thing gives to its holder now, and the event that made it so."""

    event: Event[Any]
    holder: Holder
    id: SourceId
    sources: Sequence[Source]


def given_by_purchases(decisions: Decisions, *, catalog: Catalog) -> list[Given]:
    """What the purchases of a batch give now that are neither used up nor subscriptions."""
    causes = {key_of(event): event for event, _ in decisions.steps}
    found = (_given(causes[key], key, known, catalog) for key, known in decisions.changed.items())
    return [given for given in found if given is not None]


def _given(event: Event[Any], key: TransactionKey, known: KnownTransaction, catalog: Catalog) -> Given | None:
    """None: nothing, or nothing new. Of a product that the catalogue has lost, what was given stays as it is, unless it
    was taken back."""
    if known.state != "granted" or known.user_id is None or known.purchase_id is None or known.product_id is None:
        return None
    product = catalog.find(app=key.app, product_id=known.product_id)
    if product is None and known.refunded_milli < ALL_MILLI:
        return None
    if product is not None and product.type in {"consumable", "auto_renewable"}:
        return None
    holder = Holder(key.app, key.environment, known.user_id)
    return Given(event, holder, known.purchase_id, of_purchase(known, product))


def give(given: Sequence[Given], *, entitlements: Entitlements, now: datetime) -> list[Draft]:
    """Writes down what is given now, and what is to be said of it."""
    before = entitlements.lock({each.holder for each in given})
    newest = {(each.holder, each.id): each.sources for each in given}
    entitlements.replace(
        {(holder, id): sources for (holder, id), sources in newest.items() if _differs(before[holder], id, sources)}
    )
    causes = {each.holder: each.event for each in given}
    news = _news(before, {holder: _sources(held, holder, newest) for holder, held in before.items()}, now=now)
    entitlements.tell(news, now=now)
    return [
        following(
            causes[holder],
            _word(holder, each),
            subject=_subject(holder, each),
            user_id=holder.user_id,
            occurred_at=now,
        )
        for holder, each in news
    ]


def end_entitlements(
    due: Collection[Holder], *, entitlements: Entitlements, new_trace: Callable[[], str], now: datetime
) -> Sequence[Draft]:
    """Tells what these users may use no more, or until another time: the time of something that they had is over."""
    before = entitlements.lock(due)
    news = _news(before, {holder: held.sources for holder, held in before.items()}, now=now)
    entitlements.tell(news, now=now)
    return [
        Draft(
            payload=_word(holder, each),
            app=holder.app,
            subject=_subject(holder, each),
            user_id=holder.user_id,
            occurred_at=now,
            trace_id=new_trace(),
        )
        for holder, each in news
    ]


def _differs(held: Held, id: SourceId, sources: Sequence[Source]) -> bool:
    return {source for source in held.sources if source.id == id} != set(sources)


def _sources(
    held: Held, holder: Holder, newest: Mapping[tuple[Holder, SourceId], Sequence[Source]]
) -> Sequence[Source]:
    """What gives the holder something: of what is given anew, only that."""
    kept = [source for source in held.sources if (holder, source.id) not in newest]
    return kept + [source for (owner, _), sources in newest.items() if owner == holder for source in sources]


def _news(
    before: Mapping[Holder, Held], sources: Mapping[Holder, Sequence[Source]], *, now: datetime
) -> list[tuple[Holder, Entitlement]]:
    return [
        (holder, entitlement)
        for holder, held in sorted(before.items(), key=lambda item: item[0])
        for entitlement in changed(held.told, sources[holder], now=now)
    ]


def _word(holder: Holder, entitlement: Entitlement) -> EntitlementChanged:
    return EntitlementChanged(
        entitlement=entitlement.entitlement,
        environment=holder.environment,
        active=entitlement.active,
        until=None if entitlement.until == FOR_EVER else entitlement.until,
        version=entitlement.version,
        source=entitlement.source,
    )


def _subject(holder: Holder, entitlement: Entitlement) -> str:
    return entitlement_subject(
        app=holder.app,
        environment=holder.environment,
        user_id=holder.user_id,
        entitlement=entitlement.entitlement,
    )
