"""What a process is to its supervisor."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deploy.accounts import Account

State = Literal["waiting", "starting", "ready", "restarting", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Spec:
    """One process: how it is started, when it is ready, after whom it starts and how it is stopped.

    It is ready when `ready`, which asks once and answers within a second or two, says so; or when it has made its
    `ready_file`, which is removed before each start; with neither, as soon as it runs. A process that dies, or is not
    ready in time, before it was ready for the first time is not started again: it would die the same way.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path = Path("/")
    account: Account | None = None
    ready: Callable[[], bool] | None = field(default=None, repr=False)
    ready_file: Path | None = None
    ready_within_s: float = 60.0
    depends_on: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a process that died is started again; forgotten once it has been up for a while."""

    first_s: float = 0.2
    most_s: float = 15.0
    forgotten_after_s: float = 60.0

    def delay_s(self, deaths: int) -> float:
        """Doubles with each death in a row, of which this is the n-th (from 1)."""
        return float(min(self.first_s * 2 ** min(deaths - 1, 16), self.most_s))


@dataclass(frozen=True, slots=True)
class Status:
    """What one process is doing now."""

    name: str
    state: State
    pid: int | None
    restarts: int
