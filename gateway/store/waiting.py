"""Where requests wait for a purchase: one thread listens to the journal for all of them and wakes whom it concerns.

A request that waits holds one of the server's threads, so there are fewer seats than threads: accepting always goes on.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.domain.purchases import OPEN_WORDS
from shared.bus.wake import Sleeper
from shared.database import DatabaseUnavailable, transact
from shared.ids import AppId, PurchaseId
from shared.log import get_logger

log = get_logger(__name__)

POLL_S: Final = 0.5
"""How often to look without having been woken, while somebody waits."""
PAUSE_S: Final = 0.01
"""At least so long between two looks: under load the journal grows all the time."""
AWAY_S: Final = 1.0

_FINAL: Final = """
select t.app, t.subject
  from unnest(%(apps)s::text[], %(subjects)s::text[]) as awaited (app, subject)
  join journal.timeline t on t.app = awaited.app and t.subject = awaited.subject
 where not (t.word_type = any(%(open)s))
"""

Awaited = tuple[AppId, PurchaseId]


class WaitingRoom:
    """As handlers.Waiting wants it. Thread-safe; its thread is started by the first who waits."""

    def __init__(self, *, engine: Engine, seats: int) -> None:
        self._engine = engine
        self._seats = threading.BoundedSemaphore(seats) if seats > 0 else None
        self._sleeper = Sleeper(engine)
        self._guests: defaultdict[Awaited, list[threading.Event]] = defaultdict(list)
        self._lock = threading.Lock()
        self._occupied = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def until_final(self, *, app: AppId, purchase_id: PurchaseId, within_s: float) -> bool:
        if self._seats is None or not self._seats.acquire(blocking=False):
            return False
        try:
            self._wait((app, purchase_id), within_s)
        finally:
            self._seats.release()
        return True

    def close(self) -> None:
        """Sends everybody away and ends the thread. Once is enough."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            self._occupied.set()
            self._wake(self._guests)
            thread = self._thread
        self._sleeper.interrupt()
        if thread is not None:
            thread.join()
        self._sleeper.close()

    def _wait(self, awaited: Awaited, within_s: float) -> None:
        guest = threading.Event()
        self._enter(awaited, guest)
        try:
            guest.wait(within_s)
        finally:
            self._leave(awaited, guest)

    def _enter(self, awaited: Awaited, guest: threading.Event) -> None:
        with self._lock:
            self._guests[awaited].append(guest)
            if self._closed.is_set():  # it took its seat while everybody else was sent away
                guest.set()
                return
            self._occupied.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._attend, name="waiting-room", daemon=True)
                self._thread.start()
            self._sleeper.interrupt()  # it may have become final before the listening began: look once more

    def _leave(self, awaited: Awaited, guest: threading.Event) -> None:
        with self._lock:
            self._guests[awaited].remove(guest)
            if not self._guests[awaited]:
                del self._guests[awaited]
            if not self._guests and not self._closed.is_set():
                self._occupied.clear()

    def _attend(self) -> None:
        while not self._closed.is_set():
            self._occupied.wait()
            self._closed.wait(PAUSE_S if self._listen() else AWAY_S)

    def _listen(self) -> bool:
        """Sleeps until the journal has grown, then wakes those whose purchase is final. False: the database is away."""
        try:
            self._sleeper.wait(POLL_S)
            with self._lock:
                awaited = list(self._guests)
            if awaited:
                final = transact(self._engine, lambda connection: _final_among(connection, awaited))
                with self._lock:
                    self._wake(final)
        except (DatabaseUnavailable, SQLAlchemyError) as error:  # the thread has to live on
            log.warning("who waits for a purchase has to wait longer", error=type(error).__name__)
            return False
        return True

    def _wake(self, final: Iterable[Awaited]) -> None:
        for awaited in final:
            for guest in self._guests.get(awaited, ()):
                guest.set()


def _final_among(connection: Connection, awaited: list[Awaited]) -> list[Awaited]:
    parameters = {
        "apps": [app for app, _ in awaited],
        "subjects": [subject for _, subject in awaited],
        "open": sorted(OPEN_WORDS),
    }
    return [(app, subject) for app, subject in connection.exec_driver_sql(_FINAL, parameters)]
