"""The journal: the only place where an event is recorded, and where its timeline is read.

Recording an event writes three things in the caller's transaction: the event, one delivery row per subscriber, and the
head of its subject's timeline.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from shared import tracing
from shared.bus.routes import SUBSCRIPTIONS
from shared.database import after_commit, array_literal
from shared.events import (
    WORD_RANK,
    Draft,
    Event,
    EventMalformed,
    EventUnknown,
    Payload,
    Recorded,
    UnreadEvent,
    decode,
    encode,
)
from shared.ids import AppId, EventId, IdSource, UserId
from shared.metrics.counted import count_recorded

REPEAT_AFTER_S: Final = 60
"""A rejected proof that is sent once more is looked at again, but not more often than this."""

_INSERT_EVENTS = """
insert into journal.event
       (id, type, version, app, subject, user_id, payload, trace_id, causation_id, occurred_at)
select id, type, version, app, subject, user_id, payload::jsonb, trace_id, causation_id, occurred_at
  from unnest(%(id)s::uuid[], %(type)s::text[], %(version)s::int[], %(app)s::text[], %(subject)s::text[],
              %(user_id)s::text[], %(payload)s::text[], %(trace_id)s::text[], %(causation_id)s::uuid[],
              %(occurred_at)s::timestamptz[])
       as new (id, type, version, app, subject, user_id, payload, trace_id, causation_id, occurred_at)
"""

_INSERT_DELIVERIES = """
insert into journal.delivery (consumer, event_id, type)
select consumer, event_id, type
  from unnest(%(d_consumer)s::text[], %(d_event_id)s::uuid[], %(d_type)s::text[]) as new (consumer, event_id, type)
"""

_NEW_HEADS = """
insert into journal.timeline as known
       (app, subject, user_id, first_event_id, last_event_id, word_event_id, word_type, word_rank, fingerprint)
select app, subject, user_id, first_event_id, last_event_id, word_event_id, word_type, word_rank, fingerprint
  from unnest(%(h_app)s::text[], %(h_subject)s::text[], %(h_user_id)s::text[], %(h_first)s::uuid[], %(h_last)s::uuid[],
              %(h_word)s::uuid[], %(h_type)s::text[], %(h_rank)s::int[], %(h_fingerprint)s::bytea[])
       as new (app, subject, user_id, first_event_id, last_event_id, word_event_id, word_type, word_rank, fingerprint)
"""

# Heads are written in the order of their subjects, so that two transactions never wait for each other in a circle.
_UPSERT_HEADS = (
    _NEW_HEADS
    + """
    on conflict (app, subject) do update set
       user_id        = coalesce(known.user_id, excluded.user_id),
       first_event_id = least(known.first_event_id, excluded.first_event_id),
       last_event_id  = greatest(known.last_event_id, excluded.last_event_id),
       word_event_id  = case when excluded.word_rank >= greatest(known.word_rank, 1)
                             then excluded.word_event_id else known.word_event_id end,
       word_type      = case when excluded.word_rank >= greatest(known.word_rank, 1)
                             then excluded.word_type else known.word_type end,
       word_rank      = greatest(known.word_rank, excluded.word_rank),
       fingerprint    = coalesce(excluded.fingerprint, known.fingerprint),
       updated_at     = clock_timestamp()
"""
)

_APPEND = f"with heads as ({_UPSERT_HEADS}), events as ({_INSERT_EVENTS}) {_INSERT_DELIVERIES}"

# A repeat leaves the head alone, so `heads` has no row of it, and neither its event nor its deliveries are written.
_APPEND_ONCE = f"""
with heads as ({_UPSERT_HEADS}
        where known.word_type = any(%(reopen)s::text[])
          and (known.fingerprint is distinct from excluded.fingerprint
               or known.word_type = any(%(repeat)s::text[])
                  and known.updated_at < clock_timestamp() - make_interval(secs => {REPEAT_AFTER_S}))
        returning app, subject),
     events as ({_INSERT_EVENTS} where (app, subject) in (select app, subject from heads) returning id),
     deliveries as ({_INSERT_DELIVERIES} where event_id in (select id from events))
select id from events
"""

EVENT_COLUMNS: Final = (
    "id, type, version, app, subject, user_id, payload::text, trace_id, causation_id, occurred_at, recorded_at"
)


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a timeline: the ids of its first and last event and of the word that counts."""

    app: AppId
    subject: str
    user_id: UserId | None
    first_event_id: EventId
    last_event_id: EventId
    word_event_id: EventId | None
    word_type: str | None


@dataclass(frozen=True, slots=True)
class Pending:
    """A delivery that has not been handled: to whom, how often handed over and tried, and what was wrong."""

    consumer: str
    event_id: EventId
    type: str
    state: str
    due_at: datetime | None  # None: only an operator makes it due
    handovers: int
    attempts: int
    error: str | None


