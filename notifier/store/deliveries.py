"""Deliveries, their attempts, and how the endpoints do: set-based, in the transaction of the caller's connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from notifier.domain.deliveries import AttemptNumber, Delivery, DeliveryKey, Settlement
from notifier.domain.endpoints import EndpointKey, Failing
from shared.apps import WebhookEndpoint
from shared.bus import journal
from shared.database import array_literal

_ADD: Final = """
insert into notifier.delivery (app, endpoint_id, event_id, type, created_at, due_at)
select app, endpoint_id, event_id, type, %(now)s, %(now)s
  from unnest(%(app)s::text[], %(endpoint_id)s::text[], %(event_id)s::uuid[], %(type)s::text[])
       as new (app, endpoint_id, event_id, type)
 order by app, endpoint_id, event_id
on conflict do nothing
"""

# `d.ctid = any (array(...))`: joined in any other way the planner may hash the whole table (as in shared.bus.courier).
_TAKE: Final = """
with room as (
    select app, endpoint_id, deliveries
      from unnest(%(app)s::text[], %(endpoint_id)s::text[], %(url)s::text[], %(room)s::int[])
           as wanted (app, endpoint_id, url, deliveries)
     where not exists (
               select from notifier.endpoint known
                where known.app = wanted.app and known.endpoint_id = wanted.endpoint_id
                  and known.disabled_url = wanted.url))
update notifier.delivery d
   set due_at = %(lost_at)s
 where d.ctid = any (array(
           select due.ctid
             from room, lateral (
                  select ctid from notifier.delivery q
                   where q.app = room.app and q.endpoint_id = room.endpoint_id
                     and q.state = 'waiting' and q.due_at <= %(now)s
                   order by q.due_at limit room.deliveries for update skip locked) due))
returning d.app, d.endpoint_id, d.event_id, d.attempts - d.attempts_before
"""

_GIVE_BACK: Final = """
update notifier.delivery d set due_at = %(now)s
  from unnest(%(app)s::text[], %(endpoint_id)s::text[], %(event_id)s::uuid[], %(lost_at)s::timestamptz[])
       as back (app, endpoint_id, event_id, lost_at)
 where d.app = back.app and d.endpoint_id = back.endpoint_id and d.event_id = back.event_id
   and d.state = 'waiting' and d.due_at = back.lost_at
"""

# Nobody can tell it any more, and to look for it again and again would keep all others waiting.
_PARK: Final = """
update notifier.delivery d
   set state = 'parked', due_at = null, settled_at = %(now)s, last_error = 'its event is not in the journal any more'
  from unnest(%(app)s::text[], %(endpoint_id)s::text[], %(event_id)s::uuid[]) as gone (app, endpoint_id, event_id)
 where d.app = gone.app and d.endpoint_id = gone.endpoint_id and d.event_id = gone.event_id
"""

_SETTLE: Final = """
with said as (
    select *
      from unnest(%(app)s::text[], %(endpoint_id)s::text[], %(event_id)s::uuid[], %(lost_at)s::timestamptz[],
                  %(at)s::timestamptz[], %(status)s::int[], %(duration_ms)s::int[], %(answer)s::text[],
                  %(error)s::text[], %(retry_after_s)s::float8[], %(state)s::text[], %(reason)s::text[],
                  %(due_at)s::timestamptz[])
           as said (app, endpoint_id, event_id, lost_at, at, status, duration_ms, answer, error, retry_after_s, state,
                    reason, due_at)),
-- In one order: another process that has taken one of them too is waited for, not in a circle. By their keys alone:
-- with a condition on the state the planner may walk through all that waits, for each of them.
mine as materialized (
    select app, endpoint_id, event_id, d.state as found, d.due_at as found_due_at
      from notifier.delivery d join said using (app, endpoint_id, event_id)
     order by app, endpoint_id, event_id for update of d),
settled as (
    update notifier.delivery d
       set state = said.state, attempts = d.attempts + (said.at is not null)::int, due_at = said.due_at,
           settled_at = case when said.state <> 'waiting' then %(now)s::timestamptz end,
           last_status = said.status, last_error = said.reason
      from said join mine using (app, endpoint_id, event_id)
     where d.app = said.app and d.endpoint_id = said.endpoint_id and d.event_id = said.event_id
       and found = 'waiting' and found_due_at is not distinct from said.lost_at
    returning d.app, d.endpoint_id, d.event_id, d.attempts),
