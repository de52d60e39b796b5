"""The feed: an app's outward events in one order that never changes, however late some of them were committed.

The notifier puts events at the end of it, in the transaction that handles them; the gateway reads it. Why there is an
order of its own beside the journal's ids: shared/bus/migrations/0004_outward.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection

from shared.database import array_literal
from shared.events import Event

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
