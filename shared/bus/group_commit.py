"""Group commit: what several threads want written at once goes into one transaction, and each hears of its own.

Whoever comes first leads: it writes all that waits by then, and hands the lead to the first of those who came in the
meantime. So nobody waits when nobody else is there, no thread of its own is needed, and the more come at once, the less
each costs. While it writes, it is where all of them are (`shared.trail`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from shared import trail
from shared.database import DatabaseUnavailable, is_unavailable

BATCH_MAX: Final = 64
TURN_WITHIN_S: Final = 30.0
"""Far more than the few transactions take that one waits for. Who gives up may have been written all the same: what
is submitted has to be harmless when it comes again."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Turn(Generic[Item, Result]):
    """One item that waits, and what became of it."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.places = trail.places()
        self.called = threading.Event()  # it is to lead, or it is done
        self.results: Sequence[Result] = ()  # one, once there is one
        self.error: Exception | None = DatabaseUnavailable("it was not written")  # until it was
        self.done = False  # its batch was written, or failed
        self.alone = False  # it failed, and the item is to be written by itself


class GroupCommit(Generic[Item, Result]):
    """Runs `write` on the items of many threads at once. Thread-safe.

    `write` is one transaction: a result for each item, in their order. When it fails, each item is written alone, by
    its own thread and all at once: one that cannot be written does not take the others with it, and one that has to
    wait until it fails (for a lock, say) does not keep them waiting. `may_join` says whether an item goes into a batch
    with those that are in it already.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        may_join: Callable[[Item, Sequence[Item]], bool],
    ) -> None:
        self._write = write
        self._may_join = may_join
        self._lock = threading.Lock()
        self._waiting: deque[_Turn[Item, Result]] = deque()
        self._led = False

    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    def submit(self, item: Item) -> Result:
        """Written when it returns. Raises DatabaseUnavailable, or what is wrong with this item alone."""
        turn: _Turn[Item, Result] = _Turn(item)
        with self._lock:
            self._waiting.append(turn)
            leads, self._led = not self._led, True
        if not leads and not turn.called.wait(TURN_WITHIN_S):
            self._give_up(turn)
        if not turn.done:
            self._lead(turn)
        if turn.alone:
            self._run([turn])
        if turn.error is not None:
            raise turn.error
        return turn.results[0]

    def _give_up(self, turn: _Turn[Item, Result]) -> None:
        """Raises DatabaseUnavailable, unless it was called at the last moment: the lead must not get lost."""
        with self._lock:
            if turn.called.is_set():
                return
            if turn in self._waiting:
                self._waiting.remove(turn)
        raise DatabaseUnavailable("its turn to be written did not come")

    def _lead(self, own: _Turn[Item, Result]) -> None:
        turns = [own]
        try:
            turns = self._take()
            self._run(turns)
        finally:
            self._pass_on(own)
            for turn in turns:
                turn.done = True
                turn.called.set()

    def _take(self) -> list[_Turn[Item, Result]]:
        """The leader's own turn, which is the first, and those that may go with it."""
        with self._lock:
            taken: list[_Turn[Item, Result]] = []
            left: deque[_Turn[Item, Result]] = deque()
            for turn in self._waiting:
                joins = len(taken) < BATCH_MAX and self._may_join(turn.item, [each.item for each in taken])
                (taken if joins else left).append(turn)
            self._waiting = left
            return taken

    def _pass_on(self, own: _Turn[Item, Result]) -> None:
        with self._lock:
            if own in self._waiting:  # who goes with it could not be told
                self._waiting.remove(own)
            if self._waiting:
                self._waiting[0].called.set()
            else:
                self._led = False

    def _run(self, turns: Sequence[_Turn[Item, Result]]) -> None:
        try:
            with trail.at(*(place for turn in turns for place in turn.places)):
                results = self._write([turn.item for turn in turns])
        except Exception as error:  # noqa: BLE001  told to each thread, which answers for it
            for turn in turns:
                turn.error = error
                turn.alone = len(turns) > 1 and not is_unavailable(error)
            return
        for turn, result in zip(turns, results, strict=True):
            turn.results, turn.error = [result], None
