"""The alerts: each is complete, asks for metrics that there are, is tried, and has its section in the runbook.

That they fire when they should is deploy/prometheus/alerts_test.yml: run here where there is a promtool, and in
Prometheus' own container by tests/e2e/test_observability.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from deploy.dashboard.purser import WATCHED
from deploy.settings import PROJECT
from tests.support.asked_metrics import unknown

FOLDER = PROJECT / "deploy/prometheus"
RULES = (FOLDER / "alerts.yml").read_text(encoding="utf-8")
TRIALS = (FOLDER / "alerts_test.yml").read_text(encoding="utf-8")
SCRAPES = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")

BODIES = dict(re.findall(r"^      - alert: (\w+)\n((?:(?!      - alert:|  - name:).*\n)*)", RULES, flags=re.MULTILINE))
PROMTOOL = shutil.which("promtool")


def expression(name: str) -> str:
    found = re.search(r"expr: (?:\|\n)?((?:.|\n)*?)\n        (?:for|labels):", BODIES[name])
    assert found is not None, name
    return found[1]


def headings(page: str) -> set[str]:
    """The anchors of a page's headings, as they are made from their words."""
    titles = re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_there_are_alerts() -> None:
    assert len(BODIES) == RULES.count("- alert:") > 20


@pytest.mark.parametrize("name", BODIES)
def test_an_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on(name: str) -> None:
    body = BODIES[name]
    assert re.search(r"^        labels: {severity: (critical|warning)}$", body, flags=re.MULTILINE)
    assert "          summary: " in body
    assert "{{ $" in body.partition("description: ")[2]
    assert f"          runbook: deploy/runbook.md#{name.lower()}\n" in body


@pytest.mark.parametrize("name", BODIES)
def test_an_alert_asks_for_metrics_and_labels_that_there_are(name: str) -> None:
    assert unknown(expression(name)) == []


@pytest.mark.parametrize("name", BODIES)
def test_an_alert_is_tried(name: str) -> None:
    assert re.search(rf"^  - name: .*\b{name}\b", TRIALS, flags=re.MULTILINE)


def test_the_trials_ask_for_metrics_and_labels_that_there_are() -> None:
    series = [text for text in re.findall(r"series: '([^']*)'", TRIALS) if text.startswith("purser_")]
    assert {each: wrong for each in series if (wrong := unknown(each))} == {}


def test_every_process_is_scraped_and_missed_when_it_is_down_or_gone() -> None:
    assert set(re.findall(r"^          - ([\w-]+)$", SCRAPES, flags=re.MULTILINE)) == set(WATCHED)
    assert set(re.findall(r'job=~"([^"]*)"', expression("PurserProcessDown"))[0].split("|")) == set(WATCHED)
    assert sorted(re.findall(r'absent\(up{job="([\w-]+)"}\)', expression("PurserProcessMissing"))) == sorted(WATCHED)


def test_every_alert_has_its_section_in_the_runbook() -> None:
    sections = headings((PROJECT / "deploy/runbook.md").read_text(encoding="utf-8"))
    assert [name for name in BODIES if name.lower() not in sections] == []


@pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool here; tests/e2e/test_observability.py has one")
def test_every_alert_fires_when_it_should_and_only_then() -> None:
    assert PROMTOOL is not None
    tried = subprocess.run(
        [PROMTOOL, "test", "rules", "alerts_test.yml"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert tried.returncode == 0, tried.stdout + tried.stderr
