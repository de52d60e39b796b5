"""Whatever a person is likely to have in hand leads to purchases: a purchase's id, a transaction's, a user's.

What does not may be what else there is a timeline of, or a user who has bought nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from deploy.claims import Claims, claims_of
from deploy.verdicts import verdict
from gateway.domain.purchases import Standing, parse_purchase_id, purchase_of
from shared.bus import journal
from shared.bus.journal import Head
from shared.clock import Clock
from shared.events import OUTWARD
from shared.ids import AppId, PurchaseId, UserId, parse_public_id

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from deploy.claims import Run

STORES: Final = ("apple",)

_CONFIRMED: Final = """
select distinct app, purchase_id from verifier.store_transaction
 where app = any(%(apps)s) and store = any(%(stores)s) and environment in ('production', 'sandbox')
   and transaction_id = %(wanted)s and purchase_id is not null
"""

# One look into the key (app, subject) for each app that there is: nothing has an index by subject alone.
_APPS: Final = """
with recursive known (app) as (
    select min(app) from journal.timeline
     union all
    select (select min(app) from journal.timeline where app > known.app) from known where known.app is not null
)
select app from known where app is not null
"""

_OF_REQUEST: Final = "select purchase_id from ledger.refund_request where id = %(id)s::uuid"

# Each by an index of its own: timeline_by_user, timeline_of_user.
_PURCHASES_OF_USER: Final = """
select count(*) from journal.timeline
 where app = %(app)s and user_id = %(user_id)s and subject like 'pur\\_%%'
"""

_OTHERS_OF_USER: Final = """
select app, subject, user_id, first_event_id, last_event_id, word_event_id, word_type from journal.timeline
 where app = %(app)s and user_id = %(user_id)s and subject not like 'pur\\_%%'
"""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """One purchase, and why it is as it is."""

    purchase_id: PurchaseId
    app: AppId
    user_id: UserId | None
    transaction_id: str
    product_id: str | None
    environment: str | None
    status: str
    created_at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of what was asked for: the newest of so many purchases (`total`), and the newest of so many
    timelines (`timelines`) whose events are to be shown.

    `claims_since`: how far back claims were searched that no store has confirmed; None: as far as was wanted.
    """

    purchases: Sequence[Whereabouts] = ()
    total: int = 0
    heads: Sequence[Head] = ()
    timelines: int = 0
    claims_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sought:
    """What is asked for, where, how much of it at most, and how long the one search may take that has no index."""

    wanted: str
    apps: Sequence[AppId]
    limit: int
    days: int
    within_s: int


def recorded_apps(connection: Connection) -> list[AppId]:
    """Every app that the journal knows, those that were taken out of the apps file too."""
    return list(connection.exec_driver_sql(_APPS).scalars())


def find(run: Run, sought: Sought, *, clock: Clock) -> Found:
    """What there is a timeline of, a user, or a transaction: the first of these that `wanted` is the id of."""
    for look in (_as_subject, _as_user):
        found: Found | None = run(partial(look, sought=sought, now=clock.now()))
        if found is not None:
            return found
    claims = claims_of(run, sought.wanted, apps=sought.apps, days=sought.days, within_s=sought.within_s, clock=clock)
    return _as_transaction(run, sought=sought, claims=claims, now=clock.now())


def _as_subject(connection: Connection, *, sought: Sought, now: datetime) -> Found | None:
    """A purchase, a subscription, a spend …; a request for a refund is in its purchase's timeline."""
    subjects = [sought.wanted, *_purchase_of_request(connection, sought.wanted)]
    heads = _heads(connection, [(app, subject) for app in sought.apps for subject in subjects])
    if not heads:
        return None
    purchases = _purchases(connection, [(head.app, PurchaseId(head.subject)) for head in heads], now=now)
    return Found(purchases=purchases, total=len(purchases), heads=heads, timelines=len(heads))


def _as_user(connection: Connection, *, sought: Sought, now: datetime) -> Found | None:
    """Whoever has bought something, and what a store has confirmed of a transaction that is called as they are; of who
    has bought nothing, whatever else there is."""
    from gateway.app import standings_of_user

    user_id = UserId(sought.wanted)
    theirs = [
        _whereabouts(connection, standing, app=app, now=now)
        for app in sought.apps
        for standing in standings_of_user(connection, app=app, user_id=user_id, limit=sought.limit)
    ]
    if not theirs:
        return _others_of_user(connection, user_id, sought=sought)
    others = _purchases(connection, _confirmed(connection, sought), now=now)
    others = [each for each in others if each.user_id != user_id]
    total = len(others) + sum(_count(connection, user_id, app=app) for app in sought.apps)
    return Found(purchases=_newest([*theirs, *others], sought.limit), total=total)


