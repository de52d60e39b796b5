"""What a monitor is told of the audits."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from ledger.api.metrics import metrics_text
from ledger.domain.audit import Newest
from tests.support.ledger import NOW


def samples(newest: Newest | None) -> dict[str, float]:
    families = text_string_to_metric_families(metrics_text(newest).decode())
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_the_newest_audit_is_told_in_numbers() -> None:
    assert samples(Newest(problems=3, finished_at=NOW, duration_s=1.5)) == {
        "purser_ledger_audit_problems": 3,
        "purser_ledger_audit_finished_timestamp_seconds": NOW.timestamp(),
        "purser_ledger_audit_duration_seconds": 1.5,
    }


def test_before_the_first_audit_no_number_is_told() -> None:
    """A zero would say that the books are sound."""
    assert samples(None) == {}
