"""How often something may be done: a bucket that fills steadily, and from which each time takes one.

`120/minute` is 120 at once, and from then on 2 more each second. What is kept of a bucket is one number, the moment at
which it will be full again (the generic cell rate algorithm, ITU-T I.371): one that is full needs none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_RATE: Final = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")
_UNIT_S: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}

_ROUNDING_S: Final = 1e-6
"""What many additions to a clock's seconds may be off by."""

FULL: Final = float("-inf")
"""When a bucket that nothing was taken from was full."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and as many again in each period."""

    amount: int
    period_s: float

    def wait_s(self, full_at_s: float, *, now_s: float) -> float:
        """How long until the bucket has one to take; 0: it has."""
        wait_s = max(full_at_s, now_s) - now_s - (self.period_s - self._interval_s)
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def after_one(self, full_at_s: float, *, now_s: float) -> float:
        """When the bucket is full again once one more was taken."""
        return max(full_at_s, now_s) + self._interval_s

    @property
    def _interval_s(self) -> float:
        return self.period_s / self.amount


def parse_rate(text: str) -> Rate | None:
    """`120/minute`, by the second, minute, hour or day; None for nothing at all: no limit. Raises ValueError."""
    if not text:
        return None
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError("wanted is a number for each second, minute, hour or day, such as 120/minute; or nothing")
    return Rate(int(match[1]), _UNIT_S[match[2]])
