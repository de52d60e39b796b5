"""`purser backup`: the whole database in one file, while the system runs."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.backups import back_up, database_url


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def command(file: Path, force: bool) -> None:
    """Write a backup of the database to FILE, readable for you alone.

    It is one snapshot, taken while the system runs. It needs pg_dump: that of an installed PostgreSQL, or of the wheel.
    With compose: `docker compose exec -T postgres purser-backup > FILE`.
    """
    if file.exists() and not force:
        raise click.ClickException(f"{file} is there already; --force writes over it")
    back_up(database_url(), to=file)
    click.echo(f"{file}: {file.stat().st_size:,} bytes")
