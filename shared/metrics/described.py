"""Every metric of ours, by its name: the one list of them.

No label ever holds a user id, a transaction id or a subject: a label's values have to be few, and nobody's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "histogram", "gauge"]

HTTP_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""`?wait=` may take 30 s."""
AGE_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0, 86_400.0)
"""An event is handled within a tenth of a second, and tried for two days when that fails."""
CALL_BUCKETS_S: Final = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 30.0, 60.0)
"""A store answers in 0.2 to 2 s, and has 10; an endpoint has 15, and 60 at most."""


@dataclass(frozen=True, slots=True)
class Described:
    """A metric. Gauges are read at the scrape, and so are counters that the database keeps (`is_read`)."""

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()
    buckets_s: tuple[float, ...] = ()
    is_read: bool = False


def _counter(name: str, about: str, *labels: str) -> Described:
    return Described(name, "counter", about, labels)


def _histogram(name: str, about: str, buckets_s: tuple[float, ...], *labels: str) -> Described:
    return Described(name, "histogram", about, labels, buckets_s)


def _gauge(name: str, about: str, *labels: str) -> Described:
    return Described(name, "gauge", about, labels, is_read=True)


METRICS: Final[Mapping[str, Described]] = {
    each.name: each
    for each in (
        # every HTTP service
        _counter(
            "purser_http_requests_total",
            "Requests that were answered, by the rule that matched.",
            "route",
            "method",
            "status",
        ),
        _histogram(
            "purser_http_request_duration_seconds", "From a request to its answer's head.", HTTP_BUCKETS_S, "route"
        ),
        _counter("purser_refused_total", "Answers that were problem documents, by their code.", "reason"),
        # the gateway
        _counter(
            "purser_accepted_total", "What was taken in, durably (recorded), or had been before.", "kind", "result"
        ),
        # whoever records and handles events
        _counter("purser_events_recorded_total", "Events in the journal, once they were committed.", "type"),
        _counter(
            "purser_events_handled_total", "What handling events came to, each time.", "consumer", "type", "outcome"
        ),
        _histogram(
            "purser_event_age_seconds",
            "From when an event was recorded until it was handled.",
            AGE_BUCKETS_S,
            "consumer",
            "type",
        ),
        # the verifier
        _counter("purser_verifications_total", "What looking at proofs of purchases came to.", "outcome", "code"),
        _counter("purser_store_calls_total", "Calls of the App Store, by what it answered.", "api", "status"),
        _histogram(
            "purser_store_call_duration_seconds", "From a call of the App Store to its answer.", CALL_BUCKETS_S, "api"
        ),
        _counter("purser_store_retries_total", "Questions that the App Store is to be asked again, and why.", "status"),
        # the ledger
        _counter(
            "purser_ledger_amount_total",
            "Currency that came into users' wallets, or left them, in whole units.",
            "direction",
            "environment",
            "currency",
        ),
        _gauge("purser_ledger_audit_problems", "Broken promises that the newest audit of the books found."),
        _gauge("purser_ledger_audit_finished_timestamp_seconds", "When that audit ended."),
        _gauge("purser_ledger_audit_duration_seconds", "How long it took."),
        # webhooks
        _counter("purser_webhook_attempts_total", "Attempts to tell an endpoint.", "app", "endpoint", "outcome"),
        _histogram(
            "purser_webhook_attempt_duration_seconds", "How long an attempt took.", CALL_BUCKETS_S, "app", "endpoint"
        ),
        _gauge("purser_webhook_deliveries", "Deliveries that an endpoint has not taken.", "app", "endpoint", "state"),
        _gauge(
            "purser_webhook_oldest_waiting_seconds",
            "How long the delivery has waited that has waited longest.",
            "app",
            "endpoint",
        ),
        # the courier
        _counter("purser_handed_over_total", "Ids that the broker was given.", "consumer"),
        _counter("purser_handovers_failed_total", "Hand-overs that came to nothing.", "cause"),
        _gauge("purser_deliveries", "Events that a consumer has not handled.", "consumer", "state"),
        _gauge(
            "purser_oldest_unhandled_seconds",
            "Age of the oldest event that is to be handled; parked and dead ones apart.",
            "consumer",
        ),
        _gauge("purser_queue_messages", "Messages that wait on the broker.", "queue"),
        _gauge("purser_broker_unacknowledged_messages", "Messages that workers have and are not done with."),
        _gauge("purser_broker_up", "Whether the broker answered."),
        _gauge("purser_broker_memory_bytes", "Memory that the broker uses."),
        _gauge("purser_broker_memory_max_bytes", "Memory that it may use; 0: as much as there is."),
        # the reconciler
        Described(
            "purser_reconciliation_missed_total",
            "counter",
            "What the App Store had said and never came, since ever.",
            ("app", "environment", "road"),
            is_read=True,
        ),
        _gauge(
            "purser_reconciliation_looked_timestamp_seconds",
            "When all that there was had last been looked through.",
            "app",
            "environment",
            "road",
        ),
        # whoever reads something of it at the scrape
        _gauge("purser_database_up", "Whether the database answered in time."),
        # every process
        _gauge("purser_build_info", "Always 1.", "version", "python"),
    )
}
