"""What could not be handled: parked by a handler, or dead after its last attempt. Listed, retried, dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from shared.ids import EventId


@dataclass(frozen=True, slots=True)
class Stuck:
    """A delivery that nothing but an operator moves. `state` is `parked` or `dead`."""

    consumer: str
    event_id: EventId
    type: str
    subject: str
    state: str
    attempts: int
    error: str | None


def stuck(connection: Connection, *, consumer: str | None = None, limit: int = 100) -> list[Stuck]:
    """The oldest first."""
    rows = connection.exec_driver_sql(
        "select d.consumer, d.event_id, d.type, e.subject, d.state, d.attempts, d.error"
        "  from journal.delivery d join journal.event e on e.id = d.event_id"
        " where d.state in ('parked', 'dead') and d.consumer = coalesce(%(consumer)s, d.consumer)"
        " order by d.event_id limit %(limit)s",
        {"consumer": consumer, "limit": limit},
    )
    return [Stuck(*row) for row in rows]


def retry(connection: Connection, *, event_ids: Sequence[UUID], consumer: str | None = None) -> int:
    """Makes stuck deliveries of these events due now, with all their attempts ahead. How many."""
    return connection.exec_driver_sql(
        "update journal.delivery set state = 'waiting', due_at = clock_timestamp(), attempts = 0, handovers = 0"
        " where event_id = any(%(ids)s) and state in ('parked', 'dead')"
        "   and consumer = coalesce(%(consumer)s, consumer)",
        {"ids": list(event_ids), "consumer": consumer},
    ).rowcount


def drop(connection: Connection, *, event_ids: Sequence[UUID], consumer: str | None = None) -> int:
    """Gives stuck deliveries of these events up, for good. The events stay in the journal. How many."""
    return connection.exec_driver_sql(
        "delete from journal.delivery"
        " where event_id = any(%(ids)s) and state in ('parked', 'dead')"
        "   and consumer = coalesce(%(consumer)s, consumer)",
        {"ids": list(event_ids), "consumer": consumer},
    ).rowcount
