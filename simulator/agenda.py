"""When something happens to a subscription by itself, and the thread that makes it happen then.

While it does not run nothing happens by itself. A month may be so many seconds long (`Setting`): what begins from then
on is as long as that makes it, in real time.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.clock import Clock
from shared.ids import TransactionId
from shared.log import get_logger
from simulator.domain import SimulatorError
from simulator.lengths import Lengths

log = get_logger(__name__)

_STALE_MAX: Final = 1_000
"""How many entries that count no more the heap may hold, beside as many as count."""

_NAP_S: Final = 60.0
"""So long it sleeps at most: the machine's clock may be set."""


@dataclass(frozen=True, slots=True)
class Setting:
    """`month_s` None: lengths are those of the calendar. `running`: what is due happens by itself."""

    month_s: float | None = None
    running: bool = False

    @property
    def lengths(self) -> Lengths:
        return Lengths(None if self.month_s is None else timedelta(seconds=self.month_s))


class Agenda:
    """What is due when. Thread-safe."""

    def __init__(self, clock: Clock, setting: Setting = Setting()) -> None:
        self._clock = clock
        self._setting = setting
        self._changed = threading.Condition()
        self._due: dict[TransactionId, datetime] = {}
        self._heap: list[tuple[datetime, TransactionId]] = []  # with entries that `_due` no longer knows
        self._closed = False

    @property
    def setting(self) -> Setting:
        """What is in force."""
        return self._setting

    def put(self, setting: Setting) -> None:
        """From now on. What began before keeps its dates."""
        with self._changed:
            self._setting = setting
            self._changed.notify_all()

    def plan(self, subscription_id: TransactionId, due_at: datetime | None) -> None:
        """The subscription is due then, and at no other time; None: never."""
        with self._changed:
            if due_at is None:
                self._due.pop(subscription_id, None)
                return
            if self._due.get(subscription_id) == due_at:
                return
            self._due[subscription_id] = due_at
            heapq.heappush(self._heap, (due_at, subscription_id))
            if len(self._heap) > 2 * len(self._due) + _STALE_MAX:
                self._heap = sorted((due, each) for each, due in self._due.items())
            self._changed.notify_all()

    def take(self) -> TransactionId | None:
        """Waits for what is due next, and takes it off; None when the agenda is closed."""
        with self._changed:
            while not self._closed:
                wait_s = self._wait_s()
                if wait_s is not None and wait_s <= 0:
                    _, subscription_id = heapq.heappop(self._heap)
                    del self._due[subscription_id]
                    return subscription_id
                self._changed.wait(wait_s)
            return None

    def close(self) -> None:
        """Ends the waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait_s(self) -> float | None:
        """How long until the next is due; None: nothing is, or it does not run."""
        if not self._setting.running:
            return None
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if not self._heap:
            return None
        return min(_NAP_S, (self._heap[0][0] - self._clock.now()).total_seconds())


class Clockwork:
    """A thread that does what is due. Call `close` to end it."""

    def __init__(self, agenda: Agenda, act: Callable[[TransactionId], None]) -> None:
        self._agenda = agenda
        self._act = act
        self._thread = threading.Thread(target=self._run, name="clockwork", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; what it is doing is done first."""
        self._agenda.close()
        self._thread.join()

    def _run(self) -> None:
        while (subscription_id := self._agenda.take()) is not None:
            try:
                self._act(subscription_id)
            except SimulatorError as error:  # it was forgotten meanwhile, or cannot go on: the others do
                log.warning("a subscription stands still", subscription=subscription_id, why=str(error))