def append(connection: Connection, drafts: Sequence[Draft], *, ids: IdSource) -> list[EventId]:
    """Records the drafts, in the caller's transaction. Their ids, in their order."""
    if not drafts:
        return []
    event_ids = [draft.id or ids.event_id() for draft in drafts]
    tell = tracing.recording(drafts, event_ids)
    connection.exec_driver_sql(_APPEND, _parameters(drafts, event_ids, fingerprints=[None] * len(drafts)))
    after_commit(connection, partial(tell, event_ids))
    after_commit(connection, lambda: count_recorded(draft.payload.TYPE for draft in drafts))
    return event_ids


def append_once(
    connection: Connection,
    draft: Draft,
    *,
    ids: IdSource,
    fingerprint: bytes | None = None,
    reopen: Iterable[str] = (),
    repeat: Iterable[str] = (),
) -> EventId | None:
    """Records the draft unless its subject is known already; None then. See `append_each_once`."""
    (event_id,) = append_each_once(
        connection, [draft], ids=ids, fingerprints=[fingerprint], reopen=reopen, repeat=repeat
    )
    return event_id


def append_each_once(
    connection: Connection,
    drafts: Sequence[Draft],
    *,
    ids: IdSource,
    fingerprints: Sequence[bytes | None],
    reopen: Iterable[str] = (),
    repeat: Iterable[str] = (),
) -> list[EventId | None]:
    """Records each draft unless its subject is known already; None for those. No two may have the same subject.

    A known subject is taken up again when the word that counts in it is one of `reopen` and the fingerprint is another
    one; or, with the same fingerprint, when that word is one of `repeat` and a minute old. Concurrent callers with the
    same subject wait for each other, and one of them records.
    """
    event_ids = [ids.event_id() for _ in drafts]
    parameters = _parameters(drafts, event_ids, fingerprints=fingerprints)
    parameters |= {"reopen": array_literal(reopen), "repeat": array_literal(repeat)}
    tell = tracing.recording(drafts, event_ids)
    recorded = set(connection.exec_driver_sql(_APPEND_ONCE, parameters).scalars())
    after_commit(connection, partial(tell, recorded))
    types = [draft.payload.TYPE for draft, event_id in zip(drafts, event_ids, strict=True) if event_id in recorded]
    after_commit(connection, lambda: count_recorded(types))
    return [event_id if event_id in recorded else None for event_id in event_ids]


def forget_fingerprints(connection: Connection, timelines: Collection[tuple[AppId, str]]) -> None:
    """The next proof of each of these subjects, by app, is another one, whatever it is (see `append_each_once`)."""
    connection.exec_driver_sql(
        "update journal.timeline set fingerprint = null"
        " where (app, subject) in (select * from unnest(%(apps)s::text[], %(subjects)s::text[]))",
        {
            "apps": array_literal(app for app, _ in timelines),
            "subjects": array_literal(subject for _, subject in timelines),
        },
    )


def head(connection: Connection, *, app: AppId, subject: str) -> Head | None:
    """The head of one timeline."""
    rows = heads(connection, app=app, subjects=[subject])
    return rows[0] if rows else None


def heads(connection: Connection, *, app: AppId, subjects: Sequence[str]) -> list[Head]:
    """The heads of several timelines of one app; those that exist."""
    rows = connection.exec_driver_sql(
        "select app, subject, user_id, first_event_id, last_event_id, word_event_id, word_type"
        "  from journal.timeline where app = %(app)s and subject = any(%(subjects)s)",
        {"app": app, "subjects": list(subjects)},
    )
    return [Head(*row) for row in rows]


def heads_of_user(
    connection: Connection, *, app: AppId, user_id: UserId, limit: int, before: UUID | None
) -> list[Head]:
    """The timelines of a user's purchases, newest first; `before` is the first event id of the page before's last."""
    rows = connection.exec_driver_sql(
        "select app, subject, user_id, first_event_id, last_event_id, word_event_id, word_type"
        "  from journal.timeline"
        " where app = %(app)s and user_id = %(user_id)s and subject like 'pur\\_%%'"
        "   and first_event_id < coalesce(%(before)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')"
        " order by first_event_id desc limit %(limit)s",
        {"app": app, "user_id": user_id, "before": str(before) if before else None, "limit": limit},
    )
    return [Head(*row) for row in rows]


def timeline(connection: Connection, heads: Sequence[Head]) -> list[Recorded]:
    """Every event of these timelines, oldest first. Reads only the partitions that their ids fall into."""
    if not heads:
        return []
    rows = connection.exec_driver_sql(
        f"select {EVENT_COLUMNS} from journal.event"
        " where app = %(app)s and subject = any(%(subjects)s) and id between %(first)s and %(last)s order by id",
        {
            "app": heads[0].app,
            "subjects": [known.subject for known in heads],
            "first": min(known.first_event_id for known in heads),
            "last": max(known.last_event_id for known in heads),
        },
    )
    return [event_to_show(row) for row in rows]


def load(connection: Connection, event_ids: Sequence[EventId]) -> list[Event[Payload]]:
    """The events with these ids, oldest first; those that exist."""
    return [event_from(row) for row in _rows_of(connection, event_ids)]


