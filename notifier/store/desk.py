"""The record as an operator needs it: lists, single deliveries, what is to be sent again. One app's, in the transaction
of the caller's connection.

No statement looks at more than it shows, but for counts, and those end at COUNTED_MAX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from notifier.domain.deliveries import DeliveryState
from notifier.domain.desk import (
    AttemptView,
    DeliveryHistory,
    DeliveryPlace,
    DeliveryView,
    EndpointRecord,
    Span,
    Stretch,
)
from notifier.domain.endpoints import EndpointKey
from notifier.store.deliveries import Deliveries
from shared.apps import EndpointId
from shared.bus import journal
from shared.database import array_literal
from shared.events import OUTWARD, Recorded
from shared.ids import AppId, EventId

COUNTED_MAX: Final = 100_000
SOON: Final = timedelta(minutes=2)
"""More than the longest lease there is: what is due later is not being tried now."""
NEWEST: Final = DeliveryPlace(EventId(UUID(int=2**128 - 1)), EndpointId(""))
"""The place before all others."""

# One look into the index for each endpoint that has deliveries, not one for each delivery.
_EACH: Final = """
    each as (
        (select endpoint_id from notifier.delivery where app = %(app)s order by endpoint_id limit 1)
        union all
        select next.endpoint_id
          from each, lateral (
               select endpoint_id from notifier.delivery d
                where d.app = %(app)s and d.endpoint_id > each.endpoint_id
                order by endpoint_id limit 1) next)
"""

_ENDPOINTS: Final = f"""
with recursive {_EACH},
known as (select endpoint_id from each union select endpoint_id from notifier.endpoint where app = %(app)s)
select known.endpoint_id, disabled_at, disabled_url, reason, failing_since, coalesce(failures, 0),
       (select count(*) from (select from notifier.delivery d
                               where d.app = %(app)s and d.endpoint_id = known.endpoint_id and d.state = 'waiting'
                               limit {COUNTED_MAX}) counted),
       (select coalesce(waiting_since, created_at) from notifier.delivery d
         where d.app = %(app)s and d.endpoint_id = known.endpoint_id and d.state = 'waiting'
         order by coalesce(waiting_since, created_at) limit 1),
       (select count(*) from (select from notifier.delivery d
                               where d.app = %(app)s and d.endpoint_id = known.endpoint_id
                                 and d.state in ('exhausted', 'parked')
                               limit {COUNTED_MAX}) counted),
       (select settled_at from notifier.delivery d
         where d.app = %(app)s and d.endpoint_id = known.endpoint_id and d.state = 'delivered'
         order by event_id desc limit 1)
  from known left join notifier.endpoint e on e.app = %(app)s and e.endpoint_id = known.endpoint_id
"""

_COLUMNS: Final = (
    "event_id, endpoint_id, type, state, attempts, created_at, due_at, settled_at, last_status, last_error"
)

_ONE: Final = "each as (select %(endpoint)s as endpoint_id)"
_OF_STATE: Final = "and q.state = %(state)s"


def _page(*, each: str, of_state: str) -> str:
    """A page of deliveries to `each` endpoint, put together from a page of each one's."""
    return f"""
with recursive {each}
select page.*
  from each, lateral (
       select {_COLUMNS} from notifier.delivery q
        where q.app = %(app)s and q.endpoint_id = each.endpoint_id {of_state}
          and q.event_id <= %(event_id)s::uuid
          and (q.event_id < %(event_id)s::uuid or q.endpoint_id > %(after_endpoint)s)
        order by q.event_id desc limit %(limit)s) page
 order by event_id desc, endpoint_id limit %(limit)s
"""


_OF_EVENTS: Final = f"""
with recursive {_EACH}
select found.*
  from each, lateral (
       select {_COLUMNS} from notifier.delivery d
        where d.app = %(app)s and d.endpoint_id = each.endpoint_id and d.event_id = any(%(event_ids)s::uuid[])) found
 order by event_id, endpoint_id
"""

