"""Old proofs leave the journal: receipts, and what stores have signed, once they were kept for long enough.

What was proved stays. Each event is looked at once, the oldest first, a few at a time; one that somebody has still to
handle is passed by and looked at again (journal.remove_proofs in shared/bus/migrations/0005_personal_data.py).
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from shared.clock import Clock
from shared.database import is_unavailable, transact
from shared.log import get_logger

log = get_logger(__name__)

EVERY_S: Final = 3600.0
"""How often to look for what has become old."""
PAUSE_S: Final = 0.25
"""Between two looks while there is more: at most so often a hand-over waits for one."""
ROWS: Final = 1000
"""New events that one look is about, and passed by ones. It takes some hundredths of a second."""

_REMOVE: Final = "select looked, removed from journal.remove_proofs(%(before)s, %(rows)s)"


class ProofRetention:
    """Removes proofs that were recorded longer ago than `kept`; `turn` is to be called now and then."""

    def __init__(self, *, engine: Engine, clock: Clock, kept: timedelta, rows: int = ROWS) -> None:
        self._engine = engine
        self._clock = clock
        self._kept = kept
        self._rows = rows
        self._next_at = -math.inf

    def turn(self) -> None:
        """One look, if it is time for it. Raises DatabaseUnavailable; any other trouble is logged, and comes again."""
        if self._clock.monotonic() < self._next_at:
            return
        looked = self._look()
        self._next_at = self._clock.monotonic() + (PAUSE_S if looked >= self._rows else EVERY_S)

    def _look(self) -> int:
        """How many events were looked at."""
        parameters = {"before": self._clock.now() - self._kept, "rows": self._rows}

        def remove(connection: Connection) -> Any:
            return connection.exec_driver_sql(_REMOVE, parameters).one()

        try:
            looked, removed = transact(self._engine, remove)
        except DBAPIError as error:
            if is_unavailable(error):
                raise
            log.error("old proofs were not removed", error=type(error.orig).__name__)
            return 0
        if removed:
            log.info("old proofs removed", proofs=removed)
        return int(looked)
