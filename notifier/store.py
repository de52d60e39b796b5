"""What the notifier keeps in PostgreSQL: deliveries, their attempts, endpoints that are switched off."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine

from notifier.domain import Answer, AttemptNumber, Delivery, DeliveryKey, SwitchedOff, Verdict
from shared.apps import EndpointId
from shared.bus import journal
from shared.database import array_literal, transact
from shared.ids import AppId

_ADD: Final = """
insert into notifier.delivery (app, endpoint_id, event_id, type, created_at, next_attempt_at)
select app, endpoint_id, event_id, type, %(now)s, %(now)s
  from unnest(%(app)s::text[], %(endpoint_id)s::text[], %(event_id)s::uuid[], %(type)s::text[])
       as new (app, endpoint_id, event_id, type)
 order by app, endpoint_id, event_id
on conflict do nothing
returning app, endpoint_id, event_id
"""

_KEY: Final = "app = %(app)s and endpoint_id = %(endpoint_id)s and event_id = %(event_id)s::uuid"

_FIND: Final = f"""
select state, disabled_url, reason
  from notifier.delivery left join notifier.endpoint using (app, endpoint_id)
 where {_KEY}
"""

# The claim of the delivery's event is held meanwhile, so nobody else counts this delivery's attempts.
_ATTEMPTS: Final = f"select attempts from notifier.delivery where {_KEY}"

_SETTLE: Final = f"""
with attempt as (
    insert into notifier.attempt
           (app, endpoint_id, event_id, number, at, status, duration_ms, answer, error, retry_after_s)
    values (%(app)s, %(endpoint_id)s, %(event_id)s, %(number)s, %(at)s, %(status)s, %(duration_ms)s, %(answer)s,
            %(error)s, %(retry_after_s)s))
update notifier.delivery
   set state = %(state)s, attempts = %(number)s, next_attempt_at = %(next_attempt_at)s, last_status = %(status)s,
       last_error = %(reason)s, delivered_at = case when %(state)s = 'delivered' then %(now)s end
 where {_KEY}
"""

_HOLD: Final = f"""
update notifier.delivery set state = 'parked', next_attempt_at = null, last_error = %(reason)s where {_KEY}
"""

_SWITCH_OFF: Final = """
insert into notifier.endpoint (app, endpoint_id, disabled_at, disabled_url, reason)
values (%(app)s, %(endpoint_id)s, %(now)s, %(url)s, %(reason)s)
on conflict (app, endpoint_id) do update
   set disabled_at = excluded.disabled_at, disabled_url = excluded.disabled_url, reason = excluded.reason
"""

_SWITCH_ON: Final = """
update notifier.endpoint set disabled_at = null, disabled_url = null, reason = null
 where app = %(app)s and endpoint_id = %(endpoint_id)s
"""


class Deliveries:
    """The deliveries on record, in the transaction of this connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, wanted: Mapping[DeliveryKey, str], *, now: datetime) -> set[DeliveryKey]:
        """Puts waiting deliveries of events of these types on record; the new ones."""
        if not wanted:
            return set()
        parameters = {
            "app": array_literal(key.app for key in wanted),
            "endpoint_id": array_literal(key.endpoint_id for key in wanted),
            "event_id": array_literal(key.event_id for key in wanted),
            "type": array_literal(wanted.values()),
            "now": now,
        }
        return {DeliveryKey(*row) for row in self._connection.exec_driver_sql(_ADD, parameters)}

    def attempts(self, key: DeliveryKey) -> int:
        """How many attempts are on record."""
        return int(self._connection.exec_driver_sql(_ATTEMPTS, _named(key)).scalar_one())

    def settle(
        self,
        key: DeliveryKey,
        *,
        number: AttemptNumber,
        answer: Answer,
        verdict: Verdict,
        next_attempt_at: datetime | None,
        now: datetime,
    ) -> None:
        """Puts the attempt, and the delivery's new state, on record."""
        parameters = _named(key) | {
            "number": number,
            "at": answer.at,
            "status": answer.status,
            "duration_ms": answer.duration_ms,
            "answer": answer.beginning,
            "error": answer.error,
            "retry_after_s": answer.retry_after_s,
            "state": verdict.state,
            "reason": verdict.reason,
            "next_attempt_at": next_attempt_at,
            "now": now,
        }
        self._connection.exec_driver_sql(_SETTLE, parameters)

    def hold(self, key: DeliveryKey, *, reason: str) -> None:
        """Parks the delivery with no attempt made."""
        self._connection.exec_driver_sql(_HOLD, _named(key) | {"reason": reason})

    def switch_off(self, *, app: AppId, endpoint_id: EndpointId, url: str, reason: str, now: datetime) -> None:
        """Switches the endpoint off, as long as it has this URL."""
        parameters = {"app": app, "endpoint_id": endpoint_id, "url": url, "reason": reason, "now": now}
        self._connection.exec_driver_sql(_SWITCH_OFF, parameters)

    def switch_on(self, *, app: AppId, endpoint_id: EndpointId) -> None:
        """Switches the endpoint on again."""
        self._connection.exec_driver_sql(_SWITCH_ON, {"app": app, "endpoint_id": endpoint_id})


class Records:
    """What is on record, read in a transaction of its own: none is open while an endpoint is waited for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, key: DeliveryKey) -> Delivery | None:
        """The delivery with its event. Raises DatabaseUnavailable, EventUnknown, EventMalformed."""
        return transact(self._engine, lambda connection: _find(connection, key))


def _find(connection: Connection, key: DeliveryKey) -> Delivery | None:
    row = connection.exec_driver_sql(_FIND, _named(key)).one_or_none()
    events = journal.load(connection, [key.event_id])
    if row is None or not events:
        return None
    state, disabled_url, reason = row
    switched_off = None if disabled_url is None else SwitchedOff(url=disabled_url, reason=reason)
    return Delivery(state=state, event=events[0], switched_off=switched_off)


def _named(key: DeliveryKey) -> dict[str, Any]:
    return {"app": key.app, "endpoint_id": key.endpoint_id, "event_id": str(key.event_id)}
