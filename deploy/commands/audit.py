"""`purser audit`: are the books what they promise to be?"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from deploy.desk import PIPED_WIDTH, database, json_option, read_since
from shared.clock import SystemClock, rfc3339

if TYPE_CHECKING:
    from ledger.domain.audit import Report


@click.command()
@click.option(
    "--since",
    callback=read_since,
    help="Leave out transfers, spends, holds and events from before: 7d, 12h, 30m, or an ISO 8601 date. Wallets and"
    " accounts are looked at whole.",
)
@json_option
def command(since: datetime | None, as_json: bool) -> None:
    """Compute the ledger's books again from what is written down, and name what is off.

    For a system that runs: it reads page by page, and holds nobody up. Exit code 0 only when nothing is off. The result
    is kept, and told as a metric, unless it is of a part (--since).
    """
    from ledger.app import audit_books

    with database() as run:
        report = audit_books(run, clock=SystemClock(), since=since, observe=_progress())
    if as_json:
        click.echo(json.dumps(_document(report), indent=2))
    else:
        _show(report)
    if not report.clean:
        raise click.exceptions.Exit(1)


def _progress() -> Callable[[str, int], None]:
    """Says on a terminal how far it is, on one line that each new one replaces."""
    if not sys.stderr.isatty():
        return lambda walk, rows: None  # noqa: ARG005  nobody watches
    return lambda walk, rows: click.echo(f"\r\x1b[K{rows:,} {walk}", err=True, nl=False)


def _document(report: Report) -> dict[str, Any]:
    return {
        "clean": report.clean,
        "started_at": rfc3339(report.started_at),
        "finished_at": rfc3339(report.finished_at),
        "checked": dict(report.checked),
        "problems": report.problems,
        "findings": [asdict(finding) for finding in report.findings],
        "refunds_waiting": report.refunds_waiting,
        "waiting": [asdict(waiting) for waiting in report.waiting],
    }


def _show(report: Report) -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    duration_s = (report.finished_at - report.started_at).total_seconds()
    looked_at = ", ".join(f"{rows:,} {walk}" for walk, rows in report.checked.items())
    click.echo(f"looked at {looked_at}; in {duration_s:.1f} s")
    _show_waiting(report)
    if report.clean:
        click.echo("the books are sound")
        return
    _show_findings(report)


def _show_waiting(report: Report) -> None:
    if report.refunds_waiting:
        click.echo(f"{report.refunds_waiting} refunds wait for their purchase; no fault:")
        for waiting in report.waiting:
            percentage = f"{waiting.refunded_milli / 1000:g} %"
            click.echo(f"  {waiting.app} {waiting.store} {waiting.environment} {waiting.transaction_id}: {percentage}")
        _more(report.refunds_waiting - len(report.waiting))


def _show_findings(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ledger.domain.audit import PROMISES

    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("check", "what", "found", "expected", "promised"):
        table.add_column(column, overflow="fold")
    for finding in report.findings:
        cells = (finding.check, _named(finding.thing), finding.found, finding.expected, PROMISES[finding.check])
        table.add_row(*map(Text, cells))  # as it is: an id may hold brackets, which rich would read as markup
    console.print(table)
    _more(report.problems - len(report.findings))
    click.echo(f"{report.problems} of the books' promises are broken")


def _named(thing: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in thing.items() if value is not None)


def _more(count: int) -> None:
    if count:
        click.echo(f"  … and {count} more")
