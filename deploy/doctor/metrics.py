"""Whether every process tells its metrics, where that is wanted."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.doctor.findings import Finding, ok, warning
from deploy.scraping import Numbers, scrape_all

NAME = "metrics"


def check_metrics(addresses: Mapping[str, str]) -> list[Finding]:
    """`addresses`: `host:port` of each process by its name."""
    told = scrape_all(addresses)
    silent = {name: why for name, why in told.items() if not isinstance(why, Numbers)}
    findings = [
        warning(NAME, f"{name} at {addresses[name]}: {why}", "does it run, and with PURSER_METRICS_PORT?")
        for name, why in silent.items()
    ]
    if len(silent) < len(told):
        findings.append(ok(NAME, f"told by {', '.join(name for name in told if name not in silent)}"))
    return findings
