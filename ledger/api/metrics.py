"""What the ledger says to a monitor, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import generate_latest
from prometheus_client.registry import Collector

from ledger.domain.audit import Newest
from shared.metrics.read import Family, family


def metrics_text(newest: Newest | None) -> bytes:
    """The newest audit that came to its end. Before the first one there is nothing to be told, and so nothing is."""
    return generate_latest(_Audit(newest))


class _Audit(Collector):
    def __init__(self, newest: Newest | None) -> None:
        self._newest = newest

    def collect(self) -> Iterator[Family]:
        if self._newest is not None:
            yield family("purser_ledger_audit_problems", {(): self._newest.problems})
            ended = self._newest.finished_at.timestamp()
            yield family("purser_ledger_audit_finished_timestamp_seconds", {(): ended})
            yield family("purser_ledger_audit_duration_seconds", {(): self._newest.duration_s})
