"""One `purser up` per data directory."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

from deploy.errors import StackUnavailable
from shared.clock import Clock

PREDECESSOR_GONE_WITHIN_S = 90.0
"""How long what a killed `purser up` left running may take to stop: PostgreSQL's limit, and some."""
LOOK_EVERY_S = 0.1


class DirectoryLock:
    """A lock on the directory, held as long as `descriptor` is open, here or in a process that it was given to.

    The guardian has it too: a successor of a stack that was killed waits until nothing of that one runs any more.
    Raises StackUnavailable when another stack that lives has it. `tell` is called with a sentence when it waits.
    """

    def __init__(self, data_dir: Path, *, clock: Clock, tell: Callable[[str], None]) -> None:
        self.descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._take(data_dir, clock=clock, tell=tell)
        except BaseException:
            os.close(self.descriptor)
            raise
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """May be called again."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _take(self, data_dir: Path, *, clock: Clock, tell: Callable[[str], None]) -> None:
        began = clock.monotonic()
        told = False
        while not self._taken():
            holder = os.pread(self.descriptor, 32, 0).decode()
            if not holder.isdigit() or _lives(int(holder)) or clock.monotonic() - began > PREDECESSOR_GONE_WITHIN_S:
                raise StackUnavailable(
                    f"Another `purser up` (process {holder or 'unknown'}) uses {data_dir}: "
                    "stop it, or set PURSER_DATA_DIR to another directory"
                )
            if not told:
                tell(f"waiting for what process {holder} left running when it was killed")
                told = True
            threading.Event().wait(LOOK_EVERY_S)

    def _taken(self) -> bool:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
