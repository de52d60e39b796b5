"""The real ledger's use-cases on one connection, within a transaction of the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from ledger.domain.commands import Answer, Command, Outcome, Refused
from ledger.handlers.commands import execute
from ledger.handlers.expiring import expire_holds
from ledger.handlers.facts import apply_facts
from ledger.store.answers import PostgresAnswers
from shared.events import Event
from shared.ids import Ids
from shared.outcome import Handled
from tests.support.ledger import APPS, CATALOG
from tests.support.ledger_tables import tables_on


class Driver:
    """Tells the ledger and asks it. What it answers is kept, to be looked at as it was before it became a document."""

    def __init__(self, connection: Connection, *, ids: Ids, shard: int = 0) -> None:
        self._tables = tables_on(connection, shard=shard)
        self._answers = PostgresAnswers(connection)
        self._ids = ids
        self._outcomes: list[Outcome] = []

    def apply(self, events: Sequence[Event[Any]], *, now: datetime) -> Handled:
        """What a store says."""
        return apply_facts(
            events,
            tables=self._tables,
            catalog=CATALOG,
            apps=APPS,
            new_id=self._ids.event_id,
            now=now,
        )

    def execute(self, commands: Sequence[Command], *, now: datetime) -> Sequence[Answer]:
        """What is asked for."""
        executed = execute(
            commands,
            books=self._tables.books,
            commissions=self._tables.commissions,
            answers=self._answers,
            apps=APPS,
            render=self._render,
            new_id=self._ids.event_id,
            now=now,
        )
        return executed.answers

    def _render(self, command: Command, outcome: Outcome) -> Answer:
        self._outcomes.append(outcome)
        return Answer(422 if isinstance(outcome, Refused) else 201, str(len(self._outcomes) - 1))

    def outcome(self, answer: Answer) -> Outcome:
        """What an answer of this driver's says."""
        return self._outcomes[int(answer.document)]

    def expire(self, *, now: datetime) -> int:
        """Ends some holds whose time is over; how many. Once in a transaction: locks are taken in order only once."""
        expired = expire_holds(
            books=self._tables.books,
            commissions=self._tables.commissions,
            apps=APPS,
            new_id=self._ids.event_id,
            new_trace=self._ids.trace_id,
            now=now,
        )
        return expired.count