def look_up(connection: Connection, event_ids: Sequence[EventId]) -> list[Recorded]:
    """The same, whether this release can read them or not."""
    return [event_to_show(row) for row in _rows_of(connection, event_ids)]


def _rows_of(connection: Connection, event_ids: Sequence[EventId]) -> Iterable[Any]:
    return connection.exec_driver_sql(
        f"select {EVENT_COLUMNS} from journal.event where id = any(%(ids)s::uuid[]) order by id",
        {"ids": array_literal(event_ids)},
    )


def pending(connection: Connection, event_ids: Sequence[EventId]) -> list[Pending]:
    """What is still to be delivered of these events, to whom."""
    rows = connection.exec_driver_sql(
        "select consumer, event_id, type, state, nullif(due_at, 'infinity'), handovers, attempts, error"
        "  from journal.delivery where event_id = any(%(ids)s::uuid[]) and consumer = any(%(consumers)s)"
        " order by event_id, consumer",
        {
            "ids": [str(event_id) for event_id in event_ids],
            "consumers": sorted({name for names in SUBSCRIPTIONS.values() for name in names}),
        },
    )
    return [Pending(*row) for row in rows]


def event_from(row: Any) -> Event[Payload]:
    """An event from a row of EVENT_COLUMNS. Raises EventUnknown or EventMalformed."""
    event_id, event_type, version, app, subject, user_id, payload, trace_id, causation_id, occurred, recorded = row
    return Event(
        id=event_id,
        app=app,
        subject=subject,
        user_id=user_id,
        payload=decode(event_type, version, payload),
        trace_id=trace_id,
        causation_id=causation_id,
        occurred_at=occurred,
        recorded_at=recorded,
    )


def event_to_show(row: Any) -> Recorded:
    """An event from a row of EVENT_COLUMNS, whatever it is: for those who look, not for those who act on it."""
    try:
        return event_from(row)
    except (EventUnknown, EventMalformed):
        return UnreadEvent(*row[:6], *row[7:])  # all columns but the payload


def _parameters(
    drafts: Sequence[Draft], event_ids: Sequence[EventId], *, fingerprints: Sequence[bytes | None]
) -> dict[str, str]:
    payloads = [draft.payload for draft in drafts]
    deliveries = [
        (consumer, event_id, payload.TYPE)
        for payload, event_id in zip(payloads, event_ids, strict=True)
        for consumer in SUBSCRIPTIONS.get(payload.TYPE, ())
    ]
    columns: dict[str, Iterable[Any]] = {
        "id": event_ids,
        "type": (payload.TYPE for payload in payloads),
        "version": (payload.VERSION for payload in payloads),
        "app": (draft.app for draft in drafts),
        "subject": (draft.subject for draft in drafts),
        "user_id": (draft.user_id for draft in drafts),
        "payload": (encode(payload).decode() for payload in payloads),
        "trace_id": (draft.trace_id for draft in drafts),
        "causation_id": (draft.causation_id for draft in drafts),
        "occurred_at": (draft.occurred_at for draft in drafts),
        "d_consumer": (consumer for consumer, _, _ in deliveries),
        "d_event_id": (event_id for _, event_id, _ in deliveries),
        "d_type": (event_type for _, _, event_type in deliveries),
        **_heads(drafts, event_ids, fingerprints),
    }
    return {name: array_literal(values) for name, values in columns.items()}


_Member = tuple[Draft, EventId, bytes | None]


def _heads(
    drafts: Sequence[Draft], event_ids: Sequence[EventId], fingerprints: Sequence[bytes | None]
) -> dict[str, Iterable[Any]]:
    grouped: dict[tuple[str, str], list[_Member]] = {}
    for member in zip(drafts, event_ids, fingerprints, strict=True):
        grouped.setdefault((member[0].app, member[0].subject), []).append(member)
    rows = [_head_row(key, members) for key, members in sorted(grouped.items(), key=lambda item: item[0])]
    names = ("app", "subject", "user_id", "first", "last", "word", "type", "rank", "fingerprint")
    return {f"h_{name}": [row[position] for row in rows] for position, name in enumerate(names)}


def _head_row(key: tuple[str, str], members: Sequence[_Member]) -> tuple[Any, ...]:
    # `max` keeps the first of equals, so the members are looked at from the newest back.
    word, word_id, fingerprint = max(reversed(members), key=lambda member: _rank(member[0]))
    rank = _rank(word)
    return (
        *key,
        next((draft.user_id for draft, _, _ in members if draft.user_id), None),
        min(event_id for _, event_id, _ in members),
        max(event_id for _, event_id, _ in members),
        word_id if rank else None,
        word.payload.TYPE if rank else None,
        rank,
        None if fingerprint is None else f"\\x{fingerprint.hex()}",
    )


def _rank(draft: Draft) -> int:
    return WORD_RANK.get(draft.payload.TYPE, 0)
