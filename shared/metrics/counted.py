"""What is counted as it happens: counters and histograms of this process, on a registry of our own.

Counting costs about a microsecond and never fails; it is done whether or not anybody scrapes.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from typing import Final, Literal, get_args

import prometheus_client
from prometheus_client import CollectorRegistry

from shared.metrics.described import METRICS

Outcome = Literal["handled", "later", "parked", "failed", "dead"]
"""What handling an event came to: it is done; it asked to come again; it waits for an operator; it failed, and comes
again; it has failed too often, and waits for an operator."""

REGISTRY: Final = CollectorRegistry()
"""Holds what is defined here, and nothing of the library's own accord."""

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, of no use here


class Counted:
    """A counter of ours. Thread-safe."""

    def __init__(self, name: str) -> None:
        known = METRICS[name]
        self._counter = prometheus_client.Counter(known.name, known.about, known.labels, registry=REGISTRY)
        self._children: dict[tuple[str, ...], prometheus_client.Counter] = {}

    def add(self, *labels: str, count: float = 1) -> None:
        """Counts; `labels` are the values of the metric's labels, in their order."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._counter.labels(*labels)
        child.inc(count)

    def begin(self, *labels: str) -> None:
        """Has it stand at 0, rather than not at all: Prometheus sees no increase from nothing to 1."""
        self.add(*labels, count=0)


class Timed:
    """A histogram of ours, in seconds. Thread-safe."""

    def __init__(self, name: str) -> None:
        known = METRICS[name]
        self._histogram = prometheus_client.Histogram(
            known.name, known.about, known.labels, buckets=known.buckets_s, registry=REGISTRY
        )
        self._children: dict[tuple[str, ...], prometheus_client.Histogram] = {}

    def add(self, seconds: float, *labels: str) -> None:
        """Adds what took so long; `labels` as `Counted.add` takes them."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._histogram.labels(*labels)
        child.observe(seconds)


HTTP_REQUESTS: Final = Counted("purser_http_requests_total")
HTTP_DURATION: Final = Timed("purser_http_request_duration_seconds")
REFUSED: Final = Counted("purser_refused_total")
ACCEPTED: Final = Counted("purser_accepted_total")
EVENTS_RECORDED: Final = Counted("purser_events_recorded_total")
EVENTS_HANDLED: Final = Counted("purser_events_handled_total")
EVENT_AGE: Final = Timed("purser_event_age_seconds")
VERIFICATIONS: Final = Counted("purser_verifications_total")
STORE_CALLS: Final = Counted("purser_store_calls_total")
STORE_CALL_DURATION: Final = Timed("purser_store_call_duration_seconds")
STORE_RETRIES: Final = Counted("purser_store_retries_total")
LEDGER_AMOUNT: Final = Counted("purser_ledger_amount_total")
WEBHOOK_ATTEMPTS: Final = Counted("purser_webhook_attempts_total")
WEBHOOK_ATTEMPT_DURATION: Final = Timed("purser_webhook_attempt_duration_seconds")
HANDED_OVER: Final = Counted("purser_handed_over_total")
HANDOVERS_FAILED: Final = Counted("purser_handovers_failed_total")


def count_outcome(consumer: str, event_type: str, outcome: Outcome, *, count: int = 1) -> None:
    """Handling so many events has come to this, this time."""
    EVENTS_HANDLED.add(consumer, event_type, outcome, count=count)


def begin_consuming(consumer: str, types: Iterable[str]) -> None:
    """A consumer of these types is about to begin: all that may become of them stands at 0."""
    for event_type in types:
        for outcome in get_args(Outcome):
            EVENTS_HANDLED.begin(consumer, event_type, outcome)


def begin_handing_over(consumers: Iterable[str]) -> None:
    """A courier for these consumers is about to begin."""
    for consumer in consumers:
        HANDED_OVER.begin(consumer)
    for cause in ("broker", "database"):
        HANDOVERS_FAILED.begin(cause)


def count_recorded(types: Iterable[str]) -> None:
    """Events of these types were committed."""
    for event_type, count in Tally(types).items():
        EVENTS_RECORDED.add(event_type, count=count)
