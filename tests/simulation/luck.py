"""All that is left to chance in a run, from its seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random  # noqa: TID251 - a run's own, from its seed
from typing import Literal, TypeVar

from tests.simulation.database import Cut
from tests.simulation.plan import Weather

T = TypeVar("T")

STATEMENTS_MAX = 14
"""A cut comes before one of so many statements; few transactions have more."""


class Luck:
    """What happens next, and whether it goes well."""

    def __init__(self, seed: str, weather: Weather) -> None:
        self._rng = Random(f"{seed}/steps")
        self._weather = weather
        self.struck: Counter[str] = Counter()

    def strikes(self, trouble: str) -> bool:
        """Whether this trouble comes now. Drawn whether it may or not: what else happens does not depend on it."""
        rate = getattr(self._weather, trouble)
        comes = self._rng.random() < rate and self.struck.total() < self._weather.troubles
        if comes:
            self.struck[trouble] += 1
        return comes

    def cut(self) -> Cut | None:
        """How the next transaction is cut off, if it is."""
        if not self.strikes("cut"):
            return None
        kind: Literal["crash", "disconnect"] = self._rng.choice(("crash", "disconnect"))
        if self._rng.random() < 0.5:
            return Cut(kind, committed=self._rng.random() < 0.5)
        return Cut(kind, statement=self._rng.randrange(STATEMENTS_MAX))

    def choice(self, among: Sequence[T]) -> T:
        return self._rng.choice(among)

    def some(self, among: Sequence[T]) -> list[T]:
        """A few of them, one at least."""
        return self._rng.sample(among, self._rng.randint(1, min(6, len(among))))

    def weighted(self, among: Sequence[tuple[float, T]]) -> T:
        """By weight."""
        (chosen,) = self._rng.choices([item for _, item in among], [weight for weight, _ in among])
        return chosen

    def number(self, below: int) -> int:
        return self._rng.randrange(below)

    def between(self, low: float, high: float) -> float:
        return self._rng.uniform(low, high)
