"""What could not be handled: parked by a handler, or dead after its last attempt. Listed; retried or dropped by
an operator, which the timeline of what it was about tells for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from shared.bus import journal
from shared.events import DeliveryDropped, DeliveryRetried, Draft, Payload
from shared.ids import AppId, EventId, IdSource, UserId


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


@dataclass(frozen=True, slots=True)
class Pile:
    """How much is stuck of one consumer, and the newest event of it."""

    consumer: str
    count: int
    newest: EventId


def piles(connection: Connection, *, consumer: str | None = None) -> list[Pile]:
    """What is stuck, of each consumer or of this one."""
    # As text in the C collation ids have the same order; of uuids PostgreSQL knows no max before version 18.
    rows = connection.exec_driver_sql(
        'select consumer, count(*), max(event_id::text collate "C")::uuid from journal.delivery'
        " where state in ('parked', 'dead') and consumer = coalesce(%(consumer)s, consumer)"
        " group by consumer order by consumer",
        {"consumer": consumer},
    )
    return [Pile(*row) for row in rows]


def stuck_in(connection: Connection, pile: Pile, *, after: EventId | None, limit: int) -> list[EventId]:
    """The next events of what was stuck when the pile was looked at, and is; the oldest first. Who goes on after the
    last comes to the end, however much gets stuck meanwhile, or once more."""
    rows = connection.exec_driver_sql(
        "select event_id from journal.delivery where state in ('parked', 'dead') and consumer = %(consumer)s"
        "   and event_id > coalesce(%(after)s::uuid, '00000000-0000-0000-0000-000000000000')"
        "   and event_id <= %(newest)s::uuid order by event_id limit %(limit)s",
        {
            "consumer": pile.consumer,
            "after": None if after is None else str(after),
            "newest": str(pile.newest),
            "limit": limit,
        },
    )
    return list(rows.scalars())


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


def retry(
    connection: Connection,
    *,
    event_ids: Sequence[UUID],
    consumer: str | None = None,
    actor: str,
    ids: IdSource,
    now: datetime,
) -> int:
    """Makes stuck deliveries of these events due now, with all their attempts ahead, and writes down who did. How
    many."""
    moved = _move(
        connection,
        "update journal.delivery set state = 'waiting', due_at = clock_timestamp(), attempts = 0, handovers = 0",
        event_ids=event_ids,
        consumer=consumer,
    )
    journal.append(connection, [one.draft(DeliveryRetried(one.consumer, actor), now) for one in moved], ids=ids)
    return len(moved)


def drop(
    connection: Connection,
    *,
    event_ids: Sequence[UUID],
    consumer: str | None = None,
    actor: str,
    ids: IdSource,
    now: datetime,
) -> int:
    """Gives stuck deliveries of these events up, for good, and writes down who did. The events stay in the journal.
    How many.

    A proof that was given up may be sent once more: nobody looks at it any more, so it is no repeat.
    """
    moved = _move(connection, "delete from journal.delivery", event_ids=event_ids, consumer=consumer)
    journal.append(connection, [one.draft(DeliveryDropped(one.consumer, actor), now) for one in moved], ids=ids)
    journal.forget_fingerprints(connection, [(one.app, one.subject) for one in moved])
    return len(moved)


@dataclass(frozen=True, slots=True)
class _Moved:
    """A delivery that was stuck, and its event."""

    consumer: str
    event_id: EventId
    app: AppId
    subject: str
    user_id: UserId | None
    trace_id: str

    def draft(self, payload: Payload, now: datetime) -> Draft:
        return Draft(
            payload=payload,
            app=self.app,
            subject=self.subject,
            user_id=self.user_id,
            occurred_at=now,
            trace_id=self.trace_id,
            causation_id=self.event_id,
        )


def _move(connection: Connection, change: str, *, event_ids: Sequence[UUID], consumer: str | None) -> list[_Moved]:
    rows = connection.exec_driver_sql(
        f"with moved as ({change}"
        " where event_id = any(%(ids)s) and state in ('parked', 'dead') and consumer = coalesce(%(consumer)s, consumer)"
        " returning consumer, event_id)"
        " select moved.consumer, e.id, e.app, e.subject, e.user_id, e.trace_id"
        "  from moved join journal.event e on e.id = moved.event_id order by e.id, moved.consumer",
        {"ids": list(event_ids), "consumer": consumer},
    )
    return [_Moved(*row) for row in rows]
