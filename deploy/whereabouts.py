"""Whatever a person is likely to have in hand leads to purchases: a purchase's id, a transaction's, a user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from deploy.verdicts import verdict
from gateway.domain.purchases import SUBMITTED, Standing, purchase_of
from shared.events import OUTWARD
from shared.ids import AppId, PurchaseId, UserId

if TYPE_CHECKING:
    from sqlalchemy import Connection

DAYS: Final = 30
"""How far back claims are searched that no store has confirmed: the journal has no index by transaction."""
OF_USER_MAX: Final = 20
"""The newest of a user's purchases that are shown."""
STORES: Final = ("apple",)

_CONFIRMED: Final = """
select distinct purchase_id from verifier.store_transaction
 where app = %(app)s and store = any(%(stores)s) and environment in ('production', 'sandbox')
   and transaction_id = %(wanted)s and purchase_id is not null
"""

_CLAIMED: Final = """
select distinct subject from journal.event
 where id >= journal.uuid_floor(now() - make_interval(days => %(days)s)) and type = any(%(types)s)
   and app = %(app)s and payload ->> 'transaction_id' = %(wanted)s
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


def purchase_whereabouts(connection: Connection, wanted: PurchaseId, *, now: datetime) -> list[Whereabouts]:
    """The purchase of this id, if there is one."""
    from deploy.timelines import apps_with
    from gateway.app import standings_of

    return [
        _whereabouts(connection, standing, app=app, now=now)
        for app in apps_with(connection, wanted)
        for standing in standings_of(connection, app=app, purchases=[wanted])
    ]


def whereabouts(
    connection: Connection, wanted: str, *, apps: Sequence[AppId], days: int, now: datetime
) -> list[Whereabouts]:
    """The purchases of these apps that are about this transaction, or are this user's, newest first."""
    found = [
        _whereabouts(connection, standing, app=app, now=now)
        for app in apps
        for standing in _standings(connection, wanted, app=app, days=days)
    ]
    return sorted({each.purchase_id: each for each in found}.values(), key=lambda each: each.created_at, reverse=True)


def _standings(connection: Connection, wanted: str, *, app: AppId, days: int) -> Sequence[Standing]:
    from gateway.app import standings_of, standings_of_user

    named = {"wanted": wanted, "app": app, "stores": list(STORES), "types": sorted(SUBMITTED), "days": days}
    purchases = [PurchaseId(row[0]) for sql in (_CONFIRMED, _CLAIMED) for row in connection.exec_driver_sql(sql, named)]
    return [
        *standings_of(connection, app=app, purchases=purchases),
        *standings_of_user(connection, app=app, user_id=UserId(wanted), limit=OF_USER_MAX),
    ]


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
    from shared.bus import journal

    events = journal.timeline(connection, journal.heads(connection, app=app, subjects=[purchase]))
    types = {event.id: event.type for event in events if event.type in OUTWARD}
    return [f"{types[event_id]} by {said}" for event_id, said in untold(connection, events)]
