"""`purser notifications`: what the App Store told us, and what became of it."""

from __future__ import annotations

import click

from deploy.desk import database, json_option, show


@click.command()
@click.option("--type", "notification_type", help="Only this one: REFUND, TEST …")
@click.option("--app", help="An id of the apps file.")
@click.option("--limit", default=20, type=click.IntRange(1, 1_000), help="At most so many.")
@click.option("--days", default=30, type=click.IntRange(1, 3_650), help="Of the last so many days.")
@json_option
def command(notification_type: str | None, app: str | None, limit: int, days: int, as_json: bool) -> None:
    """What the App Store told us, newest first, and what became of it: acted on, recorded, unknown, waiting, parked."""
    from deploy.told import told

    with database(less="a smaller --days") as run:
        rows = run(
            lambda connection: told(connection, limit=limit, app=app, notification_type=notification_type, days=days)
        )
    columns = ["received_at", "app", "environment", "type", "subtype", "notification_id", "became"]
    show(rows, columns, as_json=as_json, empty=f"the App Store has told us nothing in the last {days} days")
