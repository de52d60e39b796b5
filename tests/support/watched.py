"""What Prometheus has been told, asked as Grafana asks it; and the dashboard's panels, as they would be shown."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isnan
from pathlib import Path
from typing import Any, Protocol

import requests

from deploy.settings import PROJECT, inherited_environment
from shared.clock import Clock
from tests.support.compose import BUILD_AND_START_WITHIN_S, Composed

PROFILE = "observability"
DASHBOARD = PROJECT / "deploy/grafana/dashboards/purser.json"
GRAFANA_LOGIN = ("purser", "example-only-password-change-me")
STAND_IN = "purser-test-prometheus"
SPAN = timedelta(minutes=15)
"""The time that the dashboard is looked at for."""
STEP_S = 15
REQUEST_TIMEOUT_S = 15
PULL_WITHIN_S = 300

SCRAPED_EVERY_S = 15
BUILT_IN: Mapping[str, str] = {
    "__rate_interval": f"{4 * SCRAPED_EVERY_S}s",  # Grafana's rule: max(interval + scrape interval, 4 scrape intervals)
    "__interval": f"{STEP_S}s",
    "__range": f"{int(SPAN.total_seconds())}s",
}

Series = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """One query of one panel, with its variables as they are in the file."""

    panel: str
    expr: str
    instant: bool


class Source(Protocol):
    """Who answers a panel's question: Prometheus itself, or Grafana in between."""

    def values(self, question: Question) -> list[float]:
        """All numbers of all series that come back."""


class Prometheus:
    """Asked by its own HTTP API, with the requests that Grafana's data source makes."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url
        self._clock = clock

    def values(self, question: Question) -> list[float]:
        expr = interpolated(question.expr)
        found = self.instant(expr) if question.instant else self.range(expr)
        return [float(value) for series in found for _, value in series.get("values", [series.get("value")])]

    def instant(self, expr: str) -> list[Series]:
        return self._query("query", {"query": expr, "time": _at(self._clock.now())})

    def range(self, expr: str) -> list[Series]:
        now = self._clock.now()
        return self._query("query_range", {"query": expr, "start": _at(now - SPAN), "end": _at(now), "step": STEP_S})

    def label_values(self, query: str) -> list[str]:
        """Of a variable: `label_values(series, label)`."""
        parts = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        assert parts is not None, query
        series, label = interpolated(parts[1]), parts[2]
        values: list[str] = self._get(f"label/{label}/values", {"match[]": series})
        return values

    def targets(self) -> dict[str, list[str]]:
        """How each target of each job does: up, down or unknown."""
        targets: dict[str, list[str]] = {}
        for target in self._get("targets", {"state": "active"})["activeTargets"]:
            targets.setdefault(target["labels"]["job"], []).append(target["health"])
        return targets

    def rules(self) -> list[dict[str, Any]]:
        """The alert rules, with how they do."""
        return [rule for group in self._get("rules", {})["groups"] for rule in group["rules"]]

    def _query(self, kind: str, form: Mapping[str, Any]) -> list[Series]:
        response = requests.post(f"{self._url}/api/v1/{kind}", data=form, timeout=REQUEST_TIMEOUT_S)
        assert response.status_code == 200, f"{form['query']}: {response.text}"
        result: list[Series] = response.json()["data"]["result"]
        return result

    def _get(self, what: str, parameters: Mapping[str, str]) -> Any:
        response = requests.get(f"{self._url}/api/v1/{what}", params=parameters, timeout=REQUEST_TIMEOUT_S)
        assert response.status_code == 200, response.text
        return response.json()["data"]


class Grafana:
    """Asked by its HTTP API, with the login."""

    def __init__(self, url: str) -> None:
        self._url = url

    def values(self, question: Question) -> list[float]:
        query = {
            "refId": "A",
            "datasource": {"type": "prometheus", "uid": "prometheus"},
            "expr": interpolated(question.expr),
            "instant": question.instant,
            "range": not question.instant,
            "intervalMs": STEP_S * 1000,
            "maxDataPoints": 500,
        }
        span = {"from": f"now-{int(SPAN.total_seconds())}s", "to": "now"}
        answer = self._call("POST", "/api/ds/query", {"queries": [query], **span})["results"]["A"]
        assert "error" not in answer, f"{question}: {answer['error']}"
        return [
            value
            for frame in answer["frames"]
            for described, column in zip(frame["schema"]["fields"], frame["data"]["values"], strict=True)
            if described["type"] == "number"
            for value in column
            if value is not None
        ]

    def dashboards(self) -> list[str]:
        """The uids of all there are."""
        return [found["uid"] for found in self._call("GET", "/api/search?type=dash-db")]

    def dashboard(self, uid: str) -> dict[str, Any]:
        found: dict[str, Any] = self._call("GET", f"/api/dashboards/uid/{uid}")["dashboard"]
        return found

    def status_for_a_stranger(self) -> int:
        return requests.get(f"{self._url}/api/search", timeout=REQUEST_TIMEOUT_S).status_code

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        response = requests.request(method, self._url + path, json=body, auth=GRAFANA_LOGIN, timeout=REQUEST_TIMEOUT_S)
        assert response.status_code == 200, response.text
        return response.json()


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those with something in them: no headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def questions(dashboard: Mapping[str, Any]) -> list[Question]:
    """Every query of every panel."""
    return [
        Question(panel["title"], target["expr"], target["instant"])
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]


def variable_queries(dashboard: Mapping[str, Any]) -> list[str]:
    """What the variables' values are looked up by."""
    return [each["query"]["query"] for each in dashboard["templating"]["list"] if each["type"] == "query"]


