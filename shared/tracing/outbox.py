"""Where spans wait to be told: a bounded queue, and a thread of its own behind it. Whoever puts one in never waits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from shared.clock import Clock
from shared.log import get_logger
from shared.tracing import Span

log = get_logger(__name__)

QUEUE_MAX: Final = 4096
"""Of more the oldest are lost: a few megabytes, and some seconds of a busy system."""
BATCH_MAX: Final = 512
PAUSE_S: Final = 1.0
"""So long spans are collected, unless there is a batch of them sooner."""
STOP_WITHIN_S: Final = 3.0
"""What waits when the process ends is told within this, or not at all."""
COMPLAIN_EVERY_S: Final = 60.0


class CollectorUnavailable(Exception):
    """The collector did not take them."""


class Collector(Protocol):
    """Who is told. Used by one thread."""

    def tell(self, spans: Sequence[Span]) -> None:
        """Raises CollectorUnavailable, within a time that is set."""
        ...


class Outbox:
    """Tells what is put into it, soon. Thread-safe. Its thread starts with the first span."""

    def __init__(self, collector: Collector, *, clock: Clock) -> None:
        self._collector = collector
        self._clock = clock
        self._waiting: deque[Span] = deque()
        self._lock = threading.Lock()
        self._worth_it = threading.Event()  # a batch is there, or it is time to end
        self._closed = False
        self._thread: threading.Thread | None = None
        self._lost = 0
        self._complained_at_s = -COMPLAIN_EVERY_S

    def put(self, span: Span) -> None:
        """Never waits, and never fails."""
        with self._lock:
            self._waiting.append(span)
            if len(self._waiting) > QUEUE_MAX:
                self._waiting.popleft()
                self._lost += 1
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
                self._thread.start()
            if len(self._waiting) >= BATCH_MAX:
                self._worth_it.set()

    def close(self) -> None:
        """Has the rest told. What is not by STOP_WITHIN_S is lost."""
        self._closed = True
        self._worth_it.set()
        if self._thread is not None:
            self._thread.join(STOP_WITHIN_S)

    def _run(self) -> None:
        while not self._closed:
            self._worth_it.wait(PAUSE_S)
            self._worth_it.clear()
            while spans := self._some():
                self._tell(spans)

    def _some(self) -> list[Span]:
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]

    def _tell(self, spans: Sequence[Span]) -> None:
        try:
            self._collector.tell(spans)
        except CollectorUnavailable as error:
            self._lost += len(spans)
            reason = str(error)
        else:
            reason = "more were made than the collector takes"
        if self._lost and self._clock.monotonic() - self._complained_at_s >= COMPLAIN_EVERY_S:
            log.warning("spans are lost", spans=self._lost, reason=reason)
            self._lost, self._complained_at_s = 0, self._clock.monotonic()