def _others_of_user(connection: Connection, user_id: UserId, *, sought: Sought) -> Found | None:
    """What they were given, have spent, may use …: the timelines in which something happened last."""
    heads = [
        Head(*row)
        for app in sought.apps
        for row in connection.exec_driver_sql(_OTHERS_OF_USER, {"app": app, "user_id": user_id})
    ]
    if not heads:
        return None
    newest = sorted(heads, key=lambda head: head.last_event_id, reverse=True)[: sought.limit]
    return Found(heads=newest, timelines=len(heads))


def _as_transaction(run: Run, *, sought: Sought, claims: Claims, now: datetime) -> Found:
    """Who has it, and who has claimed it. Of one purchase the events are shown too."""

    def look(connection: Connection) -> Found:
        ids = list(dict.fromkeys([*_confirmed(connection, sought), *claims.purchases]))
        purchases = _purchases(connection, ids, now=now)
        heads = _heads(connection, ids) if len(purchases) == 1 else []
        return Found(
            purchases=_newest(purchases, sought.limit),
            total=len(purchases),
            heads=heads,
            timelines=len(heads),
            claims_since=claims.since,
        )

    found: Found = run(look)
    return found


def _purchase_of_request(connection: Connection, wanted: str) -> list[str]:
    request = parse_public_id(wanted, prefix="rfr")
    if request is None:
        return []
    return list(connection.exec_driver_sql(_OF_REQUEST, {"id": str(request)}).scalars())


def _confirmed(connection: Connection, sought: Sought) -> list[tuple[AppId, PurchaseId]]:
    """The purchases to which a store's word on the transaction led."""
    parameters = {"apps": list(sought.apps), "stores": list(STORES), "wanted": sought.wanted}
    return [(app, PurchaseId(purchase)) for app, purchase in connection.exec_driver_sql(_CONFIRMED, parameters)]


def _count(connection: Connection, user_id: UserId, *, app: AppId) -> int:
    count: int = connection.exec_driver_sql(_PURCHASES_OF_USER, {"app": app, "user_id": user_id}).scalar_one()
    return count


def _heads(connection: Connection, ids: Iterable[tuple[AppId, str]]) -> list[Head]:
    return [head for app, subject in ids for head in journal.heads(connection, app=app, subjects=[subject])]


def _purchases(connection: Connection, ids: Iterable[tuple[AppId, PurchaseId]], *, now: datetime) -> list[Whereabouts]:
    """Those of these that are purchases."""
    from gateway.app import standings_of

    return [
        _whereabouts(connection, standing, app=app, now=now)
        for app, purchase in ids
        if parse_purchase_id(purchase) is not None
        for standing in standings_of(connection, app=app, purchases=[purchase])
    ]


def _newest(purchases: Iterable[Whereabouts], limit: int) -> list[Whereabouts]:
    return sorted(purchases, key=lambda each: each.created_at, reverse=True)[:limit]


def _whereabouts(connection: Connection, standing: Standing, *, app: AppId, now: datetime) -> Whereabouts:
    purchase = purchase_of(standing)
    return Whereabouts(
        purchase_id=purchase.id,
        app=app,
        user_id=purchase.user_id,
        transaction_id=purchase.transaction_id,
        product_id=purchase.product_id,
        environment=purchase.environment,
        status=purchase.status,
        created_at=purchase.created_at,
        why=verdict(standing, untold=_untold(connection, purchase.id, app=app), now=now),
    )


def _untold(connection: Connection, purchase: PurchaseId, *, app: AppId) -> list[str]:
    """What webhooks have not taken of what the purchase has led to."""
    from deploy.timelines import untold

    events = journal.timeline(connection, journal.heads(connection, app=app, subjects=[purchase]))
    types = {event.id: event.type for event in events if event.type in OUTWARD}
    return [f"{types[event_id]} by {said}" for event_id, said in untold(connection, events)]
