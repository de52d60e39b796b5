"""`purser reconcile`: what the App Store said, and never came here."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, get_args

import click

from deploy.desk import chosen_apps, database, database_engine, json_option, read_since, show
from deploy.errors import StackInvalid
from shared.clock import SystemClock

if TYPE_CHECKING:
    from shared.apps import App, Apps
    from shared.events import Environment
    from verifier.domain.reconciliation import Reconciliation
    from verifier.handlers.reconciling import Observe, Reconciler, Run

CONNECTIONS = 3
"""One to work with, one for the lock of who is at it, and one to wake the courier."""

PATIENCE_S = 30.0
"""So long the process that is at it is waited for."""

COLUMNS = ("app", "environment", "road", "looked_at", "recorded", "missed", "unreadable", "checked_at", "error")
STATUS_COLUMNS = ("app", "environment", "road", "missed", "missed_at", "checked_at", "cursor_at", "error")


@dataclass(frozen=True, slots=True)
class Row:
    """A run, as it is shown. `checked_at` is when it last came to its end."""

    app: str
    environment: str
    road: str
    looked_at: int
    recorded: int
    missed: int
    unreadable: int
    checked_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class StatusRow:
    """How far one of them has come, as it is shown."""

    app: str
    environment: str
    road: str
    missed: int
    missed_at: datetime | None
    checked_at: datetime | None
    cursor_at: datetime | None
    asked_at: datetime | None
    error: str | None
    failing_since: datetime | None


@click.command()
@click.option("--app", "app_id", help="An id of the apps file; all that have an API key if not given.")
@click.option("--environment", type=click.Choice(["production", "sandbox"]), help="Both if not given.")
@click.option(
    "--since",
    callback=read_since,
    help="Look through all that the App Store told us from then on: 7d, 12h, 30m, or an ISO 8601 date. If not given,"
    " from where the last time ended; at first, all that it remembers: 180 days, of the sandbox 30.",
)
@click.option("--status", is_flag=True, help="Ask nothing: show what was found, and when.")
@json_option
def command(
    app_id: str | None, environment: Environment | None, since: datetime | None, status: bool, as_json: bool
) -> None:
    """Ask the App Store what it said, and record what never came here; the process `reconciler` does it by itself.

    By two roads: the notifications that it remembers, and how subscriptions stand that should have renewed. What is
    found is handled like everything that the App Store says. Exit code 0 only when it gave all that it was asked for.
    """
    if status:
        _show_status(as_json=as_json)
        return
    rows = _reconcile(app_id, environment, since)
    show(rows, COLUMNS, as_json=as_json, empty="nothing to ask")
    if any(row.error is not None for row in rows):
        raise click.exceptions.Exit(1)


def _reconcile(app_id: str | None, environment: Environment | None, since: datetime | None) -> list[Row]:
    from deploy.addresses import known_environment
    from deploy.settings import StackSettings
    from shared.database import transact
    from shared.settings import TrustSettings, checked_apps, read
    from shared.trust import jws_verifier
    from verifier.app import reconciler_on, reconciliations
    from verifier.settings import StoreSettings

    stack = read(StackSettings)
    known = known_environment(stack)
    apps = checked_apps(stack, production=stack.production)
    asked = _asked(apps, app_id)
    asking = partial(
        reconciler_on,
        apps=apps,
        settings=read(StoreSettings, known),
        signatures=jws_verifier(read(TrustSettings, known), production=stack.production),
        clock=SystemClock(),
        patience_s=PATIENCE_S,
    )
    with database_engine(connections=CONNECTIONS) as engine, asking(engine) as reconciler:
        runs = _run_all(reconciler, asked, environment, since)
        return list(_rows(runs, reconciliations(partial(transact, engine), apps)))


def _run_all(
    reconciler: Reconciler, apps: Sequence[App], environment: Environment | None, since: datetime | None
) -> list[Run]:
    from verifier.domain.origins import LATE
    from verifier.domain.reconciliation import Road
    from verifier.handlers.reconciling import Errand, environments_of

    errand = Errand(since=since, ahead=LATE, observe=_progress())
    runs = [
        run
        for app in apps
        for road in get_args(Road)
        for run in reconciler.run(
            road,
            app=app,
            environments=[each for each in environments_of(app) if environment in (None, each)],
            errand=errand,
        )
    ]
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    return runs


def _progress() -> Observe:
    """Says on a terminal how far it is, on one line that each new one replaces."""
    if not sys.stderr.isatty():
        return lambda run: None  # noqa: ARG005  nobody watches

    def say(run: Run) -> None:
        where = f"{run.key.app} {run.key.environment} {run.key.road}"
        click.echo(f"\r\x1b[K{where}: {run.looked_at:,} looked at, {run.recorded:,} recorded", err=True, nl=False)

    return say


def _asked(apps: Apps, app_id: str | None) -> Sequence[App]:
    """Those that the App Store can be asked about. Raises StackInvalid when there is none."""
    from verifier.handlers.reconciling import askable

    named = [app for app in apps if app_id in (None, app.id)]
    if not named:
        raise StackInvalid(f"there is no app {app_id!r}; there are: {', '.join(apps.by_id)}")
    found = askable(named)
    if not found:
        names = ", ".join(app.id for app in named)
        raise StackInvalid(f"no API key for {names}: apple.issuer_id, key_id and private_key_file in the apps file")
    return found


def _rows(runs: Sequence[Run], known: Sequence[Reconciliation]) -> Iterator[Row]:
    checked_at: Mapping[object, datetime | None] = {each.key: each.checked_at for each in known}
    for run in runs:
        yield Row(
            app=run.key.app,
            environment=run.key.environment,
            road=run.key.road,
            looked_at=run.looked_at,
            recorded=run.recorded,
            missed=run.missed,
            unreadable=run.unreadable,
            checked_at=checked_at.get(run.key),
            error="another process is at it" if run.skipped else run.error,
        )


def _show_status(*, as_json: bool) -> None:
    from deploy.settings import StackSettings
    from shared.settings import read
    from verifier.app import reconciliations

    apps = chosen_apps(read(StackSettings), None)
    with database() as run:
        rows = [
            StatusRow(
                app=each.key.app,
                environment=each.key.environment,
                road=each.key.road,
                missed=each.missed,
                missed_at=each.missed_at,
                checked_at=each.checked_at,
                cursor_at=each.cursor_at,
                asked_at=each.asked_at,
                error=each.error,
                failing_since=each.failing_since,
            )
            for each in reconciliations(run, apps)
        ]
    show(rows, STATUS_COLUMNS, as_json=as_json, empty="no app has an API key: the App Store is not asked")
