"""`purser catalog check`: whether the apps and the catalogue can be used, before a process refuses to start."""

from __future__ import annotations

import json

import click

from deploy.desk import json_option
from deploy.settings import StackSettings
from shared.settings import checked_apps, checked_catalog, read


@click.group()
def command() -> None:
    """The catalogue: what each store product gives."""


@command.command()
@json_option
def check(as_json: bool) -> None:
    """Read the apps and the catalogue as every process does, and say what is wrong, or what they give."""
    settings = read(StackSettings)
    apps = checked_apps(settings, production=settings.production)
    catalog = checked_catalog(settings)
    strangers = sorted({app for app, _ in catalog.products} - set(apps.by_id))
    if strangers:
        raise click.ClickException(f"the catalogue has products of apps that do not exist: {', '.join(strangers)}")
    counts = {app.id: len(catalog.of_app(app.id)) for app in apps}
    if as_json:
        click.echo(json.dumps({"products": counts, "currencies": list(catalog.currencies)}))
        return
    for app_id, count in counts.items():
        click.echo(f"{app_id}: {count} products; currencies: {', '.join(catalog.currencies)}")