def interpolated(expr: str) -> str:
    """With every variable's value: of the dashboard's own, All."""
    values = {**BUILT_IN, **{each["name"]: each["allValue"] for each in _query_variables()}}
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expr)


def hungry(asked: Sequence[Question], source: Source) -> list[Question]:
    """The questions that have no answer: no series, or none with a number in it. A zero that is there for want of an
    answer (`or vector(0)`) is none."""
    return [each for each in asked if not _is_fed(source.values(_strict(each)))]


def _is_fed(values: Sequence[float]) -> bool:
    return any(not isnan(value) for value in values)


def _strict(question: Question) -> Question:
    return Question(question.panel, question.expr.removesuffix(" or vector(0)"), question.instant)


def read_dashboard() -> dict[str, Any]:
    """The file that Grafana is given."""
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return dashboard


def _query_variables() -> list[dict[str, Any]]:
    return [each for each in read_dashboard()["templating"]["list"] if each["type"] == "query"]


def _at(moment: datetime) -> float:
    return moment.timestamp()


@dataclass(frozen=True, slots=True)
class Watched:
    """A system with its profile `observability`. `grafana` is None where its image is not to be had."""

    system: Composed
    prometheus: Prometheus
    grafana: Grafana | None
    services: tuple[str, ...]
    """Those that the profile has added."""

    def promtool(self, *arguments: str) -> str:
        """Run in Prometheus' container, beside its configuration."""
        return self.system.run("exec", "--no-TTY", "prometheus", "promtool", *arguments)


@contextlib.contextmanager
def watched(system: Composed, clock: Clock) -> Iterator[Watched]:
    """`docker compose --profile observability up`, and its end.

    With the images that the file names, where the engine has them or can have them. Where it reaches no registry,
    Prometheus is Debian's, and Grafana is left out.
    """
    images = _images(system)
    stand_ins = {name: _stand_in(name) for name, image in images.items() if not _is_to_be_had(image)}
    with _beside(stand_ins) as file:
        files = ("--file", "docker-compose.yml", "--file", str(file), "--profile", PROFILE)
        started = tuple(name for name in images if stand_ins.get(name, "") is not None)
        limit = str(BUILD_AND_START_WITHIN_S)
        system.run(*files, "up", "--build", "--wait", "--wait-timeout", limit, within_s=BUILD_AND_START_WITHIN_S)
        try:
            grafana = Grafana(system.grafana) if "grafana" in started else None
            yield Watched(system, Prometheus(system.prometheus, clock), grafana, started)
        finally:
            system.run(*files, "rm", "--stop", "--force", *started)


def _images(system: Composed) -> dict[str, str]:
    """Of the services of the profile: the images that the file names."""
    services = json.loads(system.run("--profile", PROFILE, "config", "--format", "json"))["services"]
    return {name: each["image"] for name, each in services.items() if PROFILE in each.get("profiles", [])}


def _stand_in(service: str) -> str | None:
    """The image to take instead; None: the service is left out."""
    if service != "prometheus":
        return None
    recipe = (PROJECT / "tests/support/prometheus.Dockerfile").read_text(encoding="utf-8")
    built = _docker("build", "--quiet", "--tag", STAND_IN, "-", text=recipe)
    assert built.returncode == 0, built.stderr
    return STAND_IN


def _is_to_be_had(image: str) -> bool:
    return _docker("image", "inspect", image).returncode == 0 or _docker("pull", "--quiet", image).returncode == 0


@contextlib.contextmanager
def _beside(stand_ins: Mapping[str, str | None]) -> Iterator[Path]:
    """A second compose file, with what takes the place of what cannot be had."""
    lines = [
        f"  {service}: !reset null" if image is None else f"  {service}: {{image: {image}}}"
        for service, image in stand_ins.items()
    ]
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "compose.yml"
        file.write_text("\n".join(["services:" if lines else "services: {}", *lines, ""]), encoding="utf-8")
        yield file


def _docker(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments],
        env=inherited_environment(),
        input=text,
        capture_output=True,
        text=True,
        timeout=PULL_WITHIN_S,
        check=False,
    )
