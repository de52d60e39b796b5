"""How far the store was asked what it had said, in Postgres: each step a transaction of its own.

What was missed is counted in the transaction that records it, so a crash counts nothing twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine

from shared.bus import journal
from shared.database import array_literal
from shared.events import Draft, StoreTransaction
from shared.ids import AppId, IdSource, TransactionId
from verifier.domain.reconciliation import DueOrigin, Found, Key, Reconciliation, Road

STORE: Final = "apple"

PAUSE_S: Final = 0.25
"""Between two looks whether somebody else is done."""

Run = Callable[[Callable[[Connection], Any]], Any]
"""Runs a function in a transaction of its own. Raises DatabaseUnavailable."""

_COLUMNS = "cursor_at, asked_at, checked_at, missed, missed_at, error, failing_since"

_OF_KEY = "app = %(app)s and environment = %(environment)s and road = %(road)s"

_READ = f"select {_COLUMNS} from verifier.reconciliation where {_OF_KEY}"

_READ_ALL = f"select app, environment, road, {_COLUMNS} from verifier.reconciliation order by 1, 2, 3"

_BEGIN = """
insert into verifier.reconciliation as known (app, environment, road, asked_at)
values (%(app)s, %(environment)s, %(road)s, %(now)s)
    on conflict (app, environment, road) do update set asked_at = excluded.asked_at
"""

_ADVANCE = f"""
update verifier.reconciliation set cursor_at = greatest(cursor_at, %(cursor_at)s) where {_OF_KEY}
"""

_FINISH = f"""
update verifier.reconciliation set checked_at = %(now)s, error = null, failing_since = null where {_OF_KEY}
"""

_FAIL = f"""
update verifier.reconciliation
   set error = %(error)s, failing_since = coalesce(failing_since, %(now)s) where {_OF_KEY}
"""

_COUNT = f"""
update verifier.reconciliation set missed = missed + %(missed)s, missed_at = %(now)s where {_OF_KEY}
"""

_OF_ORIGIN = f"""
 where app = %(app)s and store = '{STORE}' and environment = %(environment)s
   and original_transaction_id = %(original_transaction_id)s
   and check_at = %(seen)s
"""

# The index origin_to_check has them in this order. `greatest` passes over what is null.
_DUE = f"""
select original_transaction_id, check_at, renewal_signed_at, checks from verifier.origin
 where app = %(app)s and store = '{STORE}' and environment = %(environment)s and check_at <= %(until)s
   and (greatest(period_signed_at, renewal_signed_at) > greatest(expires_at, %(spoken_before)s)) is not true
 order by check_at limit %(limit)s
"""

# Whoever heard of it meanwhile has set another time, and that one counts.
_CHECKED = "update verifier.origin set check_at = %(check_at)s, checks = checks + 1" + _OF_ORIGIN

_PUT_OFF = "update verifier.origin set check_at = %(check_at)s" + _OF_ORIGIN

_STATEMENTS = f"""
select transaction_id, statement::text from verifier.store_transaction
 where app = %(app)s and store = '{STORE}' and environment = %(environment)s
   and transaction_id = any(%(ids)s::text[]) and statement is not null
