"""Facts to put on the bus, and eyes for what became of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from shared.bus import journal
from shared.bus.routes import ConsumerName
from shared.database import connect_engine, transact
from shared.events import AccountTokenIssued, Draft, Payload, ReceiptSubmitted
from shared.ids import AppId, EventId, Ids, TransactionId, UserId, system_ids

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GAME = AppId("game")
TRACE = "0123456789abcdef0123456789abcdef"
TOKEN_ISSUED = AccountTokenIssued.TYPE
RECEIPT_SUBMITTED = ReceiptSubmitted.TYPE

_TOKEN = UUID("6ba7b810-9dad-41d1-80b4-00c04fd430c8")


@dataclass(frozen=True, slots=True)
class Row:
    """A delivery row. `due_in_s` is None where only an operator makes it due."""

    state: str
    attempts: int
    handovers: int
    error: str | None
    due_in_s: float | None


@dataclass(frozen=True, slots=True)
class Bus:
    """The journal of one database, seen by whoever owns it."""

    engine: Engine
    ids: Ids

    def record(self, *drafts: Draft) -> list[EventId]:
        """Records them as a service would, in one transaction."""
        return transact(self.engine, lambda connection: journal.append(connection, drafts, ids=self.ids))

    def tokens(self, count: int) -> list[EventId]:
        """So many events that the verifier handles in batches."""
        return self.record(*(self.draft(AccountTokenIssued(token=_TOKEN)) for _ in range(count)))

    def receipts(self, count: int, *, receipt: str = "receipt") -> list[EventId]:
        """So many events that wait on a store, each handled on its own."""
        payload = ReceiptSubmitted(store="apple", transaction_id=TransactionId("1"), receipt=receipt)
        return self.record(*(self.draft(payload) for _ in range(count)))

    def draft(self, payload: Payload, *, subject: str | None = None, user_id: str | None = "alice") -> Draft:
        """A draft about a subject of its own, unless one is named."""
        return Draft(
            payload=payload,
            app=GAME,
            subject=subject or f"pur_{self.ids.uuid()}",
            user_id=None if user_id is None else UserId(user_id),
            occurred_at=NOW,
            trace_id=TRACE,
        )

    def row(self, consumer: ConsumerName, event_id: EventId) -> Row | None:
        """The delivery row; None once the event is handled."""
        rows = self.execute(
            "select state, attempts, handovers, error, case when due_at < 'infinity'"
            " then extract(epoch from due_at - clock_timestamp())::float8 end from journal.delivery"
            " where consumer = %(consumer)s and event_id = %(id)s",
            consumer=consumer,
            id=event_id,
        )
        return Row(*rows[0]) if rows else None

    def open(self, consumer: ConsumerName, event_ids: Sequence[EventId]) -> set[EventId]:
        """Those of the events that the consumer has not handled."""
        rows = self.execute(
            "select event_id from journal.delivery where consumer = %(consumer)s and event_id = any(%(ids)s)",
            consumer=consumer,
            ids=list(event_ids),
        )
        return {row[0] for row in rows}

    def set(self, event_ids: Sequence[EventId], assignments: str) -> None:
        """Changes delivery rows behind the bus's back."""
        self.execute(
            f"update journal.delivery set {assignments} where event_id = any(%(ids)s)",  # noqa: S608 - a test's own words
            ids=list(event_ids),
        )

    def caused_by(self, event_ids: Sequence[EventId]) -> list[EventId]:
        """The events that name these as their cause."""
        rows = self.execute(
            "select causation_id from journal.event where causation_id = any(%(ids)s)", ids=list(event_ids)
        )
        return [row[0] for row in rows]

    def forge(self, draft: Draft, *, version: int, payload: str, consumer: ConsumerName) -> EventId:
        """An event as another release wrote it: any version, any payload."""
        (event_id,) = self.record(replace(draft, payload=AccountTokenIssued(token=_TOKEN)))
        forged = self.ids.event_id()
        self.execute(
            "insert into journal.event (id, type, version, app, subject, payload, trace_id, occurred_at)"
            " select %(forged)s, type, %(version)s, app, subject, %(payload)s::jsonb, trace_id, occurred_at"
            "   from journal.event where id = %(id)s",
            forged=forged,
            version=version,
            payload=payload,
            id=event_id,
        )
        self.execute(
            "update journal.delivery set event_id = %(forged)s where event_id = %(id)s and consumer = %(consumer)s",
            forged=forged,
            id=event_id,
            consumer=consumer,
        )
        return forged

    def execute(self, sql: str, **parameters: Any) -> list[Any]:
        """Runs a statement in a transaction of its own; its rows, if it has any."""

        def run(connection: Any) -> list[Any]:
            result = connection.exec_driver_sql(sql, parameters or None)
            return list(result) if result.returns_rows else []

        return transact(self.engine, run)


@contextlib.contextmanager
def bus_in(database_url: str) -> Iterator[Bus]:
    """The bus of a migrated database."""
    engine = connect_engine(database_url, role=None, pool_size=4, application_name="test-owner")
    yield Bus(engine=engine, ids=system_ids())
    engine.dispose()
