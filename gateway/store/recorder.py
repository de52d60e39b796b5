"""Group commit: what concurrent requests want recorded goes into one transaction, and each hears when it is durable.

Whoever comes first leads: it records all that waits by then, and hands the lead to the first of those who came in the
meantime. So nobody waits when nobody else is there, no thread of its own is needed, and the more come at once, the less
each costs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, Engine

from shared.bus import journal
from shared.database import DatabaseUnavailable, transact
from shared.events import Draft
from shared.ids import EventId, IdSource

BATCH_MAX: Final = 64
TURN_WITHIN_S: Final = 30.0
"""Far more than two transactions may take, and nobody waits for more than two."""


class Turn:
    """One draft that waits to be recorded, and what became of it."""

    def __init__(
        self, draft: Draft, *, fingerprint: bytes | None, reopen: Sequence[str], repeat: Sequence[str]
    ) -> None:
        self.draft = draft
        self.fingerprint = fingerprint
        self.rules = (tuple(reopen), tuple(repeat))
        self.called = threading.Event()  # it is to lead, or it is done
        self.event_id: EventId | None = None
        self.error: Exception | None = DatabaseUnavailable("it was not recorded")  # until it was
        self.done = False

    def goes_with(self, others: Sequence[Turn]) -> bool:
        """One statement has one set of rules, and each subject once."""
        subjects = {(other.draft.app, other.draft.subject) for other in others}
        return all(self.rules == other.rules for other in others) and (
            (self.draft.app, self.draft.subject) not in subjects
        )


class GroupRecorder:
    """`journal.append_once` for many threads at once. Thread-safe."""

    def __init__(self, *, engine: Engine, ids: IdSource) -> None:
        self._engine = engine
        self._ids = ids
        self._lock = threading.Lock()
        self._waiting: deque[Turn] = deque()
        self._led = False

    def record(self, turn: Turn) -> bool:
        """Durable when it returns. True: recorded now; False: its subject was known.

        Raises DatabaseUnavailable, or what is wrong with this draft alone.
        """
        with self._lock:
            self._waiting.append(turn)
            leads, self._led = not self._led, True
        if not leads and not turn.called.wait(TURN_WITHIN_S):
            self._give_up(turn)
        if not turn.done:
            self._lead()
        if turn.error is not None:
            raise turn.error
        return turn.event_id is not None

    def _give_up(self, turn: Turn) -> None:
        """Raises DatabaseUnavailable, unless it was called at the last moment: the lead must not get lost."""
        with self._lock:
            if turn.called.is_set():
                return
            if turn in self._waiting:
                self._waiting.remove(turn)
        raise DatabaseUnavailable("its turn to be recorded did not come")

    def _lead(self) -> None:
        turns = self._take()
        try:
            self._record(turns)
        finally:
            self._pass_on()
            for turn in turns:
                turn.done = True
                turn.called.set()

    def _take(self) -> list[Turn]:
        """The leader's own turn, which is the first, and those that may go with it."""
        with self._lock:
            taken: list[Turn] = []
            left: deque[Turn] = deque()
            for turn in self._waiting:
                (taken if len(taken) < BATCH_MAX and turn.goes_with(taken) else left).append(turn)
            self._waiting = left
            return taken

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting[0].called.set()
            else:
                self._led = False

    def _record(self, turns: Sequence[Turn]) -> None:
        try:
            self._append(turns)
        except Exception as error:  # noqa: BLE001  told to each request, which answers for it
            if len(turns) == 1 or isinstance(error, DatabaseUnavailable):
                for turn in turns:
                    turn.error = error
                return
            for turn in turns:  # something is wrong with one of them: the others are not to suffer for it
                self._record([turn])

    def _append(self, turns: Sequence[Turn]) -> None:
        reopen, repeat = turns[0].rules

        def append(connection: Connection) -> list[EventId | None]:
            return journal.append_each_once(
                connection,
                [turn.draft for turn in turns],
                ids=self._ids,
                fingerprints=[turn.fingerprint for turn in turns],
                reopen=reopen,
                repeat=repeat,
            )

        for turn, event_id in zip(turns, transact(self._engine, append), strict=True):
            turn.event_id, turn.error = event_id, None
