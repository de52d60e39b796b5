"""`purser entitlements`: what a user may use, as the app is told of it."""

from __future__ import annotations

import click

from deploy.desk import app_option, chosen_app, database, environment_option, json_option, show
from deploy.settings import StackSettings
from shared.clock import SystemClock
from shared.events import Environment
from shared.ids import UserId
from shared.settings import checked_catalog, read


@click.command()
@click.argument("user_id")
@app_option
@environment_option
@json_option
def command(user_id: str, app_id: str | None, environment: Environment, as_json: bool) -> None:
    """What a user may use now, until when and from what, and what has ended: as `GET /v1/users/{u}/entitlements`."""
    from ledger.desk import entitlements_of
    from ledger.domain.entitlements import Holder

    settings = read(StackSettings)
    holder = Holder(chosen_app(settings, app_id).id, environment, UserId(user_id))
    catalog = checked_catalog(settings)
    with database() as run:
        found = entitlements_of(run, holder, catalog=catalog, clock=SystemClock())
    columns = ["id", "name", "active", "until", "source", "version"]
    show(found.entitlements, columns, as_json=as_json, empty=f"{user_id} was never given anything there")
