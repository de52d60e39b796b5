"""What the endpoints have not taken, and since when: told at the scrape."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from notifier.domain.endpoints import EndpointKey
from shared.database import array_literal, limit_statements
from shared.metrics.read import Family, family

COUNTED_MAX: Final = 100_000
"""So many deliveries to one endpoint in one state are counted, and no more: a backlog must not slow the scrape down."""
STATEMENT_TIMEOUT_S: Final = 2

_STATES: Final = ("waiting", "exhausted", "parked")
"""What was delivered is no trouble, and would be the most to count."""


def _count(state: str) -> str:
    return f"""(select count(*) from (select from notifier.delivery d
                              where d.app = wanted.app and d.endpoint_id = wanted.endpoint_id and d.state = '{state}'
                              limit {COUNTED_MAX}) counted)"""


_DELIVERIES = f"""
select app, endpoint_id, {", ".join(map(_count, _STATES))},
       (select coalesce(waiting_since, created_at) from notifier.delivery d
         where d.app = wanted.app and d.endpoint_id = wanted.endpoint_id and d.state = 'waiting'
         order by coalesce(waiting_since, created_at) limit 1)
  from unnest(%(apps)s::text[], %(endpoints)s::text[]) as wanted (app, endpoint_id)
"""


def deliveries_watched(connection: Connection, endpoints: Collection[EndpointKey], *, now: datetime) -> list[Family]:
    """How many deliveries these endpoints have not taken, and for how long the one that has waited longest has.

    Raises DBAPIError when it takes too long.
    """
    limit_statements(connection, within_s=STATEMENT_TIMEOUT_S)
    parameters = {
        "apps": array_literal(key.app for key in endpoints),
        "endpoints": array_literal(key.id for key in endpoints),
    }
    counts: dict[tuple[str, ...], float] = {}
    ages: dict[tuple[str, ...], float] = {}
    for app, endpoint_id, *numbers, since in connection.exec_driver_sql(_DELIVERIES, parameters):
        counts |= {(app, endpoint_id, state): number for state, number in zip(_STATES, numbers, strict=True)}
        ages[app, endpoint_id] = 0.0 if since is None else max(0.0, (now - since).total_seconds())
    return [family("purser_webhook_deliveries", counts), family("purser_webhook_oldest_waiting_seconds", ages)]
