"""The clock, injected everywhere, so that a test or a whole-system simulation can own time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where every `now` comes from."""

    def now(self) -> datetime:
        """The wall clock: an aware datetime in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back: for measuring how long something took."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed_s

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._elapsed_s += seconds

    def suspend(self, seconds: float) -> None:
        """The machine sleeps for so long: its monotonic clock stands still (Linux, clock_gettime(2))."""
        self._now += timedelta(seconds=seconds)


def rfc3339(moment: datetime) -> str:
    """`2026-01-31T12:00:00.123Z`: UTC with milliseconds, as every time in the HTTP contract."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_unix_ms(milliseconds: float) -> datetime:
    """A store's time (UNIX milliseconds; Xcode's are floats) as an aware datetime."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def to_unix_ms(moment: datetime) -> int:
    """An aware datetime as a store writes it: UNIX milliseconds."""
    return round(moment.timestamp() * 1000)
