"""PostgreSQL as a simulation has it: one connection, on which a whole run is a single transaction, thrown away at its
end. So nothing is ever written to disk, each run begins with an empty system, and the SQL under test is the real one.

The services believe that they have engines of their own. What they take for a transaction is a savepoint; what they
take for the server's clock is the simulation's; their roles are the real ones, with the real rights. Transactions come
one after the other: what two at once do to each other is not simulated. Plans are made once, for any parameters, and a
planner's setting that a transaction makes for itself stays until the run is over: neither changes what comes of it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import psycopg2
from psycopg2 import extensions, extras
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import StaticPool

from deploy.migrate import migrate
from shared.database import array_literal

START: Final = datetime(2026, 6, 3, 9, tzinfo=UTC)
"""When every run begins. The journal has partitions from then on."""

# Before pg_catalog on the search path, these are what the services' SQL, and the defaults of their columns, call.
_CLOCK: Final = """
create schema simulation;
grant usage on schema simulation to public;
create function simulation.clock_timestamp() returns timestamptz language sql stable
    return current_setting('simulation.now')::timestamptz;
create function simulation.statement_timestamp() returns timestamptz language sql stable
    return current_setting('simulation.now')::timestamptz;
create function simulation.now() returns timestamptz language sql stable
    return current_setting('simulation.now')::timestamptz;
"""

Now = Callable[[], datetime]


class Crash(BaseException):
    """The process under simulation dies here. Nothing that it does about exceptions can help it."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What goes wrong in a transaction: before its statement number `statement` (from 0), or at its commit (None),
    which then has taken effect or not. The process dies, or it loses its connection and lives.
    """

    kind: Literal["crash", "disconnect"]
    statement: int | None = None
    committed: bool = False

    def __str__(self) -> str:
        at = f"before statement {self.statement}" if self.statement is not None else "at the commit"
        done = ", which took effect" if self.committed else ""
        return f"{self.kind} {at}{done}"


def prepare(url: str) -> None:
    """Migrates an empty database for simulations: to the services' schemas, on the simulation's clock."""
    _execute(url, _CLOCK)
    name = extensions.parse_dsn(url)["dbname"]
    _execute(
        url,
        f"alter database {name} set search_path = simulation, pg_catalog;"
        f"alter database {name} set simulation.now = '{START.isoformat()}';"
        f"alter database {name} set jit = off;"
        f"alter database {name} set max_parallel_workers_per_gather = 0;"
        f"alter database {name} set plan_cache_mode = force_generic_plan",
    )
    migrate(url)


def _execute(url: str, statements: str) -> None:
    connection = psycopg2.connect(url, connect_timeout=5)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statements)
    finally:
        connection.close()


class SimulatedDatabase:
    """One connection to a prepared database, for one run at a time."""

    def __init__(self, url: str) -> None:
        extras.register_uuid()  # type: ignore[no-untyped-call]
        self._stage = _Stage()
        self._raw = psycopg2.connect(
            url, connection_factory=_StagedConnection, cursor_factory=_StagedCursor, connect_timeout=5
        )
        self._raw.stage = self._stage
        self._raw.prepared, self._raw.texts = {}, {}
        self._raw.autocommit = True
        self._engines: dict[str | None, Engine] = {}
        self._schema = ""

    def engine(self, role: str | None) -> Engine:
        """What a service of this role takes for its engine; None: whoever owns the tables."""
        if role not in self._engines:
            self._engines[role] = self._new_engine(role)
        return self._engines[role]

    @contextmanager
    def run(self, now: Now) -> Iterator[None]:
        """One run, on an empty system. `now` is the clock that the server goes by."""
        self._direct(f"begin; {self._schema}")
        self._stage.reset(now)
        try:
            yield
        finally:
            self._direct("rollback")
            self._stage.reset(None)

    @contextmanager
    def cut(self, planned: Cut | None) -> Iterator[None]:
        """Has the first transaction inside go wrong as planned, if it gets that far."""
        self._stage.cut = planned
        try:
            yield
        finally:
            self._stage.cut = None

    @contextmanager
    def rewriting(self, texts: Mapping[str, str], *, schema: str = "") -> Iterator[None]:
        """Has these texts in statements become others, and the tables be changed in each run. Raises AssertionError
        when no statement contains one of the texts.
        """
        before = self._raw.texts, self._raw.prepared
        self._raw.texts, self._raw.prepared, self._schema = dict(texts), {}, schema
        try:
            yield
            seen = "\n".join(self._raw.prepared)
            assert all(text in seen for text in texts), "no statement has this text any more"
        finally:
            self._raw.texts, self._raw.prepared = before
            self._schema = ""

    @property
    def statements(self) -> int:
        """How many were executed so far."""
        return self._stage.statements

    def look(self, sql: str, **parameters: Any) -> list[Any]:
        """What the owner reads, in a transaction that leaves no trace."""
        rows: list[Any] = self.leaving_no_trace(lambda on: list(on.exec_driver_sql(sql, parameters or None)))
        return rows

    def leaving_no_trace(self, work: Callable[[Connection], Any]) -> Any:
        """What `work` comes to as the owner; whatever it writes or sets is gone afterwards."""
        with self.engine(None).connect() as connection:
            try:
                return work(connection)
            finally:
                connection.rollback()

    def empty(self) -> None:
        """Frees the room that the runs of before have taken. Not during a run."""
        with self._raw.cursor() as cursor:
            cursor.execute(_TABLES)
            tables = ", ".join(row[0] for row in cursor.fetchall())
            cursor.execute(f"set session_replication_role = replica; truncate {tables}; reset session_replication_role")

    def close(self) -> None:
        self._raw.really_close()

    def _new_engine(self, role: str | None) -> Engine:
        engine = create_engine(
            "postgresql+psycopg2://",
            creator=lambda: self._raw,
            poolclass=StaticPool,
            pool_reset_on_return=None,  # each transaction ends itself, and it costs
            use_native_hstore=False,
            hide_parameters=True,
        )
        # As the event "begin" would have it; but with a listener, SQLAlchemy looks for others at every statement.
        engine.dialect.do_begin = lambda _: self._stage.begin(role)  # type: ignore[method-assign, assignment]
        return engine

    def _direct(self, statement: str) -> None:
        with self._raw.cursor() as cursor:
            cursor.execute(statement)


_TABLES: Final = """
select format('%I.%I', schemaname, tablename) from pg_tables
 where schemaname in ('journal', 'verifier', 'ledger', 'notifier') and tablename <> 'schema_version'