kept as (
    insert into notifier.attempt
           (app, endpoint_id, event_id, number, at, status, duration_ms, answer, error, retry_after_s)
    select app, endpoint_id, event_id, settled.attempts, at, status, duration_ms, answer, error, retry_after_s
      from settled join said using (app, endpoint_id, event_id)
     where at is not null)
select app, endpoint_id, event_id, attempts from settled
"""

# By their keys, not where they stand: one that fails at the same moment, in another process, stands elsewhere then.
_TAKEN_BY: Final = """
with failing as materialized (
    select app, endpoint_id from notifier.endpoint
     where (app, endpoint_id) in (select * from unnest(%(app)s::text[], %(endpoint_id)s::text[])) and failures > 0
     order by app, endpoint_id for update)
update notifier.endpoint known set failing_since = null, failing_url = null, failures = 0
  from failing where known.app = failing.app and known.endpoint_id = failing.endpoint_id
"""

_FAILED: Final = """
insert into notifier.endpoint as known (app, endpoint_id, failing_since, failing_url, failures)
select app, endpoint_id, %(now)s, url, failures
  from unnest(%(app)s::text[], %(endpoint_id)s::text[], %(url)s::text[], %(failures)s::int[])
       as new (app, endpoint_id, url, failures)
 order by app, endpoint_id
on conflict (app, endpoint_id) do update
   set failing_since = case known.failing_url when excluded.failing_url
                       then known.failing_since else excluded.failing_since end,
       failures = least(2147483647, excluded.failures
                        + case known.failing_url when excluded.failing_url then known.failures else 0 end::bigint),
       failing_url = excluded.failing_url
returning app, endpoint_id, failing_since, failures
"""

# Its failures are told in the reason; with another URL it begins anew, or the first one there would disable it again.
_DISABLE: Final = """
insert into notifier.endpoint as known (app, endpoint_id, disabled_at, disabled_url, reason)
values (%(app)s, %(endpoint_id)s, %(now)s, %(url)s, %(reason)s)
on conflict (app, endpoint_id) do update
   set disabled_at = excluded.disabled_at, disabled_url = excluded.disabled_url, reason = excluded.reason,
       failing_since = null, failing_url = null, failures = 0
 where known.disabled_url is distinct from excluded.disabled_url
returning true
"""

_FORGET: Final = """
with gone as (
    select app, endpoint_id, event_id
      from notifier.delivery
     where app = %(app)s and endpoint_id = %(endpoint_id)s and settled_at < %(before)s
     order by settled_at limit %(limit)s for update skip locked),
attempts as (
    delete from notifier.attempt a using gone
     where a.app = gone.app and a.endpoint_id = gone.endpoint_id and a.event_id = gone.event_id)
delete from notifier.delivery d using gone
 where d.app = gone.app and d.endpoint_id = gone.endpoint_id and d.event_id = gone.event_id
"""

# One look into the index for each endpoint that ever had a delivery, not one for each delivery.
_ENDPOINTS: Final = """
with recursive each as (
    (select app, endpoint_id from notifier.delivery order by app, endpoint_id limit 1)
    union all
    select next.app, next.endpoint_id
      from each, lateral (
           select app, endpoint_id from notifier.delivery d
            where (d.app, d.endpoint_id) > (each.app, each.endpoint_id)
            order by app, endpoint_id limit 1) next)
