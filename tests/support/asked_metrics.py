"""What a PromQL expression asks for, compared with the list of our metrics."""

from __future__ import annotations

import re

from shared.metrics.described import METRICS

OF_PROMETHEUS = {"job", "instance"}
OF_OTHERS = {"up": set[str](), "ALERTS": {"alertname", "alertstate"}}
"""What is neither ours nor of prometheus_client's process collector."""
OF_A_BUCKET = {"le"}

NAME = r"\b((?:purser|process)_\w+|up|ALERTS)\b"
SELECTOR = re.compile(NAME + r"(?:{([^}]*)})?")
MATCHER = re.compile(r"(\w+)\s*[=!]~?\s*\"")
GROUPED = re.compile(r"\bby \(([^)]*)\)")


def labels_of(series: str) -> set[str]:
    """The labels of a metric, by the name that stands first; a histogram's buckets have `le` besides."""
    found = SELECTOR.match(series)
    assert found is not None, series
    return _labels(found[1]) or set()


def unknown(expr: str) -> list[str]:
    """The metrics, and the labels of metrics, that it names and that there are not."""
    asked = {(name, label) for name, matchers in _selectors(expr) for label in MATCHER.findall(matchers)}
    names = {name for name, _ in _selectors(expr)}
    missing = [name for name in sorted(names) if _labels(name) is None]
    foreign = [f"{name}{{{label}}}" for name, label in sorted(asked) if label not in (_labels(name) or ())]
    common = set[str]().union(*(_labels(name) or () for name in names))
    return missing + foreign + [f"by ({label})" for label in sorted(_grouping(expr) - common)]


def made_labels(expr: str) -> set[str]:
    """The labels of its result: what the outermost aggregation keeps, but for `le`, which a quantile uses up."""
    first = GROUPED.search(expr)
    return {label.strip() for label in first[1].split(",")} - OF_A_BUCKET if first and _is_outermost(expr) else set()


def _is_outermost(expr: str) -> bool:
    """Whether the first `by` is that of the result. `sum(max by (…) (…))` has none."""
    return re.match(r"(?:time\(\) - |60 \* )?(?:topk\(10, |histogram_quantile\([\d.]+, )*\w+ by \(", expr) is not None


def _selectors(expr: str) -> list[tuple[str, str]]:
    """Each metric's name with what stands in its braces."""
    return SELECTOR.findall(GROUPED.sub("", expr))


def _grouping(expr: str) -> set[str]:
    return {label.strip() for labels in GROUPED.findall(expr) for label in labels.split(",")}


def _labels(name: str) -> set[str] | None:
    """None: there is no such metric."""
    if name in OF_OTHERS:
        return OF_OTHERS[name] | OF_PROMETHEUS
    if name.startswith("process_"):
        return set(OF_PROMETHEUS)
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    known = METRICS.get(name) or METRICS.get(base)
    if known is None or (name != base and known.kind != "histogram"):
        return None
    return {*known.labels, *OF_PROMETHEUS, *(OF_A_BUCKET if name.endswith("_bucket") else ())}
