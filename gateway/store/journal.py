"""The journal's adapter: what the use-cases record and read. Recording is one statement, and so one transaction;
concurrent requests share it (`recorder`).

Proofs (receipts, signed transactions) are large and nobody's to see again: reading leaves them in the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine

from gateway.domain.purchases import OPEN_WORDS, Delivery, Standing
from gateway.domain.timelines import Entry, entries, missing_causes
from gateway.store.recorder import GroupRecorder, Recording
from shared.bus import journal
from shared.bus.journal import Head, Pending
from shared.bus.wake import Waker
from shared.database import transact
from shared.events import AccountTokenIssued, Draft, Recorded
from shared.ids import AppId, EventId, IdSource, PurchaseId, UserId, account_subject

CAUSES_DEPTH_MAX: Final = 5
"""A notification leads to a refund, that to a posting: no chain of causes is longer than this."""

# The columns of journal.EVENT_COLUMNS; a proof is replaced by an empty text, so that the payload is still whole.
_EVENTS_WITHOUT_PROOFS: Final = """
select id, type, version, app, subject, user_id,
       (payload || case type when 'receipt.submitted' then '{"receipt": ""}'
                             when 'transaction.submitted' then '{"signed_transaction": ""}'
                             when 'subscription.reported' then '{"signed_transaction": "", "signed_renewal_info": null}'
                             when 'notification.received' then '{"signed_payload": ""}'
                             else '{}' end::jsonb)::text,
       trace_id, causation_id, occurred_at, recorded_at
  from journal.event
 where id = any(%(ids)s::uuid[])
 order by id
"""

_IDS_OF_SUBJECT: Final = """
select id from journal.event
 where app = %(app)s and subject = %(subject)s and id between %(first)s and %(last)s
"""

T = TypeVar("T")


class PostgresJournal:
    """The journal, as handlers.Journal wants it. Thread-safe.

    Its engine commits every statement: recording is one, and reading needs no more than each one's own snapshot.
    """

    def __init__(self, *, engine: Engine, waker: Waker, ids: IdSource) -> None:
        self._engine = engine
        self._waker = waker
        self._recorder = GroupRecorder(engine=engine, ids=ids)

    def record_once(
        self,
        draft: Draft,
        *,
        fingerprint: bytes | None = None,
        reopen: Sequence[str] = (),
        repeat: Sequence[str] = (),
    ) -> bool:
        recorded = self._recorder.record(Recording(draft, fingerprint, tuple(reopen), tuple(repeat)))
        if recorded:
            self._waker.poke()
        return recorded

    def standing(self, *, app: AppId, purchase_id: PurchaseId) -> Standing | None:
        def read(connection: Connection) -> Sequence[Standing]:
            return standings(connection, journal.heads(connection, app=app, subjects=[purchase_id]))

        return next(iter(self._reading(read)), None)

    def standings_of_user(
        self, *, app: AppId, user_id: UserId, limit: int, before: EventId | None
    ) -> Sequence[Standing]:
        def read(connection: Connection) -> Sequence[Standing]:
            heads = journal.heads_of_user(connection, app=app, user_id=user_id, limit=limit, before=before)
            return standings(connection, heads)

        return self._reading(read)

    def timeline(self, *, app: AppId, purchase_id: PurchaseId) -> Sequence[Entry]:
        def read(connection: Connection) -> Sequence[Entry]:
            head = journal.head(connection, app=app, subject=purchase_id)
            if head is None:
                return []
            events = _with_causes(connection, _recorded(connection, _ids_of(connection, head)))
            deliveries = journal.pending(connection, [event.id for event in events])
            return entries(events, [_delivery(pending) for pending in deliveries])

        return self._reading(read)

    def account_token(self, *, app: AppId, user_id: UserId) -> UUID | None:
        def read(connection: Connection) -> UUID | None:
            head = journal.head(connection, app=app, subject=account_subject(app=app, user_id=user_id))
            if head is None:
                return None
            (issued,) = journal.load(connection, [head.first_event_id])
            return issued.payload.token if isinstance(issued.payload, AccountTokenIssued) else None

        return self._reading(read)

    def check(self) -> None:
        self._reading(lambda connection: connection.exec_driver_sql("select 1").scalar_one())

    def _reading(self, read: Callable[[Connection], T]) -> T:
        return transact(self._engine, read)


def standings(connection: Connection, heads: Sequence[Head]) -> list[Standing]:
    """How the purchases of these heads stand, in their order."""
    words = {head.subject: head.word_event_id for head in heads if head.word_event_id is not None}
    if not words:
        return []
    events = {event.id: event for event in map(journal.event_from, _rows(connection, list(words.values())))}
    awaited = [event.id for event in events.values() if event.type in OPEN_WORDS]
    deliveries = [_delivery(pending) for pending in journal.pending(connection, awaited)] if awaited else []
    return [
        Standing(
            purchase_id=PurchaseId(head.subject),
            user_id=head.user_id,
            first_event_id=head.first_event_id,
            word=events[words[head.subject]],
            deliveries=[each for each in deliveries if each.event_id == words[head.subject]],
        )
        for head in heads
        if head.subject in words
    ]


def _ids_of(connection: Connection, head: Head) -> list[EventId]:
    parameters = {"app": head.app, "subject": head.subject, "first": head.first_event_id, "last": head.last_event_id}
    return list(connection.exec_driver_sql(_IDS_OF_SUBJECT, parameters).scalars())


def _recorded(connection: Connection, ids: Sequence[EventId]) -> list[Recorded]:
    """The events, also those that this release cannot read."""
    return [journal.event_to_show(row) for row in _rows(connection, ids)]


def _rows(connection: Connection, ids: Sequence[EventId]) -> Iterable[Any]:
    parameters = {"ids": [str(event_id) for event_id in ids]}
    return connection.exec_driver_sql(_EVENTS_WITHOUT_PROOFS, parameters)


def _with_causes(connection: Connection, events: list[Recorded]) -> list[Recorded]:
    for _ in range(CAUSES_DEPTH_MAX):
        causes = missing_causes(events)
        found = _recorded(connection, causes) if causes else []
        if not found:
            break
        events = [*events, *found]
    return events


def _delivery(pending: Pending) -> Delivery:
    return Delivery(
        consumer=pending.consumer,
        event_id=pending.event_id,
        state=pending.state,
        due_at=pending.due_at,
        handovers=pending.handovers,
        attempts=pending.attempts,
        error=pending.error,
    )