select app, endpoint_id from each
"""


class Deliveries:
    """The deliveries on record, in the transaction of this connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, wanted: Mapping[DeliveryKey, str], *, now: datetime) -> None:
        """Puts waiting deliveries of events of these types on record; a known one stays as it is."""
        if wanted:
            self._run(_ADD, _keys(wanted) | {"type": array_literal(wanted.values()), "now": now})

    def take(
        self, room: Mapping[EndpointKey, tuple[WebhookEndpoint, int]], *, now: datetime, lost_at: datetime
    ) -> list[Delivery]:
        """Takes what is due for endpoints that are not disabled, so many for each at most, those due longest first.

        What is taken is nobody else's until `lost_at`; then it is taken for lost, and due again. What the journal has
        no event of any more (its partition was taken away) is parked.
        """
        parameters = _endpoints(room) | {
            "url": array_literal(endpoint.url for endpoint, _ in room.values()),
            "room": array_literal(size for _, size in room.values()),
            "now": now,
            "lost_at": lost_at,
        }
        attempts = {DeliveryKey(*key): attempts for *key, attempts in self._run(_TAKE, parameters)}
        events = {event.id: event for event in journal.look_up(self._connection, [key.event_id for key in attempts])}
        if gone := [key for key in attempts if key.event_id not in events]:
            self._run(_PARK, _keys(gone) | {"now": now})
        return [
            Delivery(key, events[key.event_id], number, lost_at)
            for key, number in attempts.items()
            if key.event_id in events
        ]

    def give_back(self, deliveries: Sequence[Delivery], *, now: datetime) -> None:
        """These were taken and will not be tried: they are due again, unless they were taken again since, or resent."""
        if deliveries:
            lost_at = array_literal(delivery.lost_at for delivery in deliveries)
            self._run(_GIVE_BACK, _keys([each.key for each in deliveries]) | {"lost_at": lost_at, "now": now})

    def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> dict[DeliveryKey, AttemptNumber]:
        """Puts attempts, and the new states of their deliveries, on record; how many attempts each has now.

        Only of those that were not taken again since, nor resent, nor settled: a commit that was cut off is repeated.
        """
        answers = [each.answer for each in settlements]
        columns: dict[str, Iterable[Any]] = {
            "lost_at": (each.lost_at for each in settlements),
            "at": (answer and answer.at for answer in answers),
            "status": (answer and answer.status for answer in answers),
            "duration_ms": (answer and answer.duration_ms for answer in answers),
            "answer": (answer and answer.beginning for answer in answers),
            "error": (answer and answer.error for answer in answers),
            "retry_after_s": (answer and answer.retry_after_s for answer in answers),
            "state": (each.verdict.state for each in settlements),
            "reason": (each.verdict.reason for each in settlements),
            "due_at": (each.due_at for each in settlements),
        }
        parameters = _keys([each.key for each in settlements]) | {
            name: array_literal(values) for name, values in columns.items()
        }
        rows = self._run(_SETTLE, parameters | {"now": now})
        return {DeliveryKey(*key): AttemptNumber(attempts) for *key, attempts in rows}

    def taken_by(self, endpoints: AbstractSet[EndpointKey]) -> None:
        """These endpoints have taken a message: they are not failing."""
        if endpoints:
            self._run(_TAKEN_BY, _endpoints(endpoints))

    def failed(self, failures: Mapping[EndpointKey, tuple[str, int]], *, now: datetime) -> list[Failing]:
        """These endpoints have failed so often more, at these URLs; how they stand there."""
        if not failures:
            return []
        parameters = _endpoints(failures) | {
            "url": array_literal(url for url, _ in failures.values()),
            "failures": array_literal(count for _, count in failures.values()),
            "now": now,
        }
        return [
            Failing(EndpointKey(app, endpoint_id), since, count)
            for app, endpoint_id, since, count in self._run(_FAILED, parameters)
        ]

    def disable(self, endpoint: EndpointKey, *, url: str, reason: str, now: datetime) -> bool:
        """Disables the endpoint, as long as it has this URL; False when it is already."""
        parameters = {"app": endpoint.app, "endpoint_id": endpoint.id, "url": url, "reason": reason, "now": now}
        return bool(self._connection.exec_driver_sql(_DISABLE, parameters).scalar())

    def endpoints(self) -> list[EndpointKey]:
        """All endpoints that have deliveries on record, configured or not."""
        return [EndpointKey(app, endpoint_id) for app, endpoint_id in self._connection.exec_driver_sql(_ENDPOINTS)]

    def forget(self, endpoint: EndpointKey, *, before: datetime, limit: int) -> int:
        """Removes some of the endpoint's deliveries that came to their end before then; how many."""
        parameters = {"app": endpoint.app, "endpoint_id": endpoint.id, "before": before, "limit": limit}
        return self._connection.exec_driver_sql(_FORGET, parameters).rowcount

    def _run(self, statement: str, parameters: Mapping[str, Any]) -> Any:
        return self._connection.exec_driver_sql(statement, dict(parameters))


def _keys(keys: Iterable[DeliveryKey]) -> dict[str, str]:
    listed = list(keys)
    return {
        "app": array_literal(key.app for key in listed),
        "endpoint_id": array_literal(key.endpoint_id for key in listed),
        "event_id": array_literal(key.event_id for key in listed),
    }


def _endpoints(keys: Iterable[EndpointKey]) -> dict[str, str]:
    listed = list(keys)
    return {
        "app": array_literal(key.app for key in listed),
        "endpoint_id": array_literal(key.id for key in listed),
    }