_ATTEMPTS: Final = """
select endpoint_id, number, at, status, duration_ms, answer, error, retry_after_s
  from notifier.attempt
 where app = %(app)s and endpoint_id = any(%(endpoints)s::text[]) and event_id = %(event_id)s::uuid
 order by endpoint_id, number
"""

# Whoever sends one of them now finds that it is not the one that was taken, and says nothing of it. What waits is made
# due, and has waited no shorter for it.
_AGAIN: Final = """
       state = 'waiting', due_at = least(d.due_at, %(now)s), settled_at = null, attempts_before = d.attempts,
       waiting_since = case when d.state = 'waiting' then d.waiting_since else %(now)s end
"""

_SEND_AGAIN: Final = f"""
with mine as materialized (
    select app, endpoint_id, event_id
      from notifier.delivery
     where app = %(app)s and endpoint_id = any(%(endpoints)s::text[]) and event_id = %(event_id)s::uuid
     order by endpoint_id for update)
update notifier.delivery d set {_AGAIN}
  from mine
 where d.app = mine.app and d.endpoint_id = mine.endpoint_id and d.event_id = mine.event_id
"""

_PLACES: Final = """
select event_id from journal.outward
 where app = %(app)s and event_id >= %(first)s::uuid and event_id < %(end)s::uuid
 order by event_id limit %(limit)s
"""

# Between two ids, so that only their partitions are looked into.
_SEND_ALL: Final = f"""
insert into notifier.delivery as d (app, endpoint_id, event_id, type, created_at, due_at)
select %(app)s, %(endpoint)s, id, type, %(now)s, %(now)s
  from journal.event
 where id between %(first)s::uuid and %(last)s::uuid and id = any(%(event_ids)s::uuid[])
   and type = any(%(types)s::text[])
 order by id
on conflict (app, endpoint_id, event_id) do update set {_AGAIN} where d.state <> 'delivered' or %(delivered)s
"""

_ENABLE: Final = """
update notifier.endpoint
   set disabled_at = null, disabled_url = null, reason = null, failing_since = null, failing_url = null, failures = 0
 where app = %(app)s and endpoint_id = %(endpoint)s and disabled_url = %(url)s
"""

_MAKE_DUE: Final = """
update notifier.delivery d set due_at = %(now)s
 where d.ctid = any (array(
           select ctid from notifier.delivery
            where app = %(app)s and endpoint_id = %(endpoint)s and state = 'waiting' and due_at > %(later)s
            order by due_at limit %(limit)s for update skip locked))
"""

# Whoever enables the endpoint waits for who has found it disabled.
_STAYS_DISABLED: Final = """
select true from notifier.endpoint
 where app = %(app)s and endpoint_id = %(endpoint)s and disabled_url = %(url)s for share
"""

# Of one state, in its index's order: others lock them in the same one.
_DROP: Final = """
with gone as materialized (
    select app, endpoint_id, event_id
      from notifier.delivery
     where app = %(app)s and endpoint_id = %(endpoint)s and state = %(state)s
     order by event_id limit %(limit)s for update),
attempts as (
    delete from notifier.attempt a using gone
     where a.app = gone.app and a.endpoint_id = gone.endpoint_id and a.event_id = gone.event_id)
delete from notifier.delivery d using gone
 where d.app = gone.app and d.endpoint_id = gone.endpoint_id and d.event_id = gone.event_id
"""


