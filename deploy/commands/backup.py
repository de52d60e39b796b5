"""`purser backup`: the whole database in one file, while the system runs."""

from __future__ import annotations

import stat
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
    _refuse_what_is_there(file, force=force)
    back_up(database_url(), to=file)
    click.echo(f"{file}: {file.stat().st_size:,} bytes")


def _refuse_what_is_there(file: Path, *, force: bool) -> None:
    """A backup takes the place of a regular file at most: a link, a pipe or a device would be lost for it."""
    try:
        mode = file.lstat().st_mode
    except OSError:  # nothing is there; or whoever writes the file is told what else is wrong with its place
        return
    if not stat.S_ISREG(mode):
        raise click.ClickException(f"{file} is there and no regular file: a backup does not take its place")
    if not force:
        raise click.ClickException(f"{file} is there already; --force writes over it")
