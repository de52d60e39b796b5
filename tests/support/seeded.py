"""Ids and randomness that are the same in every run."""

from __future__ import annotations

from random import Random  # noqa: TID251 - this is where tests get their randomness from

from shared.clock import Clock, SystemClock
from shared.ids import Ids


def seeded_ids(seed: int, *, clock: Clock | None = None) -> Ids:
    """Ids that depend on the seed and on the clock (the machine's own if none is given) alone."""
    return Ids(clock or SystemClock(), Random(seed))
