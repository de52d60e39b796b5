"""What this process has counted, and what a running one tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deploy.scraping import Numbers, Unscraped, scrape
from shared.metrics.counted import REGISTRY


@dataclass(frozen=True, slots=True)
class Counting:
    """How much a metric of this process has grown since a moment: others count in the same process too."""

    metric: str
    labels: dict[str, str]
    before: float

    @property
    def so_far(self) -> float:
        return _counted(self.metric, self.labels) - self.before


def counting(metric: str, **labels: str) -> Counting:
    """Counts from now on. `metric` is a counter's name, or a histogram's with `_count` or `_sum` behind it."""
    return Counting(metric, labels, _counted(metric, labels))


def _counted(metric: str, labels: dict[str, str]) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0.0


def told(address: str) -> Callable[..., float | None]:
    """`Numbers.total` of what the process at `host:port` tells now; nothing is told while it does not answer."""
    try:
        return scrape(address).total
    except Unscraped:
        return Numbers([]).total
