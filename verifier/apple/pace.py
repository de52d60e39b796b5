"""How fast the App Store Server API may be asked: a little slower than Apple allows, so that Apple never has to say so.

Apple's limits are per app, environment and endpoint. Source: developer.apple.com, appstoreserverapi,
identifying-rate-limits; in the sandbox they are a tenth of production's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from shared.clock import Clock
from shared.events import Environment
from shared.ids import AppId


class Endpoint(Enum):
    """What of the Server API we ask."""

    TRANSACTION = "Get Transaction Info"
    HISTORY = "Get Transaction History"
    REFUNDS = "Get Refund History"
    STATUSES = "Get All Subscription Statuses"
    NOTIFICATIONS = "Get Notification History"
    TEST = "Request a Test Notification"
    TEST_STATUS = "Get Test Notification Status"


RATES_PER_S: Final[Mapping[Endpoint, float]] = {
    Endpoint.TRANSACTION: 50,
    Endpoint.HISTORY: 50,
    Endpoint.REFUNDS: 10,
    Endpoint.STATUSES: 50,
    Endpoint.NOTIFICATIONS: 50,
    Endpoint.TEST: 1,
    Endpoint.TEST_STATUS: 1,
}
"""Of production."""

SANDBOX_PART: Final = 0.1

WAIT_S_MAX: Final = 1.0
"""A worker waits so long for its turn; for a later one its event comes again."""


_ROUNDING_S: Final = 1e-6
"""More than what adding up floats gets wrong: nobody is sent to wait for nothing."""


@dataclass(frozen=True, slots=True)
class Lane:
    """What has a rate of its own."""

    app: AppId
    environment: Environment
    endpoint: Endpoint

    @property
    def rate_per_s(self) -> float:
        part = SANDBOX_PART if self.environment == "sandbox" else 1.0
        return RATES_PER_S[self.endpoint] * part


@dataclass(slots=True)
class _State:
    """Monotonic seconds: when a steady stream of requests would be at its next one, and when the lane is open again."""

    next_at_s: float = float("-inf")
    closed_until_s: float = float("-inf")


class Pace:
    """Gives each request its turn, in the order of asking. Thread-safe; the rate is that of all threads together.

    A lane that was quiet lets one second's worth of requests through at once, and keeps to its rate from there (the
    generic cell rate algorithm: all that is kept is one moment). `share` is this process's part of Apple's limits.
    `wait` sleeps for some seconds; it is here for tests, whose clock it moves.
    """

    def __init__(
        self,
        *,
        share: float,
        clock: Clock,
        wait_s_max: float = WAIT_S_MAX,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._share = share
        self._clock = clock
        self._wait_s_max = wait_s_max
        self._wait = wait or threading.Event().wait
        self._lock = threading.Lock()
        self._lanes: dict[Lane, _State] = {}

    def enter(self, lane: Lane) -> float | None:
        """Returns when it is the caller's turn: None. Or at once, when that is too far off: in how many seconds it is,
        and the caller has no turn."""
        wait_s = self._take_turn(lane)
        if wait_s > self._wait_s_max:
            return wait_s
        if wait_s > 0:
            self._wait(wait_s)
            return self._closed_for(lane)
        return None

    def close(self, lane: Lane, *, for_s: float) -> None:
        """Nobody enters for so long, those who wait for their turn neither: the store has said so."""
        with self._lock:
            state = self._lanes.setdefault(lane, _State())
            state.closed_until_s = max(state.closed_until_s, self._clock.monotonic() + for_s)

    def _take_turn(self, lane: Lane) -> float:
        """Seconds until the caller's turn. It is taken unless they are too many."""
        rate_per_s = lane.rate_per_s * self._share
        ahead_s = max(1 - 1 / rate_per_s, 0) + _ROUNDING_S  # one second's worth goes at once, the first included
        with self._lock:
            state = self._lanes.setdefault(lane, _State())
            now_s = self._clock.monotonic()
            turn_s = max(now_s, state.next_at_s - ahead_s, state.closed_until_s)
            if turn_s - now_s <= self._wait_s_max:
                state.next_at_s = max(state.next_at_s, turn_s) + 1 / rate_per_s
        return turn_s - now_s

    def _closed_for(self, lane: Lane) -> float | None:
        with self._lock:
            left_s = self._lanes[lane].closed_until_s - self._clock.monotonic()
        return left_s if left_s > 0 else None
