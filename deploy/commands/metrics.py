"""`purser metrics`: where each process tells its metrics, and the numbers that say most."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from deploy.desk import json_option, show
from deploy.settings import StackSettings
from shared.settings import read

if TYPE_CHECKING:
    from deploy.scraping import Numbers, Unscraped

COLUMNS = ("process", "address", "answers", "accepted", "recorded", "handled", "parked", "oldest_unhandled_s", "queued")
ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
PORT_MAX = 65_535


@dataclass(frozen=True, slots=True)
class Line:
    """One process. What waits for a consumer is the courier's word, and None where no courier was asked.

    `accepted`, `recorded`, `handled`: since the process started. `parked`: dead ones too.
    """

    process: str
    address: str
    answers: str
    accepted: int | None = None
    recorded: int | None = None
    handled: int | None = None
    parked: int | None = None
    oldest_unhandled_s: float | None = None
    queued: int | None = None


def read_addresses(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, str]:  # noqa: ARG001
    """The host of each `host:port`, by the whole of it: a host may have several. Click's callback."""
    return {value: _host(value) for value in values}


def _host(address: str) -> str:
    parts = ADDRESS.fullmatch(address)
    if parts is None or not 1 <= int(parts["port"]) <= PORT_MAX:
        raise click.BadParameter(f"{address!r} is not HOST:PORT")
    return parts["host"]


@click.command()
@click.option(
    "--at",
    "given",
    multiple=True,
    callback=read_addresses,
    metavar="HOST:PORT",
    help="Ask this process; repeatable. If not given, those of the `purser up` beside.",
)
@json_option
def command(given: Mapping[str, str], as_json: bool) -> None:
    """Show where each process tells its metrics, and how much it accepted, recorded and handled.

    Of consumers also what waits for them. Everything else is for Prometheus: `/metrics` of each address. Exit code 0
    only when all of them answer.
    """
    from deploy.scraping import Numbers, addresses_beside, scrape_all

    processes = given or {address: name for name, address in addresses_beside(read(StackSettings)).items()}
    told = scrape_all({address: address for address in processes})
    numbers = [each for each in told.values() if isinstance(each, Numbers)]
    lines = [_line(name, address, told[address], numbers) for address, name in processes.items()]
    show(lines, COLUMNS, as_json=as_json, empty="nothing was asked")
    if len(numbers) < len(lines):
        raise click.exceptions.Exit(1)


def _line(name: str, address: str, told: Numbers | Unscraped, everybody: Sequence[Numbers]) -> Line:
    from deploy.scraping import Unscraped

    if isinstance(told, Unscraped):
        return Line(name, address, str(told))
    oldest = _first(everybody, "purser_oldest_unhandled_seconds", consumer=name)
    stuck = [_first(everybody, "purser_deliveries", consumer=name, state=state) for state in ("parked", "dead")]
    return Line(
        name,
        address,
        "yes",
        accepted=_whole(told.total("purser_accepted_total", result="recorded")),
        recorded=_whole(told.total("purser_events_recorded_total")),
        handled=_whole(told.total("purser_events_handled_total", outcome="handled")),
        parked=None if None in stuck else _whole(sum(each or 0 for each in stuck)),
        oldest_unhandled_s=None if oldest is None else round(oldest, 1),
        queued=_whole(_first(everybody, "purser_queue_messages", queue=name)),
    )


def _first(everybody: Sequence[Numbers], metric: str, **labels: str) -> float | None:
    """Couriers all say the same."""
    said = (numbers.total(metric, **labels) for numbers in everybody)
    return next((each for each in said if each is not None), None)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
