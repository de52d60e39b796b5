"""What is read at the scrape: from the database, from the broker. Bounded, and no scrape waits for what does not come.

What is read is a function that returns `family(name, {labels: value})` for each metric; `ReadAtScrape` calls it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.clock import Clock
from shared.log import get_logger
from shared.metrics.described import METRICS

log = get_logger(__name__)

KEPT_S: Final = 4.0
"""Scrapes that come closer together than this see the same numbers."""
READ_WITHIN_S: Final = 2.0
"""A scrape has 10 s by default, and may read from two places."""

DATABASE_UP: Final = "purser_database_up"
BROKER_UP: Final = "purser_broker_up"

Labels = TypeVar("Labels", bound=tuple[str, ...])
Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily
Read = Callable[[], Sequence[Family]]


def family(name: str, values: Mapping[Labels, float]) -> Family:
    """A metric with its values, by the values of its labels; a metric without labels has one, at `()`."""
    known = METRICS[name]
    kind = CounterMetricFamily if known.kind == "counter" else GaugeMetricFamily
    made = kind(known.name, known.about, labels=known.labels)
    for labels, value in values.items():
        made.add_metric(labels, value)
    return made


class ReadAtScrape(Collector):
    """Reads when it is scraped, on a thread of its own, and gives it up after `READ_WITHIN_S`.

    `up`: the metric that says whether it came. What did not come is not told: the numbers of before would be no truth.
    Whatever `read` raises is logged, and means that it did not come. A read that hangs is waited for by the next
    scrapes too; no second one begins beside it.
    """

    def __init__(self, read: Read, *, up: str, clock: Clock) -> None:
        self._read = read
        self._up = up
        self._clock = clock
        self._lock = threading.Lock()
        self._reading: _Reading | None = None

    def collect(self) -> Iterator[Family]:
        found = self._newest().wait(READ_WITHIN_S)
        yield family(self._up, {(): float(found is not None)})
        yield from found or ()

    def _newest(self) -> _Reading:
        with self._lock:
            now_s = self._clock.monotonic()
            if self._reading is None or self._reading.is_over(now_s):
                self._reading = _Reading(self._read, began_s=now_s)
            return self._reading


class _Reading:
    """One read, on its thread."""

    def __init__(self, read: Read, *, began_s: float) -> None:
        self._read = read
        self._began_s = began_s
        self._found: Sequence[Family] | None = None
        self._done = threading.Event()
        threading.Thread(target=self._run, name="read-at-scrape", daemon=True).start()

    def wait(self, within_s: float) -> Sequence[Family] | None:
        """What was found; None when that takes too long, or cannot be read."""
        return self._found if self._done.wait(within_s) else None

    def is_over(self, now_s: float) -> bool:
        """Whether another is to begin: this one has ended, and what it found is old."""
        return self._done.is_set() and now_s - self._began_s > KEPT_S

    def _run(self) -> None:
        try:
            self._found = self._read()
        except Exception as error:  # noqa: BLE001  the thread's edge: a scrape answers with the rest
            log.warning("metrics cannot be read", error=type(error).__name__)
        finally:
            self._done.set()
