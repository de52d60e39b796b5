"""`purser timeline`: "why did I not get my coins?" on one screen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from deploy.desk import chosen_app, database, json_option, plain, printable, show
from deploy.settings import StackSettings
from shared.clock import SystemClock, rfc3339
from shared.settings import read

if TYPE_CHECKING:
    from deploy.timelines import Line
    from deploy.whereabouts import Found, Whereabouts

COLUMNS = ("recorded_at", "type", "says", "after", "user_id", "event_id", "still_to")
COLUMNS_OF_SEVERAL = ("recorded_at", "type", "subject", "says", "after", "event_id", "still_to")
SUMMARY = ("created_at", "purchase_id", "transaction_id", "product_id", "status", "why")


@click.command()
@click.argument("wanted", metavar="PURCHASE|TRANSACTION|USER|SUBJECT")
@click.option("--app", "app_id", help="An id of the apps file: only what is this one's.")
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(1, 1_000),
    help="At most so many purchases of a user, the newest first.",
)
@click.option(
    "--days",
    default=30,
    show_default=True,
    type=click.IntRange(1, 3650),
    help="How far back claims of a transaction are searched that no store has confirmed.",
)
@click.option(
    "--wait",
    "within_s",
    default=10,
    show_default=True,
    type=click.IntRange(0, 3600),
    help="Seconds that this search may take.",
)
@json_option
def command(wanted: str, app_id: str | None, limit: int, days: int, within_s: int, as_json: bool) -> None:
    """Why did somebody not get their coins?

    A purchase's id (`pur_…`), or a transaction's that only one purchase is about: how it stands and why, and every
    event, oldest first: when, what and after what, and what is still to be delivered. A user's id, or a transaction
    that several have claimed: each purchase with its reason, the newest first.

    Of a subscription (`sub_…`), spend (`spd_…`), hold (`hld_…`) or grant (`grt_…`), and of a user who has bought
    nothing: every event. A request for a refund (`rfr_…`) is in its purchase's.

    For programs: {"purchases": […], "purchases_total": …, "events": […]}, whatever was asked for.
    """
    from deploy.timelines import timeline_of
    from deploy.whereabouts import Sought, find, recorded_apps

    named = None if app_id is None else chosen_app(read(StackSettings), app_id).id
    with database(less="a smaller --limit") as run:
        apps = run(recorded_apps) if named is None else [named]
        found = find(run, Sought(wanted, apps, limit=limit, days=days, within_s=within_s), clock=SystemClock())
        lines = run(lambda on: timeline_of(on, found.heads))
    if not found.purchases and not lines:
        raise click.ClickException(f"nothing is known of {printable(wanted)!r}{_unsearched(found)}")
    if as_json:
        _print(found, lines)
    elif found.heads:
        _show_events(found, lines, wanted)
    else:
        _show_purchases(found, wanted)
    if unsearched := _unsearched(found):
        click.echo(unsearched.removeprefix("; "), err=True)


def _print(found: Found, lines: Sequence[Line]) -> None:
    document = {
        "purchases": [asdict(one) for one in found.purchases],
        "purchases_total": found.total,
        "events": [asdict(line) for line in lines],
    }
    click.echo(json.dumps(plain(document), indent=2))


def _show_events(found: Found, lines: Sequence[Line], wanted: str) -> None:
    for one in found.purchases:
        _say_purchase(one)
    if found.timelines > 1:
        shown = _so_many(len(found.heads), found.timelines, "thing")
        click.echo(printable(f"no purchase of {wanted}; the events of {shown}:") + "\n")
    show(lines, COLUMNS if found.timelines == 1 else COLUMNS_OF_SEVERAL, as_json=False, empty="")


def _say_purchase(one: Whereabouts) -> None:
    about = [one.purchase_id, f"of {one.user_id}", f"transaction {one.transaction_id}"]
    click.echo(printable(", ".join([*about, *filter(None, (one.product_id, one.environment))])))
    click.echo(printable(one.why) + "\n")


def _show_purchases(found: Found, wanted: str) -> None:
    show(found.purchases, SUMMARY, as_json=False, empty="")
    click.echo()
    shown = _so_many(len(found.purchases), found.total, "purchase")
    click.echo(printable(f"{wanted}: {shown}; every event of one: `purser timeline pur_…`"))


def _so_many(shown: int, total: int, things: str) -> str:
    """`1 purchase`, `2 purchases`, or `the newest 20 of 200 purchases (--limit shows more)`."""
    if shown < total:
        return f"the newest {shown:,} of {total:,} {things}s (--limit shows more)"
    return f"{total:,} {things}" if total == 1 else f"{total:,} {things}s"


def _unsearched(found: Found) -> str:
    """How far back claims were searched, if that is not as far as was wanted."""
    if found.claims_since is None:
        return ""
    back_to = rfc3339(found.claims_since)
    return f"; claims that no store has confirmed were searched back to {back_to} only: --wait 600 searches for longer"
