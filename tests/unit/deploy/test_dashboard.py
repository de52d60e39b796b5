"""The dashboard: it is what the program writes, Grafana's types can hold it, and it asks for metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.dashboard.panels import COLUMNS, Graph, Query, Row, Tile, laid_out
from deploy.dashboard.purser import dashboard
from tests.support.asked_metrics import labels_of, made_labels, unknown
from tests.support.watched import DASHBOARD, interpolated, panels, questions, read_dashboard, variable_queries

UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
PANELS = panels(read_dashboard())


def titled(panel: dict[str, Any]) -> str:
    return str(panel["title"])


def differences(ours: Any, theirs: Any, at: str = "") -> Iterator[str]:
    """What of ours is not in theirs, or is another thing there."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            yield from differences(value, theirs.get(key, "(gone)"), f"{at}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(mine, other, f"{at}[{number}]")
    elif ours != theirs:
        yield f"{at}: {ours!r} became {theirs!r}"


def read_by_grafana(written: dict[str, Any]) -> Any:
    """Read into Grafana's own types, and written again by them: what they do not know is gone."""
    register_default_plugins()
    return json.loads(json.dumps(Dashboard.from_json(json.loads(json.dumps(written))), cls=JSONEncoder))


def test_the_file_is_what_the_program_writes() -> None:
    expected = json.dumps(dashboard(), indent=2) + "\n"
    assert DASHBOARD.read_text(encoding="utf-8") == expected, "run `python -m deploy.dashboard`"


def test_grafanas_types_know_every_field_of_it() -> None:
    assert list(differences(dashboard(), read_by_grafana(dashboard()))) == []


def test_a_field_that_grafana_does_not_know_would_be_seen() -> None:
    written = dashboard()
    written["panels"][1]["fieldConfig"]["defaults"]["noValues"] = "a field's name, misspelt"
    assert len(list(differences(written, read_by_grafana(written)))) == 1


def test_every_line_of_the_grid_is_full_and_no_panel_lies_on_another() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in read_dashboard()["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]
    bottom = max(y for _, y in taken)
    assert set(taken) == {(x, y) for x in range(COLUMNS) for y in range(bottom + 1)}


def test_panels_that_do_not_fit_beside_each_other_go_on_under_the_highest() -> None:
    tile, graph = Tile("tile", "", (Query("up"),), width=16), Graph("graph", "", (Query("up"),), width=8)
    placed = laid_out([Row("row", (tile, graph, tile)), Row("next", (graph,))])
    places = [tuple(each["gridPos"][side] for side in "xywh") for each in placed]
    assert places == [(0, 0, 24, 1), (0, 1, 16, 4), (16, 1, 8, 8), (0, 9, 16, 4), (0, 13, 24, 1), (0, 14, 8, 8)]
    assert [each["id"] for each in placed] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("panel", PANELS, ids=titled)
def test_a_panel_says_what_it_shows_in_which_unit_and_what_it_means_that_there_is_nothing(
    panel: dict[str, Any],
) -> None:
    field = panel["fieldConfig"]["defaults"]
    assert panel["description"].endswith(".")
    assert field["unit"] in UNITS
    assert field["noValue"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert {target["refId"] for target in panel["targets"]} == set("ABC"[: len(panel["targets"])])


@pytest.mark.parametrize("panel", PANELS, ids=titled)
def test_a_series_is_called_by_labels_that_its_query_keeps(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        kept = made_labels(target["expr"])
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) == kept, target["expr"]


def test_every_metric_and_label_that_is_asked_for_is_there() -> None:
    asked = [question.expr for question in questions(read_dashboard())]
    series = [query.removeprefix("label_values(").rpartition(", ")[0] for query in variable_queries(read_dashboard())]
    assert {expr: wrong for expr in [*asked, *series] if (wrong := unknown(expr))} == {}


@pytest.mark.parametrize(
    "expr",
    [
        "sum(rate(purser_acepted_total[1m]))",
        'sum(rate(purser_accepted_total{kinds="receipt"}[1m]))',
        "sum by (kinds) (rate(purser_accepted_total[1m]))",
        "sum by (le) (rate(purser_accepted_total[1m]))",
        "rate(purser_accepted_total_bucket[1m])",
    ],
)
def test_a_misspelt_metric_or_label_would_be_seen(expr: str) -> None:
    assert len(unknown(expr)) == 1


def test_every_variable_holds_values_of_a_label_that_its_metric_has() -> None:
    for query in variable_queries(read_dashboard()):
        series, label = query.removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
        assert label in labels_of(series), query


def test_no_variable_is_left_in_what_prometheus_is_asked() -> None:
    assert [each for each in questions(read_dashboard()) if "$" in interpolated(each.expr)] == []
