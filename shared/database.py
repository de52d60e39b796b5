"""PostgreSQL: one engine per process, as one role, with a limit on everything."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import psycopg2
from psycopg2 import extensions, extras
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 15
INTERACTIVE_TIMEOUT_S = 4
"""For processes that somebody waits for: a clear 503 soon is worth more than an answer late."""
IDLE_IN_TRANSACTION_TIMEOUT_S = 60
INTERACTIVE_LOCK_TIMEOUT_S = 1
"""So long somebody waits for a row that another transaction holds, and those who asked at the same moment too."""
SILENCE_S = 2
"""So much longer than a statement may take is waited for a server that does not enforce its own limits any more."""
POOL_TIMEOUT_S = 5

READ_ONLY: Final = "25006"
"""PostgreSQL documentation, appendix A. Nobody here writes where he may only read: the server is, or has become, a
standby."""

_AFTER_COMMIT: Final = "purser_after_commit"

T = TypeVar("T")


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached, is shutting down, or does not answer in time. Try again later."""


class _Silent(psycopg2.OperationalError):
    """The server is connected and does not answer."""


def connect_engine(
    url: str,
    *,
    role: str | None,
    pool_size: int,
    application_name: str,
    timeout_s: int = STATEMENT_TIMEOUT_S,
    lock_timeout_s: int | None = None,
    autocommit: bool = False,
) -> Engine:
    """An engine whose connections act as `role` (none: as whoever logs in); statements take `timeout_s` at most, and
    wait `lock_timeout_s` of it at most for what another transaction holds.

    `url` is `postgresql://…`. Nothing is connected yet. A process has one time-out: it is set for all of psycopg2.
    `autocommit`: each statement is a transaction by itself, which spares two round trips to whoever writes with one.
    """
    options = [
        f"-c statement_timeout={timeout_s}s",
        f"-c lock_timeout={timeout_s if lock_timeout_s is None else lock_timeout_s}s",
        f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_S}s",
        "-c synchronous_commit=on",  # a commit is what accepting rests on, whatever the server's default is
        "-c timezone=UTC",
        "-c jit=off",  # short statements only: compiling them costs more than it saves
    ]
    if role is not None:
        options.append(f"-c role={role}")
    extras.register_uuid()  # type: ignore[no-untyped-call]
    extensions.set_wait_callback(_patience(timeout_s + SILENCE_S))
    return create_engine(
        url.replace("postgresql://", "postgresql+psycopg2://", 1),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_use_lifo=True,
        isolation_level="AUTOCOMMIT" if autocommit else "READ COMMITTED",
        hide_parameters=True,  # errors are logged, and a parameter may be a receipt
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": application_name,
            "options": " ".join(options),
            "keepalives_idle": 30,
        },
    )


def _patience(limit_s: float) -> Callable[[Any], None]:
    """How psycopg2 waits for the server: by itself for ever, with this until the limit, and then gives it up.

    psycopg documentation, "Support for coroutine libraries": a wait callback polls until the connection is ready.
    """

    def wait(connection: Any) -> None:
        while (state := connection.poll()) != extensions.POLL_OK:
            waiting = select.poll()
            waiting.register(connection.fileno(), select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
            if not waiting.poll(limit_s * 1000):
                # psycopg2 closes a connection whose callback raises; closing it in here would wait for itself.
                raise _Silent(f"PostgreSQL did not answer within {limit_s} s")

    return wait


def is_unavailable(error: BaseException) -> bool:
    """Whether the error says that the database is away, rather than that the statement is wrong."""
    if isinstance(error, PoolTimeout | DatabaseUnavailable):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    code = _code(error)
    if code == READ_ONLY:
        return True
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    # class 08 connection exception, 57P operator intervention, 53 insufficient resources; none: no connection was made
    return code is None or code[:2] in {"08", "53"} or code[:3] == "57P"


def is_busy(error: BaseException) -> bool:
    """Whether the database answers, but not this statement in time: another transaction holds what it needs, say."""
    # PostgreSQL documentation, appendix A: lock not available, query canceled, deadlock detected, serialization failure
    return _code(error) in {"55P03", "57014", "40P01", "40001"}


def _code(error: BaseException) -> str | None:
    code: str | None = getattr(error.orig, "pgcode", None) if isinstance(error, DBAPIError) else None
    return code


def limit_statements(connection: Connection, *, within_s: int) -> None:
    """Statements of this transaction may take so long from now on."""
    connection.exec_driver_sql(f"set local statement_timeout = '{within_s}s'")


def after_commit(connection: Connection, then: Callable[[], None]) -> None:
    """Has `then` called once the transaction that `transact` runs is committed; never when it is rolled back.

    For what is counted: `then` may not fail, nor use the database. Outside `transact` it is not called.
    """
    waiting: list[Callable[[], None]] | None = connection.get_execution_options().get(_AFTER_COMMIT)
    if waiting is not None:
        waiting.append(then)


def transact(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Runs `work` in one transaction and commits. Raises DatabaseUnavailable when the database is away.

    A connection that turns out to be dead before anything was done on it (PostgreSQL was restarted) is replaced once.
    Whether a commit that was cut off took effect is unknown, so `work` has to be harmless when done twice.
    """
    try:
        return _attempt(engine, work)
    except DBAPIError as error:
        if not error.connection_invalidated or isinstance(error.orig, _Silent):
            raise _translated(error) from error
    except PoolTimeout as error:
        raise _translated(error) from error
    try:
        return _attempt(engine, work)
    except (DBAPIError, PoolTimeout) as error:
        raise _translated(error) from error


def _attempt(engine: Engine, work: Callable[[Connection], T]) -> T:
    committed: list[Callable[[], None]] = []
    with engine.begin() as connection:
        connection.execution_options(**{_AFTER_COMMIT: committed})
        try:
            result = work(connection)
        except DBAPIError as error:
            if _code(error) == READ_ONLY:  # the next one may lead to the server that has taken over
                connection.invalidate(error)
            raise
    for then in committed:
        then()
    return result


def _translated(error: Exception) -> Exception:
    return DatabaseUnavailable(type(error).__name__) if is_unavailable(error) else error


def array_literal(values: Iterable[str | int | UUID | datetime | None]) -> str:
    """The values as PostgreSQL's text form of an array, for a parameter that the statement casts (`%(ids)s::uuid[]`).

    A list would do, but psycopg2 writes it out as ARRAY[…]: it quotes, and PostgreSQL parses, each element by itself.
    """
    listed = list(values)
    text = ",".join(["NULL" if value is None else f'"{value}"' for value in listed])
    quotes = 2 * len([value for value in listed if value is not None])
    if text.count('"') != quotes or "\\" in text:
        text = ",".join(["NULL" if value is None else _quoted(str(value)) for value in listed])
    return "{" + text + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
