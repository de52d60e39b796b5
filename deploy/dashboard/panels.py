"""The words in which the dashboard is written: queries, tiles, graphs and rows, and how they are laid out.

What they become is Grafana's dashboard model, version 39, which Grafana 10.4 and newer reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

COLUMNS = 24
TILE_HEIGHT = 4
GRAPH_HEIGHT = 8
ROW_HEIGHT = 1
SOURCE: Mapping[str, str] = {"type": "prometheus", "uid": "${datasource}"}

GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and what its series are called: `{{label}}` is that label's value."""

    expr: str
    legend: str = ""

    def as_json(self, ref_id: str, *, instant: bool) -> dict[str, Any]:
        return {
            "refId": ref_id,
            "datasource": dict(SOURCE),
            "expr": self.expr,
            "legendFormat": self.legend or "__auto",
            "instant": instant,
            "range": not instant,
        }


@dataclass(frozen=True, slots=True)
class Levels:
    """The colours of a value: `base`, and from each of the bounds upward that bound's."""

    base: str = BLUE
    bounds: tuple[tuple[float, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        steps = [{"value": None, "color": self.base}, *({"value": at, "color": to} for at, to in self.bounds)]
        return {"mode": "absolute", "steps": steps}


PLAIN = Levels()


def worse(*, orange: float | None = None, red: float | None = None) -> Levels:
    """Green, and the more of it the worse."""
    bounds = ((orange, ORANGE), (red, RED))
    return Levels(GREEN, tuple((at, colour) for at, colour in bounds if at is not None))


class Panel(Protocol):
    """Something with a place on the grid."""

    @property
    def title(self) -> str: ...

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def as_json(self) -> dict[str, Any]:
        """All of it but its id and its place."""


@dataclass(frozen=True, slots=True)
class Tile:
    """What holds now, as one number (or one for each series), in the colour of how well that is.

    It asks for this moment only: what a process said before it ended is never shown as if it still held.
    Where nobody says anything, that is shown in orange. `words` replace numbers.
    """

    title: str
    about: str
    queries: tuple[Query, ...]
    unit: str = "short"
    levels: Levels = PLAIN
    decimals: int | None = None
    words: Mapping[float, str] = field(default_factory=dict)
    nothing: str = "no data"
    width: int = 4
    height: int = TILE_HEIGHT

    def as_json(self) -> dict[str, Any]:
        return {
            **_panel("stat", self.title, self.about, self.queries, instant=True),
            "fieldConfig": {"defaults": self._field(), "overrides": []},
            "options": {
                "colorMode": "background_solid" if self.levels.bounds else "value",
                "graphMode": "none",
                "justifyMode": "center",
                "orientation": "auto",
                "textMode": "value_and_name" if any(query.legend for query in self.queries) else "value",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            },
        }

    def _field(self) -> dict[str, Any]:
        absent = {"match": "null+nan", "result": {"text": self.nothing, "color": ORANGE, "index": 0}}
        replaced = {f"{value:g}": {"text": text, "index": 1} for value, text in self.words.items()}
        return {
            **_unit(self.unit, self.decimals),
            "color": {"mode": "thresholds"},
            "noValue": self.nothing,
            "thresholds": self.levels.as_json(),
            "mappings": [
                {"type": "special", "options": absent},
                *([{"type": "value", "options": replaced}] if replaced else []),
            ],
        }


@dataclass(frozen=True, slots=True)
class Graph:
    """Series over time. The bounds of `levels` are drawn as lines. `nothing` is what it means that there are none."""

    title: str
    about: str
    queries: tuple[Query, ...]
    unit: str = "short"
    levels: Levels = PLAIN
    stacked: bool = False
    nothing: str = "nothing in this time"
    width: int = 8
    height: int = GRAPH_HEIGHT

    def as_json(self) -> dict[str, Any]:
        return {
            **_panel("timeseries", self.title, self.about, self.queries, instant=False),
            "fieldConfig": {"defaults": self._field(), "overrides": []},
            "options": {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull"]},
                "tooltip": {"mode": "multi", "sort": "desc"},
            },
        }

    def _field(self) -> dict[str, Any]:
        return {
            **_unit(self.unit, None),
            "min": 0,
            "color": {"mode": "palette-classic"},
            "noValue": self.nothing,
            "thresholds": self.levels.as_json(),
            "custom": {
                "drawStyle": "line",
                "lineInterpolation": "linear",
                "lineWidth": 1,
                "fillOpacity": 25 if self.stacked else 8,
                "showPoints": "auto",
                "spanNulls": False,
                "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
                "thresholdsStyle": {"mode": "dashed" if self.levels.bounds else "off"},
            },
        }


@dataclass(frozen=True, slots=True)
class Row:
    """A heading, and the panels under it from left to right."""

    title: str
    panels: tuple[Panel, ...]


def laid_out(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Every heading and panel with an id of its own and a place: each row begins on a line of its own."""
    placed: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        heading = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        placed.append(heading | {"gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": ROW_HEIGHT}})
        for panel, place in _places(row.panels, top + ROW_HEIGHT):
            placed.append(panel.as_json() | {"gridPos": dict(place)})
            top = max(top, place["y"] + place["h"])
    return [{"id": number, **each} for number, each in enumerate(placed, start=1)]


def _places(panels: Sequence[Panel], top: int) -> Iterator[tuple[Panel, Mapping[str, int]]]:
    """Side by side while there is room, then on the next line, which begins under the highest of the last."""
    x, line_height = 0, 0
    for panel in panels:
        if x + panel.width > COLUMNS:
            x, top, line_height = 0, top + line_height, 0
        yield panel, {"x": x, "y": top, "w": panel.width, "h": panel.height}
        x, line_height = x + panel.width, max(line_height, panel.height)


def _panel(kind: str, title: str, about: str, queries: Sequence[Query], *, instant: bool) -> dict[str, Any]:
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": dict(SOURCE),
        "targets": [query.as_json(chr(ord("A") + number), instant=instant) for number, query in enumerate(queries)],
    }


def _unit(unit: str, decimals: int | None) -> dict[str, Any]:
    return {"unit": unit} if decimals is None else {"unit": unit, "decimals": decimals}