class DeskRecords:
    """As notifier.handlers.desk.DeskRecords."""

    def __init__(self, connection: Connection, app: AppId) -> None:
        self._connection = connection
        self._app = app

    def endpoints(self) -> list[EndpointRecord]:
        """All that anything is on record of."""
        return [EndpointRecord(*row) for row in self._run(_ENDPOINTS)]

    def deliveries(
        self,
        *,
        endpoint: EndpointId | None,
        state: DeliveryState | None,
        after: DeliveryPlace | None,
        limit: int,
    ) -> list[DeliveryView]:
        """Deliveries after that place, the newest event first."""
        event_id, after_endpoint = after or NEWEST
        page = _page(each=_EACH if endpoint is None else _ONE, of_state="" if state is None else _OF_STATE)
        rows = self._run(
            page,
            endpoint=endpoint,
            state=state,
            event_id=str(event_id),
            after_endpoint=after_endpoint,
            limit=limit,
        )
        return [DeliveryView(*row) for row in rows]

    def of_events(self, event_ids: Sequence[EventId]) -> list[DeliveryView]:
        """All deliveries of these events, by event and endpoint."""
        return [DeliveryView(*row) for row in self._run(_OF_EVENTS, event_ids=array_literal(event_ids))]

    def history(self, event_id: EventId) -> list[DeliveryHistory]:
        """All deliveries of an event, by endpoint, with their attempts."""
        deliveries = self.of_events([event_id])
        attempts: dict[str, list[AttemptView]] = {delivery.endpoint: [] for delivery in deliveries}
        for endpoint_id, *attempt in self._run(_ATTEMPTS, endpoints=array_literal(attempts), event_id=str(event_id)):
            attempts[endpoint_id].append(AttemptView(*attempt))
        return [DeliveryHistory(delivery, attempts[delivery.endpoint]) for delivery in deliveries]

    def outward_event(self, event_id: EventId) -> Recorded | None:
        """The event, if it is one of the app's outward ones."""
        found = journal.look_up(self._connection, [event_id])
        return next((event for event in found if event.app == self._app and event.type in OUTWARD), None)

    def send_again(self, event_id: EventId, *, endpoints: Sequence[EndpointId], now: datetime) -> int:
        """Makes the event's deliveries to these due, whatever became of them, with their schedule ahead; how many."""
        return int(self._run(_SEND_AGAIN, endpoints=array_literal(endpoints), event_id=str(event_id), now=now).rowcount)

    def send_span(
        self, span: Span, *, endpoint: EndpointId, types: Sequence[str], delivered: bool, limit: int, now: datetime
    ) -> Stretch:
        """Makes deliveries of the first `limit` outward events of the span due, of these types, known or not.

        Those that were delivered only if `delivered`.
        """
        places = self._run(_PLACES, first=str(span.first), end=str(span.end), limit=limit).scalars().all()
        if not places:
            return Stretch(queued=0, looked_at=0, last=None)
        queued = self._run(
            _SEND_ALL,
            endpoint=endpoint,
            first=str(places[0]),
            last=str(places[-1]),
            event_ids=array_literal(places),
            types=array_literal(types),
            delivered=delivered,
            now=now,
        ).rowcount
        return Stretch(queued=queued, looked_at=len(places), last=places[-1])

    def disable(self, endpoint: EndpointId, *, url: str, reason: str, now: datetime) -> bool:
        """Disables the endpoint, as long as it has this URL; False when it is already."""
        key = EndpointKey(self._app, endpoint)
        return Deliveries(self._connection).disable(key, url=url, reason=reason, now=now)

    def enable(self, endpoint: EndpointId, *, url: str) -> bool:
        """Enables the endpoint, as if it had never failed; False when it is not disabled."""
        return bool(self._run(_ENABLE, endpoint=endpoint, url=url).rowcount)

    def make_due(self, endpoint: EndpointId, *, now: datetime, limit: int) -> int:
        """Makes some of what waits longer than SOON for its next attempt due; how many."""
        return int(self._run(_MAKE_DUE, endpoint=endpoint, now=now, later=now + SOON, limit=limit).rowcount)

    def stays_disabled(self, endpoint: EndpointId, *, url: str) -> bool:
        """Whether the endpoint is disabled under this URL, and is kept so until the transaction ends."""
        return bool(self._run(_STAYS_DISABLED, endpoint=endpoint, url=url).scalar())

    def drop(self, endpoint: EndpointId, *, state: DeliveryState, limit: int) -> int:
        """Removes some deliveries in this state, oldest events first, with their attempts; how many."""
        return int(self._run(_DROP, endpoint=endpoint, state=state, limit=limit).rowcount)

    def _run(self, statement: str, **parameters: Any) -> Any:
        bound: Mapping[str, Any] = {"app": self._app, **parameters}
        return self._connection.exec_driver_sql(statement, dict(bound))
