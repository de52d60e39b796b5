"""PostgreSQL: one engine per process, as one role, with a limit on everything."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg2
from psycopg2 import extensions, extras
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 15
LOCK_TIMEOUT_S = 10
IDLE_IN_TRANSACTION_TIMEOUT_S = 60
CLIENT_TIMEOUT_S = STATEMENT_TIMEOUT_S + 5
"""How long a client waits for a server that has stopped answering, and so does not enforce its own limits."""
POOL_TIMEOUT_S = 5

T = TypeVar("T")


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached, is shutting down, or does not answer in time. Try again later."""


def connect_engine(url: str, *, role: str | None, pool_size: int, application_name: str) -> Engine:
    """An engine whose connections act as `role` (none: as whoever logs in) and give up within the limits above.

    `url` is `postgresql://…`. Nothing is connected yet.
    """
    options = [
        f"-c statement_timeout={STATEMENT_TIMEOUT_S}s",
        f"-c lock_timeout={LOCK_TIMEOUT_S}s",
        f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_S}s",
        "-c timezone=UTC",
        "-c jit=off",  # short statements only: compiling them costs more than it saves
    ]
    if role is not None:
        options.append(f"-c role={role}")
    extras.register_uuid()  # type: ignore[no-untyped-call]
    extensions.set_wait_callback(_wait_with_a_limit)
    return create_engine(
        url.replace("postgresql://", "postgresql+psycopg2://", 1),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_use_lifo=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": application_name,
            "options": " ".join(options),
            "keepalives_idle": 30,
        },
    )


def _wait_with_a_limit(connection: Any) -> None:
    """psycopg2 waits for ever for a server that is frozen: this waits, with a limit, and gives the connection up.

    psycopg documentation, "Support for coroutine libraries": a wait callback polls until the connection is ready.
    """
    while True:
        state = connection.poll()
        if state == extensions.POLL_OK:
            return
        reading = [connection.fileno()] if state == extensions.POLL_READ else []
        writing = [connection.fileno()] if state == extensions.POLL_WRITE else []
        if not any(select.select(reading, writing, [], CLIENT_TIMEOUT_S)):
            connection.close()
            raise psycopg2.OperationalError(f"PostgreSQL did not answer within {CLIENT_TIMEOUT_S} s")


def is_unavailable(error: BaseException) -> bool:
    """Whether the error says that the database is away, rather than that the statement is wrong."""
    if isinstance(error, PoolTimeout | DatabaseUnavailable):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    code = getattr(error.orig, "pgcode", None)
    # class 08 connection exception, 57P operator intervention, 53 insufficient resources; none: no connection was made
    return code is None or code[:2] in {"08", "53"} or code[:3] == "57P"


def transact(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Runs `work` in one transaction and commits. Raises DatabaseUnavailable when the database is away.

    A connection that turns out to be dead before anything was done on it (PostgreSQL was restarted) is replaced once.
    Whether a commit that was cut off took effect is unknown, so `work` has to be harmless when done twice.
    """
    try:
        return _attempt(engine, work)
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise _translated(error) from error
    except PoolTimeout as error:
        raise _translated(error) from error
    try:
        return _attempt(engine, work)
    except (DBAPIError, PoolTimeout) as error:
        raise _translated(error) from error


def _attempt(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.begin() as connection:
        return work(connection)


def _translated(error: Exception) -> Exception:
    return DatabaseUnavailable(type(error).__name__) if is_unavailable(error) else error
