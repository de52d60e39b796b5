"""The feed: an app's outward events in one order that never changes, however late some of them were committed.

The notifier puts events at the end of it, in the transaction that handles them; the gateway reads it. Whoever sees a
place sees all before it. Why there is an order of its own beside the journal's ids:
shared/bus/migrations/0004_outward.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from shared.bus import journal
from shared.database import array_literal
from shared.events import Event, Payload
from shared.ids import AppId, EventId, UserId

# The heads are locked in the order of the apps, so that two transactions never wait for each other in a circle.
_APPEND: Final = """
with new as (
    select app, event_id, user_id, row_number() over (partition by app order by event_id) as number
      from unnest(%(app)s::text[], %(event_id)s::uuid[], %(user_id)s::text[]) as new (app, event_id, user_id)),
heads as (
    insert into journal.outward_head as head (app, position)
    select app, count(*) from new group by app order by app
    on conflict (app) do update set position = head.position + excluded.position
    returning app, position),
sizes as (select app, count(*) as size from new group by app)
insert into journal.outward (app, position, event_id, user_id)
select app, heads.position - size + number, event_id, user_id from new join heads using (app) join sizes using (app)
"""

_OF_APP: Final = "app = %(app)s"
_OF_USER: Final = "app = %(app)s and user_id = %(user_id)s"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event stands in its app's feed, counted from 1 without a gap."""

    position: int
    event_id: EventId


class Feed:
    """The end of the feed, in the transaction of this connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(self, events: Sequence[Event[Any]]) -> None:
        """Gives the events the next places of their apps' feeds, each app's in the order of their ids.

        Whoever else wants to waits until this transaction ends: the last thing to do in it.
        """
        if not events:
            return
        parameters = {
            "app": array_literal(event.app for event in events),
            "event_id": array_literal(event.id for event in events),
            "user_id": array_literal(event.user_id for event in events),
        }
        self._connection.exec_driver_sql(_APPEND, parameters)


# ---- reading: of a whole app, or what is about one user of it ------------------------------------------------------


def page(connection: Connection, *, app: AppId, after: int, limit: int, user_id: UserId | None = None) -> list[Place]:
    """The places that follow a position (0: from the beginning), in their order."""
    rows = connection.exec_driver_sql(
        f"select position, event_id from journal.outward where {_of(user_id)} and position > %(after)s"
        " order by position limit %(limit)s",
        {"app": app, "user_id": user_id, "after": after, "limit": limit},
    )
    return [Place(*row) for row in rows]


def newest(connection: Connection, *, app: AppId, user_id: UserId | None = None) -> Place | None:
    """The last place that there is; None: there is none yet."""
    row = connection.exec_driver_sql(
        f"select position, event_id from journal.outward where {_of(user_id)} order by position desc limit 1",
        {"app": app, "user_id": user_id},
    ).one_or_none()
    return None if row is None else Place(*row)


def place_of(connection: Connection, *, app: AppId, event_id: EventId, user_id: UserId | None = None) -> Place | None:
    """The place of one event; None: it has none in this feed."""
    row = connection.exec_driver_sql(
        f"select position, event_id from journal.outward where {_of(user_id)} and event_id = %(event_id)s",
        {"app": app, "user_id": user_id, "event_id": event_id},
    ).one_or_none()
    return None if row is None else Place(*row)


def events_at(connection: Connection, places: Sequence[Place]) -> list[Event[Payload]]:
    """The events at these places, in the order of the places. Raises EventUnknown or EventMalformed.

    One whose partition of the journal was taken away is left out.
    """
    known = {event.id: event for event in journal.load(connection, [place.event_id for place in places])}
    return [known[place.event_id] for place in places if place.event_id in known]


def _of(user_id: UserId | None) -> str:
    return _OF_APP if user_id is None else _OF_USER
