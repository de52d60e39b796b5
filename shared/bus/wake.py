"""Tells sleepers that the journal has grown, by PostgreSQL's NOTIFY. A hint only: whoever sleeps polls as well.

NOTIFY takes a lock that serialises commits, so it is never part of a transaction that does work: it is a statement of
its own after the commit, from a thread of its own, at most every 20 ms per process.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
from typing import Any

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.log import get_logger

CHANNEL = "purser_journal"
PAUSE_S = 0.02
RECONNECT_S = 1.0

log = get_logger(__name__)


class Waker:
    """Sends the wake-up. `poke()` costs nothing and never fails; the first after a quiet moment goes at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._poked = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waker", daemon=True)
        self._start = threading.Lock()

    def poke(self) -> None:
        """The journal has grown: tell whoever sleeps, soon. Call it after the commit."""
        if self._thread.ident is None:
            with self._start:  # started by the first poke: the process that imported us may not be the one that serves
                if self._thread.ident is None:
                    self._thread.start()
        self._poked.set()

    def close(self) -> None:
        self._closed.set()
        self._poked.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._poked.wait()
            self._poked.clear()
            if self._closed.is_set():
                return
            self._closed.wait(PAUSE_S if self._notify() else RECONNECT_S)

    def _notify(self) -> bool:
        try:
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql(f"notify {CHANNEL}")
        except Exception as error:  # noqa: BLE001  a hint that is lost costs one poll; the thread has to live on
            log.warning("wake-up was not sent", error=type(error).__name__)
            return False
        return True


class Sleeper:
    """Sleeps until the journal has grown, or the time is up. For one thread; `interrupt()` may come from any."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Any = None
        self._inner, self._outer = socket.socketpair()
        self._inner.setblocking(False)
        self._outer.setblocking(False)

    def wait(self, timeout_s: float) -> bool:
        """True when woken, False when the time is up. Without a database it sleeps its time."""
        try:
            return self._wait(timeout_s)
        except (psycopg2.Error, SQLAlchemyError, OSError) as error:
            log.warning("wake-ups are not heard", error=type(error).__name__)
            self._drop()
            self._sleep(min(timeout_s, RECONNECT_S))
            return False

    def interrupt(self) -> None:
        """Wakes the sleeper now; never waits, and never fails."""
        with contextlib.suppress(OSError):  # it was told many times over and does not listen, or it is closed
            self._outer.send(b"!")

    def close(self) -> None:
        self._drop()
        self._inner.close()
        self._outer.close()

    def _wait(self, timeout_s: float) -> bool:
        connection = self._listening()
        readable = self._sleep(timeout_s, connection)
        if connection.fileno() in readable:
            connection.poll()
            connection.notifies.clear()
        return bool(readable)

    def _sleep(self, timeout_s: float, *others: Any) -> set[int]:
        """Until interrupted, or one is readable: their file numbers. By poll(): select() ends at file number 1,023."""
        poller = select.poll()
        for each in (self._inner, *others):
            poller.register(each, select.POLLIN)
        readable = {number for number, _ in poller.poll(math.ceil(timeout_s * 1000))}
        if self._inner.fileno() in readable:
            self._inner.recv(4096)
        return readable

    def _listening(self) -> Any:
        if self._connection is None or self._connection.closed:
            pooled = self._engine.raw_connection()
            pooled.detach()  # ours for as long as we listen: it does not go back to the pool
            self._connection = pooled.dbapi_connection
            self._connection.set_isolation_level(extensions.ISOLATION_LEVEL_AUTOCOMMIT)
            with self._connection.cursor() as cursor:
                cursor.execute(f"listen {CHANNEL}")
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
