"""`purser parked`: what could not be handled, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from deploy.desk import OPERATOR, database, json_option, show
from shared.bus.routes import CONSUMERS
from shared.clock import SystemClock
from shared.ids import system_ids

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from shared.bus.parking import Pile
    from shared.ids import EventId

    Run = Callable[[Callable[[Connection], Any]], Any]
    """Runs a function in a transaction of its own."""

PAGE = 500
"""So many are moved in one transaction."""
LESS = "--consumer"
"""What asks the database for less."""

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

    with database(less=LESS) as run:
        rows = run(lambda connection: parking.stuck(connection, consumer=consumer, limit=limit))
        piles = run(lambda connection: parking.piles(connection, consumer=consumer)) if len(rows) == limit else []
    columns = ["event_id", "consumer", "type", "subject", "state", "attempts", "error"]
    show(rows, columns, as_json=as_json, empty="nothing is parked")
    if (total := sum(pile.count for pile in piles)) > len(rows):
        click.echo(f"{len(rows):,} of {total:,}, the oldest; --limit shows more", err=True)
    if rows:
        raise click.exceptions.Exit(1)


@command.command()
@click.argument("event_ids", nargs=-1, type=click.UUID)
@click.option("--all", "everything", is_flag=True, help="All that is stuck (of that consumer).")
@consumer_option
@actor_option
def retry(event_ids: Sequence[UUID], everything: bool, consumer: str | None, actor: str) -> None:
    """Hand these over once more, with all their attempts ahead of them: after you have mended what was wrong.

    --all is what is stuck when it begins, the oldest of each consumer first; it may be interrupted, and called again.
    """
    from shared.bus import parking

    if bool(event_ids) == everything:
        raise click.UsageError("name event ids, or --all")
    with database(less=LESS) as run:
        if everything:
            click.echo(f"{_retry_all(run, consumer=consumer, actor=actor)} due again")
            return
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


def _retry_all(run: Run, *, consumer: str | None, actor: str) -> int:
    """In short transactions, so that nobody waits for them: what was stuck at the beginning, each once. How many."""
    from shared.bus import parking

    piles: Sequence[Pile] = run(lambda connection: parking.piles(connection, consumer=consumer))
    count, tell = 0, _progress(sum(pile.count for pile in piles))
    for pile in piles:
        after: EventId | None = None
        while page := run(partial(parking.stuck_in, pile=pile, after=after, limit=PAGE)):
            count += run(_moving(parking.retry, page, consumer=pile.consumer, actor=actor))
            after = page[-1]
            tell(count)
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    return count


def _progress(total: int) -> Callable[[int], None]:
    """Says on a terminal how far it is, on one line that each new one replaces."""
    if not sys.stderr.isatty():
        return lambda count: None  # noqa: ARG005  nobody watches
    return lambda count: click.echo(f"\r\x1b[K{count:,} of {total:,} due again", err=True, nl=False)


def _moving(
    how: Callable[..., int], event_ids: Sequence[UUID], *, consumer: str | None, actor: str
) -> Callable[[Connection], int]:
    ids, now = system_ids(), SystemClock().now()
    return lambda connection: how(connection, event_ids=event_ids, consumer=consumer, actor=actor, ids=ids, now=now)


def _say(count: int, wanted: Sequence[UUID], done: str) -> None:
    click.echo(f"{count} {done}")
    if count == 0 and wanted:
        raise click.ClickException("none of these is parked")
