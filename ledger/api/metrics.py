"""What the ledger says to a monitor, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from ledger.domain.audit import Newest


def metrics_text(newest: Newest | None) -> bytes:
    """The newest audit that came to its end. Before the first one there is nothing to be told, and so nothing is."""
    registry = CollectorRegistry()
    if newest is not None:
        for name, about, value in (
            ("problems", "Broken promises that the newest audit of the books found.", newest.problems),
            ("finished_timestamp_seconds", "When that audit ended.", newest.finished_at.timestamp()),
            ("duration_seconds", "How long it took.", newest.duration_s),
        ):
            Gauge(f"purser_ledger_audit_{name}", about, registry=registry).set(value)
    return generate_latest(registry)