"""


class _Stage:
    """Turns the transactions of several engines into savepoints of one. What begins and ends them travels with the
    next statement, so that they cost no round trip of their own."""

    def __init__(self) -> None:
        self.cut: Cut | None = None
        self.statements = 0
        self.reset(None)

    def reset(self, now: Now | None) -> None:
        self._now = now
        self._role: str | None = None
        self._told: str | None = None
        self._open = False
        self._sent = False  # the savepoint is there
        self._ended = ""  # what ends the one before
        self._beginning = ""
        self._number = 0  # of the statement in its transaction

    @property
    def is_open(self) -> bool:
        """Whether a transaction is."""
        return self._open

    def begin(self, role: str | None) -> None:
        if self._now is None:
            return
        self._open, self._sent, self._number = True, False, 0
        steps = [self._ended]
        if role != self._role:
            steps.append(f"set role {role or 'none'};")
        if (now := self._now().isoformat()) != self._told:
            steps.append(f"set simulation.now = '{now}';")
        self._beginning = "".join(steps) + "savepoint s;"
        self._going_to_be = role, now

    def before(self) -> str:
        """What is to go before the next statement. Raises what is planned instead of it."""
        if not self._open:
            return ""
        if self.cut is not None and self.cut.statement == self._number:
            self._break()
        self.statements += 1
        self._number += 1
        if self._sent:
            return ""
        self._sent, self._ended = True, ""
        self._role, self._told = self._going_to_be
        return self._beginning

    def commit(self) -> None:
        planned = self.cut if self.cut is not None and self.cut.statement is None and self._sent else None
        if planned is None or planned.committed:
            self._ended = "release savepoint s;" if self._sent else self._ended
            self._open = self._sent = False
        if planned is not None:
            self._break()

    def rollback(self) -> str:
        """The statement that does it; empty: there is nothing to undo."""
        undo = "rollback to savepoint s; release savepoint s" if self._open and self._sent else ""
        self._open = self._sent = False
        return undo

    def _break(self) -> None:
        planned, self.cut = self.cut, None
        assert planned is not None
        if planned.kind == "crash":
            raise Crash(str(planned))
        raise psycopg2.OperationalError("server closed the connection unexpectedly")


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A statement that the server has parsed and planned once, for all runs: doing so takes it longer than most of
    them take. `names`: its parameters, in their order; None: it cannot be prepared, and goes as it is."""

    query: str
    names: tuple[str, ...] | None
    name: str
    definition: str

    @classmethod
    def of(cls, name: str, query: str, values: Any) -> _Prepared:
        """`values` of the first call: a truth value is one in every call; of all else the server finds the type."""
        names = tuple(dict.fromkeys(_PARAMETER.findall(query)))
        if not names:
            return cls(query, names, name, f"prepare {name} as {query}")
        types = ", ".join("boolean" if isinstance(values[each], bool) else "unknown" for each in names)
        numbered = query % {each: f"${number}" for number, each in enumerate(names, 1)}
        return cls(query, names, name, f"prepare {name} ({types}) as {numbered}")

    def call(self, values: Any) -> tuple[str, Any]:
        if self.names is None:
            return self.query, values
        if not self.names:
            return f"execute {self.name}", None
        # A list as psycopg2 writes it has a type already, of text mostly; as text it becomes what the parameter is.
        given = {
            name: array_literal(values[name]) if isinstance(values[name], list) else values[name] for name in self.names
        }
        return f"execute {self.name}({', '.join(f'%({name})s' for name in self.names)})", given


