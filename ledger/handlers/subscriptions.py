"""Use-cases: what stores say of subscriptions is heard, and what time alone changes is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ledger.domain.entitlements import Holder, of_subscription
from ledger.domain.subscriptions import (
    NEVER_HEARD,
    KnownSubscription,
    Statement,
    SubscriptionKey,
    due_at,
    heard,
    key_of,
    restated,
)
from ledger.handlers.entitlements import Given, give
from ledger.handlers.ports import Subscriptions, Tables
from shared.catalog import Catalog
from shared.events import (
    Draft,
    Event,
    PurchaseVerified,
    RefundReceived,
    RefundReversed,
    Revoked,
    SubscriptionChanged,
    SubscriptionUpdated,
    following,
)
from shared.log import get_logger
from shared.outcome import Handled

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Heard:
    """A statement about a subscription, and the event that brought it."""

    event: Event[Any]
    key: SubscriptionKey
    statement: Statement


def hear_subscriptions(
    events: Sequence[Event[SubscriptionChanged]],
    *,
    tables: Tables,
    catalog: Catalog,
    now: datetime,
) -> Handled:
    """What a store says of subscriptions beside their purchases and refunds: each counts once, in whatever order."""
    statements = heard_of(events)
    hearing = Hearing.of(statements, subscriptions=tables.subscriptions)
    given = hearing.save(subscriptions=tables.subscriptions, catalog=catalog, now=now)
    return Handled(drafts=[*hearing.drafts(now), *give(given, entitlements=tables.entitlements, now=now)])


def heard_of(events: Sequence[Event[Any]]) -> list[Heard]:
    """The statements about subscriptions that these events bring."""
    found = []
    for event in events:
        statement = _statement_of(event)
        key = None if statement is None else key_of(event.app, statement.transaction)
        if statement is not None and key is not None:
            found.append(Heard(event, key, statement))
    return found


def _statement_of(event: Event[Any]) -> Statement | None:
    match event.payload:
        case SubscriptionChanged(transaction=transaction, revoked=revoked, renewal=renewal):
            return Statement(transaction, revoked, renewal)
        case PurchaseVerified(transaction=transaction, renewal=renewal):
            return Statement(transaction, renewal=renewal)
        case RefundReceived(transaction=transaction, renewal=renewal) as fact:
            said = Revoked(transaction.signed_at, fact.percentage_milli, fact.revoked_at, fact.cause)
            return Statement(transaction, said, renewal)
        case RefundReversed(transaction=transaction, renewal=renewal):
            return Statement(transaction, Revoked(transaction.signed_at, 0, transaction.signed_at), renewal)
    return None


class Hearing:
    """The subscriptions of a batch, locked, with what is heard of them now."""

    def __init__(self, known: Mapping[SubscriptionKey, KnownSubscription], statements: Sequence[Heard]) -> None:
        self._before = known
        self._causes = {each.key: each.event for each in statements}  # the last one that spoke of it
        self._after: dict[SubscriptionKey, KnownSubscription] = dict(known)
        for each in statements:
            self._after[each.key] = _with(self._after.get(each.key, NEVER_HEARD), each)
        self._told: dict[SubscriptionKey, KnownSubscription] = {}

    @classmethod
    def of(cls, statements: Sequence[Heard], *, subscriptions: Subscriptions) -> Hearing:
        """Locks the subscriptions that these statements are about."""
        return cls(subscriptions.lock({each.key for each in statements}), statements)

    def save(self, *, subscriptions: Subscriptions, catalog: Catalog, now: datetime) -> list[Given]:
        """Writes down those that changed. What all of them give now: a product that the catalogue did not know may be
        there by now, though nothing new was said."""
        changed = {key: known for key, known in self._after.items() if known != self._before.get(key, NEVER_HEARD)}
        self._told = {key: restated(key, known, now=now) for key, known in changed.items()}
        subscriptions.save({key: (known, _due_at(known, now)) for key, known in self._told.items()})
        return [given for key, known in self._after.items() for given in self._given(key, known, catalog)]

    def drafts(self, now: datetime) -> list[Draft]:
        """What is to be said of those that stand otherwise now."""
        return [
            following(
                self._causes[key],
                SubscriptionUpdated(known.told),
                subject=key.id,
                user_id=known.user_id,
                occurred_at=now,
            )
            for key, known in self._told.items()
            if known.told is not None and known.told != self._before.get(key, NEVER_HEARD).told
        ]

    def _given(self, key: SubscriptionKey, known: KnownSubscription, catalog: Catalog) -> list[Given]:
        """Of a product that the catalogue has lost, what was given stays as it is, unless it was taken back."""
        if known.user_id is None or known.subscription is None:
            return []
        product = catalog.find(app=key.app, product_id=known.subscription.transaction.product_id)
        if product is None and not known.subscription.is_revoked:
            return []
        holder = Holder(key.app, key.environment, known.user_id)
        return [Given(self._causes[key], holder, key.id, of_subscription(key.id, known, product))]


def _with(known: KnownSubscription, said: Heard) -> KnownSubscription:
    """The first who has it has it for good; the verifier decides who that is."""
    if None not in {known.user_id, said.event.user_id} and known.user_id != said.event.user_id:
        log.error("a subscription that another user has was verified again", event_id=str(said.event.id))
        return known
    return replace(
        known,
        user_id=known.user_id or said.event.user_id,
        subscription=heard(known.subscription, said.statement),
    )


def _due_at(known: KnownSubscription, now: datetime) -> datetime | None:
    """Nobody is told of what nobody has."""
    if known.user_id is None or known.subscription is None:
        return None
    return due_at(known.subscription, now)


# ---- time alone --------------------------------------------------------------------------------------------------


def lapse_subscriptions(
    due: Collection[SubscriptionKey],
    *,
    subscriptions: Subscriptions,
    new_trace: Callable[[], str],
    now: datetime,
) -> Sequence[Draft]:
    """Tells how these stand now: the time of each has come. What follows for entitlements, `end_entitlements` does."""
    before = subscriptions.lock(due)
    after = {key: restated(key, known, now=now) for key, known in before.items()}
    subscriptions.save({key: (known, _due_at(known, now)) for key, known in after.items()})
    return [
        Draft(
            payload=SubscriptionUpdated(known.told),
            app=key.app,
            subject=key.id,
            user_id=known.user_id,
            occurred_at=now,
            trace_id=new_trace(),
        )
        for key, known in after.items()
        if known.told is not None and known.told != before[key].told
    ]
