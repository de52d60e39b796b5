"""`purser restore`: a backup into an empty database."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.backups import database_url, restore


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def command(file: Path) -> None:
    """Put the backup in FILE into the database, which has to be empty, and migrate it to this release.

    All of it or nothing. What to do before and after stands in deploy/runbook.md. With compose: `docker compose exec -T
    postgres purser-restore < FILE`.
    """
    from deploy.migrate import migrate

    url = database_url()
    restore(url, file=file)
    for done in migrate(url):
        click.echo(f"{done.schema}: {done.before} -> {done.after}")
    click.echo("restored; now `purser audit`, and what deploy/runbook.md says of what came after the backup")
