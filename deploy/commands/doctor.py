"""`purser doctor`: is what is configured right, does all of it run, and is the App Store reached, both ways?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from deploy.desk import json_option
from deploy.doctor.findings import MARKS, Finding, all_well, summary
from deploy.processes import PROCESSES
from shared.clock import SystemClock


@click.command()
@click.option("--strict", is_flag=True, help="Warnings count as failures.")
@click.option(
    "--gateway", metavar="URL", help="Where the gateway is reached from outside; if not given, its port here."
)
@click.option(
    "--process",
    "processes",
    multiple=True,
    type=click.Choice(list(PROCESSES)),
    help="Check the settings of these only: for a container that has no more than those of its own process.",
)
@click.option("--test-notification", is_flag=True, help="Have the App Store send one, and watch it arrive.")
@click.option("--app", help="The test notification of this app only.")
@click.option(
    "--environment", type=click.Choice(["production", "sandbox"]), help="The test notification of this one only."
)
@click.option(
    "--wait", "wait_s", default=60, show_default=True, type=click.IntRange(1, 3_600), help="Seconds that it may take."
)
@json_option
def command(
    strict: bool,
    gateway: str | None,
    processes: Sequence[str],
    test_notification: bool,
    app: str | None,
    environment: str | None,
    wait_s: int,
    as_json: bool,
) -> None:
    """Check the configuration as the processes read it, what runs, and the way to the App Store and back.

    Each line is a check: ✓ well, ! works but should be looked at, ✗ does not work, – could not be checked. Changes
    nothing; a test notification is recorded like every other. Exit code 0 only when there is no ✗.
    """
    from deploy.doctor import Question, diagnose

    question = Question(
        processes=tuple(processes) or tuple(PROCESSES),
        gateway=None if gateway is None else gateway.rstrip("/"),
        test_notification=test_notification,
        app=app,
        environments=("production", "sandbox") if environment is None else (environment,),  # type: ignore[arg-type]
        wait_s=wait_s,
    )
    if test_notification:
        click.echo(f"the App Store is asked for a test notification; it has {wait_s} s", err=True)
    findings = diagnose(question, clock=SystemClock())
    well = all_well(findings, strict=strict)
    _print(findings, well=well, as_json=as_json)
    if not well:
        raise click.exceptions.Exit(1)


def _print(findings: Sequence[Finding], *, well: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"well": well, "findings": [asdict(finding) for finding in findings]}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from deploy.desk import PIPED_WIDTH

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("check", "", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        cells = (finding.check, MARKS[finding.outcome], finding.found, finding.remedy or "")
        table.add_row(*map(Text, cells))  # as it is: what was found may hold brackets, which rich would read
    console.print(table)
    console.print(f"\n{summary(findings)}")