"""

_ALONE = "select pg_try_advisory_lock(hashtextextended('verifier.reconciliation ' || %(road)s || ' ' || %(app)s, 0))"


_NO_MORE = "select pg_advisory_unlock_all()"


class PostgresReconciliations:
    """`verifier.handlers.reconciling.Reconciliations`. Every method raises DatabaseUnavailable.

    `appended`: called when the journal has grown, after the commit.
    """

    def __init__(self, run: Run, *, ids: IdSource, appended: Callable[[], None]) -> None:
        self._run = run
        self._ids = ids
        self._appended = appended

    def read(self, key: Key) -> Reconciliation:
        row = self._run(lambda connection: connection.exec_driver_sql(_READ, _named(key)).one_or_none())
        return Reconciliation(key) if row is None else Reconciliation(key, *row)

    def begin(self, key: Key, *, now: datetime) -> None:
        self._execute(_BEGIN, key, now=now)

    def advance(self, key: Key, *, cursor_at: datetime) -> None:
        self._execute(_ADVANCE, key, cursor_at=cursor_at)

    def finish(self, key: Key, *, now: datetime) -> None:
        self._execute(_FINISH, key, now=now)

    def fail(self, key: Key, *, error: str, now: datetime) -> None:
        self._execute(_FAIL, key, error=error, now=now)

    def known_subjects(self, app: AppId, subjects: Collection[str]) -> frozenset[str]:
        heads = self._run(lambda connection: journal.heads(connection, app=app, subjects=list(subjects)))
        return frozenset(head.subject for head in heads)

    def record_notifications(self, key: Key, found: Sequence[Found], *, now: datetime) -> Sequence[Found]:
        drafts = [each.draft for each in found]

        def record(connection: Connection) -> list[Found]:
            event_ids = journal.append_each_once(connection, drafts, ids=self._ids, fingerprints=[None] * len(drafts))
            recorded = [each for each, event_id in zip(found, event_ids, strict=True) if event_id is not None]
            _count(connection, key, missed=sum(each.missed for each in recorded), now=now)
            return recorded

        recorded: list[Found] = self._run(record)
        if recorded:
            self._appended()
        return recorded

    def due_origins(self, key: Key, *, until: datetime, spoken_before: datetime, limit: int) -> Sequence[DueOrigin]:
        parameters = {**_named(key), "until": until, "spoken_before": spoken_before, "limit": limit}
        rows = self._run(lambda connection: connection.exec_driver_sql(_DUE, parameters).all())
        return [DueOrigin(*row) for row in rows]

    def statements(self, key: Key, ids: Collection[TransactionId]) -> Mapping[TransactionId, StoreTransaction]:
        parameters = {**_named(key), "ids": array_literal(ids)}
        rows = self._run(lambda connection: connection.exec_driver_sql(_STATEMENTS, parameters).all())
        decoded = ((id, msgspec.json.decode(text, type=StoreTransaction | None)) for id, text in rows)
        return {id: statement for id, statement in decoded if statement is not None}

    def settle_origin(
        self, key: Key, due: DueOrigin, drafts: Sequence[Draft], *, check_at: datetime | None, now: datetime
    ) -> bool:
        def settle(connection: Connection) -> bool:
            # First: whoever handles what the store said of it holds it, too, before he writes to its timeline.
            if not connection.exec_driver_sql(_CHECKED, _of(key, due, check_at=check_at)).rowcount:
                return False
            journal.append(connection, drafts, ids=self._ids)
            _count(connection, key, missed=len(drafts), now=now)
            return True

        settled: bool = self._run(settle)
        if drafts:  # also when it was an earlier attempt, cut off, that settled it
            self._appended()
        return settled

    def put_off_origin(self, key: Key, due: DueOrigin, *, until: datetime) -> None:
        self._run(lambda connection: connection.exec_driver_sql(_PUT_OFF, _of(key, due, check_at=until)))

    def all(self) -> Sequence[Reconciliation]:
        """Each that was ever begun, in the order of their keys."""
        rows = self._run(lambda connection: connection.exec_driver_sql(_READ_ALL).all())
        return [Reconciliation(Key(*row[:3]), *row[3:]) for row in rows]

    def _execute(self, statement: str, key: Key, **parameters: Any) -> None:
        self._run(lambda connection: connection.exec_driver_sql(statement, {**_named(key), **parameters}))


@contextmanager
def reconciles_alone(engine: Engine, app: AppId, road: Road, *, patience_s: float = 0) -> Iterator[bool]:
    """Whether nobody else reconciles this app by this road, for `patience_s` at least; nobody begins to while the
    context is open.

    The lock belongs to a session of its own, and goes with it, however that ends. It is idle, within no transaction.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # closed in the end, and not given back to the pool with the lock on it

        named = {"app": app, "road": road}

        def ours() -> bool:
            return bool(connection.exec_driver_sql(_ALONE, named).scalar_one())

        yield _in_time(ours, patience_s)
        connection.exec_driver_sql(_NO_MORE)  # the end of a session is noticed a little later


def _in_time(ours: Callable[[], bool], patience_s: float) -> bool:
    pause = threading.Event()
    for _ in range(round(patience_s / PAUSE_S)):
        if ours():
            return True
        pause.wait(PAUSE_S)
    return ours()


def _count(connection: Connection, key: Key, *, missed: int, now: datetime) -> None:
    if missed:
        connection.exec_driver_sql(_COUNT, {**_named(key), "missed": missed, "now": now})


def _named(key: Key) -> dict[str, str]:
    return {"app": key.app, "environment": key.environment, "road": key.road}


def _of(key: Key, due: DueOrigin, *, check_at: datetime | None) -> dict[str, Any]:
    origin = {"original_transaction_id": due.original_transaction_id, "seen": due.check_at, "check_at": check_at}
    return {**_named(key), **origin}
