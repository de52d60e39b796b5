"""`purser parked`: what could not be handled, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import click

from deploy.desk import OPERATOR, database, json_option, show
from shared.bus.routes import CONSUMERS
from shared.clock import SystemClock
from shared.ids import system_ids

if TYPE_CHECKING:
    from sqlalchemy import Connection

consumer_option = click.option("--consumer", type=click.Choice(list(CONSUMERS)), help="Only this one's.")
actor_option = click.option(
    "--by", "actor", default=OPERATOR, show_default=True, help="Who it is: kept in the timeline."
)


@click.group()
def command() -> None:
    """What was parked by its handler, or is dead after its last attempt. Nothing but you moves it."""


@command.command("list")
@consumer_option
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), help="At most so many, the oldest first.")
@json_option
def list_stuck(consumer: str | None, limit: int, as_json: bool) -> None:
    """What is stuck, why, and after how many attempts. Exit code 1 when there is anything."""
    from shared.bus import parking

    with database() as run:
        rows = run(lambda connection: parking.stuck(connection, consumer=consumer, limit=limit))
    columns = ["event_id", "consumer", "type", "subject", "state", "attempts", "error"]
    show(rows, columns, as_json=as_json, empty="nothing is parked")
    if rows:
        raise click.exceptions.Exit(1)


@command.command()
@click.argument("event_ids", nargs=-1, type=click.UUID)
@click.option("--all", "everything", is_flag=True, help="All that is stuck (of that consumer).")
@consumer_option
@actor_option
def retry(event_ids: Sequence[UUID], everything: bool, consumer: str | None, actor: str) -> None:
    """Hand these over once more, with all their attempts ahead of them: after you have mended what was wrong."""
    from shared.bus import parking

    if bool(event_ids) == everything:
        raise click.UsageError("name event ids, or --all")
    with database() as run:
        if everything:
            stuck = run(lambda connection: parking.stuck(connection, consumer=consumer, limit=10_000))
            event_ids = [one.event_id for one in stuck]
        count = run(_moving(parking.retry, event_ids, consumer=consumer, actor=actor))
    _say(count, event_ids, "due again")


@command.command()
@click.argument("event_ids", nargs=-1, required=True, type=click.UUID)
@consumer_option
@actor_option
@click.confirmation_option(prompt="They will never be handled. Drop them?")
def drop(event_ids: Sequence[UUID], consumer: str | None, actor: str) -> None:
    """Give these up for good. The events themselves stay in the journal."""
    from shared.bus import parking

    with database() as run:
        count = run(_moving(parking.drop, event_ids, consumer=consumer, actor=actor))
    _say(count, event_ids, "dropped")


def _moving(
    how: Callable[..., int], event_ids: Sequence[UUID], *, consumer: str | None, actor: str
) -> Callable[[Connection], int]:
    ids, now = system_ids(), SystemClock().now()
    return lambda connection: how(connection, event_ids=event_ids, consumer=consumer, actor=actor, ids=ids, now=now)


def _say(count: int, wanted: Sequence[UUID], done: str) -> None:
    click.echo(f"{count} {done}")
    if count == 0 and wanted:
        raise click.ClickException("none of these is parked")