_NUMBERS: Final = itertools.count(1)
_PARAMETER: Final = re.compile(r"%\((\w+)\)s")


class _StagedConnection(extensions.connection):
    """What psycopg2 is for the engines: it looks like a connection in its own transaction."""

    stage: _Stage
    prepared: dict[str, _Prepared]
    """By what the services have written."""
    texts: Mapping[str, str]
    """See SimulatedDatabase.rewriting."""

    def commit(self) -> None:
        self.stage.commit()

    def rollback(self) -> None:
        if undo := self.stage.rollback():
            with super().cursor(cursor_factory=extensions.cursor) as cursor:
                cursor.execute(undo)

    def close(self) -> None:
        """Of an engine that has lost it: its transaction is over, and it connects anew."""
        self.rollback()

    def really_close(self) -> None:
        super().close()


class _StagedCursor(extensions.cursor):
    def execute(self, query: Any, vars: Any = None) -> None:
        connection = self.connection
        assert isinstance(connection, _StagedConnection)
        before = connection.stage.before()
        if before or connection.stage.is_open:
            prepared = connection.prepared.get(query)
            if prepared is None:
                prepared = connection.prepared[query] = self._prepare(before, query, vars)
                before = ""
            query, vars = prepared.call(vars)
        super().execute(before + query, vars)

    def _prepare(self, before: str, query: str, vars: Any) -> _Prepared:
        """Within a savepoint of its own: there are statements whose parameters have no type until they have values."""
        connection = self.connection
        assert isinstance(connection, _StagedConnection)
        for text, instead in connection.texts.items():
            query = query.replace(text, instead)
        prepared = _Prepared.of(f"p{next(_NUMBERS)}", query, vars)
        with connection.cursor(cursor_factory=extensions.cursor) as cursor:
            cursor.execute(before + "savepoint prepared")
            try:
                cursor.execute(prepared.definition)
            except psycopg2.Error:
                cursor.execute("rollback to savepoint prepared")
                prepared = _Prepared(query=query, names=None, definition="", name="")
            cursor.execute("release savepoint prepared")
        return prepared
