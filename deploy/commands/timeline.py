"""`purser timeline`: "why did I not get my coins?" on one screen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import click

from deploy.desk import database, json_option, show

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from shared.bus.journal import Pending


@dataclass(frozen=True, slots=True)
class Line:
    """One event, and whom it still has to reach."""

    recorded_at: datetime
    type: str
    user_id: str | None
    event_id: str
    still_to: str


@click.command()
@click.argument("subject")
@json_option
def command(subject: str, as_json: bool) -> None:
    """Every event of a purchase (`pur_…`), subscription (`sub_…`), spend (`spd_…`), hold (`hld_…`) or grant (`grt_…`).

    Oldest first: when, what followed, and what is still to be delivered. A request for a refund is in its purchase's.
    """
    with database() as run:
        lines = run(lambda connection: _lines(connection, subject))
    if not lines:
        raise click.ClickException(f"nothing is known of {subject!r}")
    show(lines, ["recorded_at", "type", "user_id", "event_id", "still_to"], as_json=as_json, empty="")


def _lines(connection: Connection, subject: str) -> list[Line]:
    from shared.bus import journal

    apps = connection.exec_driver_sql(
        "select distinct app from journal.timeline where subject = %(subject)s", {"subject": subject}
    ).scalars()
    heads = [head for app in apps for head in journal.heads(connection, app=app, subjects=[subject])]
    events = [event for head in heads for event in journal.timeline(connection, [head])]
    waiting = journal.pending(connection, [event.id for event in events])
    return [
        Line(
            recorded_at=event.recorded_at,
            type=event.type,
            user_id=event.user_id,
            event_id=str(event.id),
            still_to=", ".join(_still(one) for one in waiting if one.event_id == event.id),
        )
        for event in events
    ]


def _still(pending: Pending) -> str:
    what = f"{pending.consumer} ({pending.state}, {pending.attempts} attempts"
    return f"{what}: {pending.error})" if pending.error else f"{what})"
