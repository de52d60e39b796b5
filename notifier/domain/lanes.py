"""How much an endpoint is asked at once, by how it has been doing: each has its lane, so that none waits for another.

A lane grows by one call with each message that is taken and halves with each sign that the endpoint is overloaded or
away (additive increase, multiplicative decrease: as TCP finds out what a road can bear). After some failures in a row
it is asked by one message at a time, with pauses that grow to a minute: what waits keeps its attempts for when the
endpoint is back, and the first message that is taken opens the lane again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from notifier.domain.deliveries import Answer

WIDTH_FIRST: Final = 4
FAILURES_TOLERATED: Final = 5
"""In a row. From then on it is probed."""
PAUSE_S_MAX: Final = 60.0
"""Between two probes."""
ASKED_PAUSE_S_MAX: Final = 3600.0
"""An endpoint that asks all to wait (`Retry-After`) is left alone for an hour at most; the one message waits longer."""
OVERLOADED: Final = frozenset({429, 502, 503, 504})
"""Standard Webhooks: these ask to be called less."""
ASKING_ALL: Final = frozenset({429, 503})
"""RFC 6585, section 4, and RFC 9110, section 15.6.4: with these, Retry-After is about the server, not the message."""
_DOUBLINGS_MAX: Final = 30


@dataclass(frozen=True, slots=True)
class Lane:
    """One endpoint, as one process sees it. Times are seconds of the monotonic clock.

    `probe_at_s`: when the next probe may be made; `asked_until_s`: so long it has asked to be left alone.
    """

    width_max: int
    width: int
    failures: int = 0
    probe_at_s: float = -math.inf
    asked_until_s: float = -math.inf

    @classmethod
    def of(cls, calls_at_once: int) -> Lane:
        """A lane of an endpoint that nothing is known of yet."""
        return cls(width_max=calls_at_once, width=min(calls_at_once, WIDTH_FIRST))

    @property
    def is_probed(self) -> bool:
        """Whether it has failed so often that one message at a time finds out whether it is back."""
        return self.failures >= FAILURES_TOLERATED

    def room(self, *, in_flight: int, now_s: float) -> int:
        """How many more calls may be made now."""
        if now_s < max(self.probe_at_s, self.asked_until_s):
            return 0
        return max(0, (1 if self.is_probed else self.width) - in_flight)

    def heard(self, answer: Answer, *, now_s: float) -> Lane:
        """The lane after an answer, or after none."""
        if answer.error is None:  # what it has asked for holds: this one was called before
            return replace(self, width=min(self.width + 1, self.width_max), failures=0, probe_at_s=-math.inf)
        strained = answer.status is None or answer.status in OVERLOADED
        narrowed = replace(
            self,
            width=max(1, self.width // 2) if strained else self.width,
            asked_until_s=max(self.asked_until_s, now_s + _asked_pause_s(answer)),
        )
        if now_s < self.probe_at_s:  # called before the pause began, as those that began it: nothing new
            return narrowed
        failing = replace(narrowed, failures=self.failures + 1)
        return replace(failing, probe_at_s=now_s + failing._probing_pause_s())

    def _probing_pause_s(self) -> float:
        if not self.is_probed:
            return 0.0
        return min(2.0 ** min(self.failures - FAILURES_TOLERATED, _DOUBLINGS_MAX), PAUSE_S_MAX)


def _asked_pause_s(answer: Answer) -> float:
    if answer.status not in ASKING_ALL or answer.retry_after_s is None:
        return 0.0
    return min(answer.retry_after_s, ASKED_PAUSE_S_MAX)
