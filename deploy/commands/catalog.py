"""`purser catalog check`: whether the apps and the catalogue can be used, before a process refuses to start."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import click

from deploy.addresses import known_environment
from deploy.desk import json_option, show
from deploy.settings import StackSettings
from shared.catalog import Product
from shared.clock import rfc3339
from shared.settings import checked_catalog, read


@dataclass(frozen=True, slots=True)
class Line:
    """A product, and what one of it gives."""

    app: str
    product: str
    type: str
    currency: str
    from_when: str
    entitlements: str
    how_long: str


@click.group()
def command() -> None:
    """The catalogue: what each store product gives."""


@command.command()
@json_option
def check(as_json: bool) -> None:
    """Read the apps and the catalogue as every process does, and say what is wrong, or what they give."""
    from notifier.app import apps_with_endpoints
    from notifier.settings import EndpointsSettings

    settings = read(StackSettings)
    apps = apps_with_endpoints(read(EndpointsSettings, known_environment(settings)))
    catalog = checked_catalog(settings)
    strangers = sorted({app for app, _ in catalog.products} - set(apps.by_id))
    if strangers:
        raise click.ClickException(f"the catalogue has products of apps that do not exist: {', '.join(strangers)}")
    counts = {app.id: len(catalog.of_app(app.id)) for app in apps}
    lines = [_line(product) for app in apps for product in catalog.of_app(app.id)]
    if as_json:
        gives = [asdict(line) for line in lines]
        click.echo(json.dumps({"products": counts, "currencies": list(catalog.currencies), "gives": gives}))
        return
    for app_id, count in counts.items():
        click.echo(f"{app_id}: {count} products; currencies: {', '.join(catalog.currencies)}")
    columns = ["app", "product", "type", "currency", "from_when", "entitlements", "how_long"]
    show(lines, columns, as_json=False, empty="")


def _line(product: Product) -> Line:
    return Line(
        app=product.app,
        product=product.id,
        type=product.type,
        currency=", ".join(f"{amount.amount} {amount.currency}" for amount in product.granted(1)),
        from_when="" if product.grants_from is None else rfc3339(product.grants_from),
        entitlements=", ".join(product.entitlements),
        how_long=_how_long(product),
    )


def _how_long(product: Product) -> str:
    """How long its entitlements last."""
    if not product.entitlements:
        return ""
    if product.type == "auto_renewable":
        return "each period"
    return "for ever" if product.days is None else f"{product.days} days"
