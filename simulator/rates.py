"""Rate limits as the App Store Server API has them: so many calls a second, for each app and each call."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass

from shared.clock import Clock

_SLACK = 1.1
"""A tenth more than the limit at once: the caller's clock and ours differ, and so do two ways through a network."""


@dataclass(slots=True)
class _Bucket:
    """Calls that may still be made, as of a moment of the monotonic clock."""

    calls: float
    at_s: float


class RateLimits:
    """Token buckets that hold one second's calls. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[Hashable, _Bucket] = {}

    def take(self, key: Hashable, *, per_s: float) -> float:
        """Takes one call of `key`: 0 when it may be made, otherwise the seconds until it may."""
        calls_max = max(1.0, per_s) * _SLACK
        with self._lock:
            now_s = self._clock.monotonic()
            bucket = self._buckets.setdefault(key, _Bucket(calls_max, now_s))
            bucket.calls = min(calls_max, bucket.calls + (now_s - bucket.at_s) * per_s)
            bucket.at_s = now_s
            if bucket.calls < 1:
                return (1 - bucket.calls) / per_s
            bucket.calls -= 1
            return 0.0
