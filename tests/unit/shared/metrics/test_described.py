"""The list of metrics: named as Prometheus wants it, explained, and nobody's business in none of their labels."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.metrics.counted import REGISTRY
from shared.metrics.described import METRICS, Described

PAGE = (Path(__file__).resolve().parents[4] / "docs/operating.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## Metrics\n")[2].partition("\n## ")[0]
FEW = {
    *("route", "method", "status", "reason", "kind", "result", "type", "consumer", "outcome", "code", "api"),
    *("direction", "environment", "currency", "app", "endpoint", "state", "cause", "queue", "road"),
    *("version", "python"),
}
"""Labels whose values come from our code, the apps file, the catalogue or a store's documentation: they are few."""


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_metric_is_named_as_prometheus_wants_it(metric: Described) -> None:
    assert re.fullmatch(r"purser_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.name.endswith("_seconds") or metric.kind != "histogram"
    assert set(metric.labels) <= FEW
    assert metric.about.endswith(".")


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_metric_has_its_row_in_the_page_with_its_labels(metric: Described) -> None:
    rows = [line.split("|") for line in SECTION.splitlines() if line.startswith("|")]
    (labels,) = [labels for _, names, labels, *_ in rows if f"`{metric.name}`" in names]
    assert tuple(re.findall(r"`(\w+)`", labels)) == metric.labels


def test_the_page_explains_no_metric_that_there_is_not() -> None:
    assert set(re.findall(r"`(purser_[a-z_]+)`", SECTION)) == set(METRICS)


def test_what_is_counted_as_it_happens_is_on_our_registry_and_nothing_else_is() -> None:
    known = {family.name + ("_total" if family.type == "counter" else "") for family in REGISTRY.collect()}
    assert known == {metric.name for metric in METRICS.values() if not metric.is_read}


def test_gauges_are_read_at_the_scrape() -> None:
    """A gauge that several workers of one server would set has no sum that says anything."""
    assert {metric.is_read for metric in METRICS.values() if metric.kind == "gauge"} == {True}
