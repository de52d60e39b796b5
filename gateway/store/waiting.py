"""Where requests wait, for a purchase to be final or for a feed to grow: one thread listens to the journal for all of
them and wakes whom it concerns.

A request that waits holds one of the server's threads, so there are fewer seats than threads: accepting always goes on.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.domain.feeds import FeedKey, Place
from gateway.store.awaited import Awaited, FeedGrown, PurchaseFinal, come_among
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

PURCHASES_SHARE: Final = 4
"""One seat in so many is for purchases alone. Who reads a feed comes back with each answer, and would have them all; a
purchase is waited for once, and not for long."""
READERS_OF_ONE_FEED_MAX: Final = 2
"""A telephone and a tablet. One user who asks more often does not keep the others from waiting."""


class WaitingRoom:
    """As handlers.Waiting wants it. Thread-safe; its thread is started by the first who waits."""

    def __init__(self, *, engine: Engine, seats: int) -> None:
        self._engine = engine
        self._seats = threading.BoundedSemaphore(seats)
        self._readers_seats = threading.BoundedSemaphore(seats - seats // PURCHASES_SHARE)
        self._sleeper = Sleeper(engine)
        self._readers: Counter[FeedKey] = Counter()
        self._guests: defaultdict[Awaited, list[threading.Event]] = defaultdict(list)
        self._lock = threading.Lock()
        self._occupied = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def until_final(self, *, app: AppId, purchase_id: PurchaseId, within_s: float) -> bool:
        return self._sit(PurchaseFinal(app, purchase_id), within_s, self._seats)

    def until_grown(self, key: FeedKey, *, after: Place, within_s: float) -> bool:
        if not self._reads(key):
            return False
        try:
            return self._sit(FeedGrown(key, after.position), within_s, self._readers_seats, self._seats)
        finally:
            with self._lock:
                self._readers[key] -= 1
                if not self._readers[key]:
                    del self._readers[key]

    def guests(self) -> int:
        """How many wait."""
        with self._lock:
            return sum(len(guests) for guests in self._guests.values())

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

    def _reads(self, key: FeedKey) -> bool:
        """Whether one more may wait for this feed."""
        with self._lock:
            if self._readers[key] >= READERS_OF_ONE_FEED_MAX:  # a key that is not there counts 0, and is not put there
                return False
            self._readers[key] += 1
            return True

    def _sit(self, awaited: Awaited, within_s: float, *seats: threading.Semaphore) -> bool:
        with ExitStack() as taken:
            for seat in seats:
                if not seat.acquire(blocking=False):
                    return False
                taken.callback(seat.release)
            self._wait(awaited, within_s)
        return True

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
            self._sleeper.interrupt()  # it may have come before the listening began: look once more

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
        """Sleeps until the journal has grown, then wakes those for whom it has. False: the database is away."""
        try:
            self._sleeper.wait(POLL_S)
            with self._lock:
                awaited = list(self._guests)
            if awaited:
                come = transact(self._engine, lambda connection: list(come_among(connection, awaited)))
                with self._lock:
                    self._wake(come)
        except (DatabaseUnavailable, SQLAlchemyError) as error:  # the thread has to live on
            log.warning("who waits has to wait longer", error=type(error).__name__)
            return False
        return True

    def _wake(self, come: Iterable[Awaited]) -> None:
        for awaited in come:
            for guest in self._guests.get(awaited, ()):
                guest.set()
