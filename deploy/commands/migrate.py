"""`purser migrate`: the roles, then each schema's own migrations."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from deploy.addresses import recalled_database_url
from deploy.errors import StackUnavailable
from deploy.settings import StackSettings
from shared.settings import read


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(as_json: bool) -> None:
    """Bring the database up to date. Does nothing where it is; harmless while the system runs."""
    from sqlalchemy.exc import SQLAlchemyError

    from deploy.migrate import migrate

    url = recalled_database_url(read(StackSettings))
    try:
        done = migrate(url, on_held_up=_tell)
    except SQLAlchemyError as error:
        reason = str(error).partition("\n")[0]
        raise StackUnavailable(f"PURSER_DATABASE_URL: the database cannot be migrated: {reason}") from error
    if as_json:
        click.echo(json.dumps([asdict(schema) for schema in done]))
        return
    for schema in done:
        change = "up to date" if schema.before == schema.after else f"{schema.before or 'nothing'} -> {schema.after}"
        click.echo(f"{schema.schema:<10} {change}")


def _tell(schema: str) -> None:
    click.echo(
        f"{schema}: others use what is to be changed (a backup?); they go first, then it is tried again", err=True
    )
