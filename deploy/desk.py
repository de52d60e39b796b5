"""What the operator's commands share: the app that is meant, the database as its owner, and output for people (a table)
or programs (JSON)."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args
from uuid import UUID

import click

from deploy.addresses import recalled_database_url
from deploy.errors import StackInvalid, StackUnavailable
from deploy.settings import StackSettings
from shared.apps import App
from shared.clock import SystemClock, rfc3339
from shared.events import Environment
from shared.settings import checked_apps, read

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

T = TypeVar("T")

OPERATOR: Final = "operator"
"""Who somebody at the command line is, unless they say."""
PIPED_WIDTH = 1000
"""Of a table that nobody looks at: a row is one line, so that grep finds whole rows."""


def read_since(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:  # noqa: ARG001
    """A moment: `7d`, `12h` or `30m` ago, or an ISO 8601 date (and time; UTC if it does not say). Click's callback."""
    if value is None:
        return None
    if ago := re.fullmatch(r"(\d{1,5})([dhm])", value):
        unit = {"d": "days", "h": "hours", "m": "minutes"}[ago[2]]
        return SystemClock().now() - timedelta(**{unit: int(ago[1])})
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is neither like 7d, 12h, 30m nor an ISO 8601 date") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")
app_option = click.option("--app", "app_id", help="An id of the apps file; the only one if not given.")
environment_option = click.option(
    "--environment", type=click.Choice(get_args(Environment)), default="production", show_default=True
)


def chosen_app(settings: StackSettings, app_id: str | None) -> App:
    """The app of this id; without one, the only one that there is. Raises StackInvalid."""
    found = chosen_apps(settings, app_id)
    if len(found) > 1:
        raise StackInvalid(f"name one of the apps with --app: {', '.join(app.id for app in found)}")
    return found[0]


def chosen_apps(settings: StackSettings, app_id: str | None) -> list[App]:
    """The app of this id; without one, all. Raises StackInvalid."""
    apps = checked_apps(settings, production=settings.production)
    found = [app for app in apps if app_id in (None, app.id)]
    if not found:
        raise StackInvalid(f"there is no app {app_id!r}; there are: {', '.join(apps.by_id)}")
    return found


@contextmanager
def database(*, less: str | None = None) -> Iterator[Callable[[Callable[[Connection], T]], T]]:
    """Runs functions in transactions of their own on the configured or embedded database, as its owner.

    `less`: which option asks for less, for who hears that it was too much. Raises StackUnavailable when the database
    cannot be reached, or does not answer in time.
    """
    from shared.database import transact

    with database_engine(less=less) as engine:
        yield lambda work: transact(engine, work)


@contextmanager
def database_engine(*, connections: int = 1, timeout_s: int | None = None, less: str | None = None) -> Iterator[Engine]:
    """The same database, for who needs more than one connection to it, or statements that take longer than those of the
    services (`timeout_s`). Raises StackUnavailable, likewise."""
    from sqlalchemy.exc import SQLAlchemyError

    from shared.database import STATEMENT_TIMEOUT_S, DatabaseUnavailable, connect_engine, is_busy, is_unavailable

    url = recalled_database_url(read(StackSettings))
    limit_s = timeout_s or STATEMENT_TIMEOUT_S
    engine = connect_engine(url, role=None, pool_size=connections, application_name="purser", timeout_s=limit_s)
    try:
        with _quiet_logs():
            yield engine
    except (DatabaseUnavailable, SQLAlchemyError) as error:
        if is_unavailable(error):
            raise StackUnavailable("PURSER_DATABASE_URL: the database cannot be reached") from error
        if is_busy(error):
            helps = "try again when it is less busy" if less is None else f"{less} asks it for less"
            raise StackUnavailable(f"the database did not answer within {limit_s} s: {helps}") from error
        raise
    finally:
        engine.dispose()


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """What services log while a command does their work: warnings, and where nobody takes them for its output."""
    import structlog

    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def show(rows: Sequence[Any], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """Rows (dataclasses) as a table with these columns, or all of each as JSON."""
    if as_json:
        click.echo(json.dumps([plain(asdict(row)) for row in rows], indent=2))
        return
    if not rows:
        click.echo(empty)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # an event id is there to be copied, whole
        table.add_column(column.replace("_", " "), overflow="fold", no_wrap=column == "event_id")
    for row in rows:
        # as it is: an error or a user's id may hold brackets, which rich would read as markup
        table.add_row(*(Text(printable(_cell(getattr(row, column)))) for column in columns))
    console.print(table)


def printable(text: str) -> str:
    """The text on one line, with what would work the terminal that shows it escaped: a stranger's server may have
    written it."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def plain(value: Any) -> Any:
    """The value as JSON can have it: times as RFC 3339, ids as text."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return _cell(value) if isinstance(value, UUID | datetime) else value


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
