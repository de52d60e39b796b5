"""`purser metrics`: where each process tells its metrics, and the numbers that say most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from deploy.desk import json_option, show
from deploy.settings import StackSettings
from shared.settings import read

if TYPE_CHECKING:
    from deploy.scraping import Numbers, Unscraped

COLUMNS = ("process", "address", "answers", "accepted", "recorded", "handled", "parked", "oldest_unhandled_s", "queued")


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


@click.command()
@click.option(
    "--at",
    "given",
    multiple=True,
    metavar="HOST:PORT",
    help="Ask this process; repeatable. If not given, those of the `purser up` beside.",
)
@json_option
def command(given: Sequence[str], as_json: bool) -> None:
    """Show where each process tells its metrics, and how much it accepted, recorded and handled.

    Of consumers also what waits for them. Everything else is for Prometheus: `/metrics` of each address. Exit code 0
    only when all of them answer.
    """
    from deploy.scraping import Numbers, addresses_beside, scrape_all

    addresses = {each.rpartition(":")[0]: each for each in given} or addresses_beside(read(StackSettings))
    told = scrape_all(addresses)
    numbers = [each for each in told.values() if isinstance(each, Numbers)]
    lines = [_line(name, addresses[name], told[name], numbers) for name in addresses]
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
