"""`purser timeline`: "why did I not get my coins?" on one screen."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from deploy.desk import app_option, chosen_apps, database, json_option, plain, printable, show
from deploy.settings import StackSettings
from deploy.whereabouts import DAYS, Whereabouts, purchase_whereabouts, whereabouts
from gateway.domain.purchases import parse_purchase_id
from shared.clock import SystemClock
from shared.settings import read

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from deploy.timelines import Line

COLUMNS = ("recorded_at", "type", "says", "after", "user_id", "event_id", "still_to")
SUMMARY = ("created_at", "purchase_id", "transaction_id", "product_id", "status", "why")
SUBJECTS = ("pur_", "sub_", "spd_", "hld_", "grt_", "rfr_")


@click.command()
@click.argument("wanted", metavar="PURCHASE|TRANSACTION|USER|SUBJECT")
@app_option
@click.option(
    "--days",
    default=DAYS,
    show_default=True,
    type=click.IntRange(1, 3650),
    help="How far back unconfirmed claims of a transaction are searched.",
)
@json_option
def command(wanted: str, app_id: str | None, days: int, as_json: bool) -> None:
    """Why did somebody not get their coins?

    A purchase's id (`pur_…`), or a transaction's that only one purchase is about: how it stands and why, and every
    event, oldest first: when, what and after what, and what is still to be delivered. A user's id, or a transaction
    that several have claimed: each purchase with its reason, the newest first.

    Of a subscription (`sub_…`), spend (`spd_…`), hold (`hld_…`) or grant (`grt_…`): every event. A request for a refund
    is in its purchase's.
    """
    from deploy.timelines import timeline_of

    with database() as run:
        found = run(_seeking(wanted, app_id=app_id, days=days))
        if len(found) > 1 or (found and wanted == found[0].user_id):
            _show_all(found, wanted, as_json=as_json)
            return
        subject = found[0].purchase_id if found else wanted
        lines = run(lambda on: timeline_of(on, subject))
    if not lines:
        raise click.ClickException(f"nothing is known of {wanted!r}")
    _show_one(found, lines, as_json=as_json)


def _seeking(wanted: str, *, app_id: str | None, days: int) -> Callable[[Connection], list[Whereabouts]]:
    """What looks for purchases: by their own id, or by whatever else it may be the id of."""
    now = SystemClock().now()
    if (purchase := parse_purchase_id(wanted)) is not None:
        return lambda on: purchase_whereabouts(on, purchase, now=now)
    if wanted.startswith(SUBJECTS):
        return lambda _: []
    apps = [app.id for app in chosen_apps(read(StackSettings), app_id)]
    return lambda on: whereabouts(on, wanted, apps=apps, days=days, now=now)


def _show_one(found: Sequence[Whereabouts], lines: Sequence[Line], *, as_json: bool) -> None:
    if not as_json:
        for one in found:
            about = [one.purchase_id, f"of {one.user_id}", f"transaction {one.transaction_id}"]
            click.echo(printable(", ".join([*about, *filter(None, (one.product_id, one.environment))])))
            click.echo(printable(one.why) + "\n")
    show(lines, COLUMNS, as_json=as_json, empty="")


def _show_all(found: Sequence[Whereabouts], wanted: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([plain(asdict(one)) for one in found], indent=2))
        return
    show(found, SUMMARY, as_json=False, empty="")
    click.echo()
    click.echo(printable(f"{len(found)} of {wanted}; every event of one: `purser timeline pur_…`"))
