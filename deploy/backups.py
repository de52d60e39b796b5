"""Backups of the database and their restoring: the two scripts, which an operator may run without us too."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from sqlalchemy import make_url

from deploy.addresses import recalled_database_url
from deploy.binaries import find_postgres
from deploy.errors import StackUnavailable
from deploy.settings import StackSettings, inherited_environment
from shared.settings import read

HERE: Final = Path(__file__).resolve().parent
LAST_LINES: Final = 5
_QUERY: Final = {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "host": "PGHOST"}


def database_url() -> str:
    """Of the configured database, or the one of the `purser up` that the data directory belongs to."""
    return recalled_database_url(read(StackSettings))


def back_up(url: str, *, to: Path) -> None:
    """Writes a backup to the file, which appears whole or not at all. Raises DeployError."""
    unfinished = to.with_name(to.name + ".unfinished")
    try:
        with open(unfinished, "wb", opener=_private) as file:
            _run("backup.sh", url, stdout=file.fileno())
        unfinished.replace(to)
    except OSError as error:
        raise StackUnavailable(f"{to} cannot be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def restore(url: str, *, file: Path) -> None:
    """Puts the backup into the database, which has to be empty: all of it or nothing. Raises DeployError."""
    with file.open("rb") as backup:
        _run("restore.sh", url, stdin=backup.fileno())


def _run(script: str, url: str, *, stdin: int = subprocess.DEVNULL, stdout: int = subprocess.DEVNULL) -> None:
    """Runs the script with PostgreSQL's programs first on its path. It takes as long as the data does: no time-out."""
    directory = find_postgres(read(StackSettings).embedded).directory
    known = inherited_environment()
    ended = subprocess.run(
        ["sh", str(HERE / script)],
        env=known | _libpq(url) | {"PATH": f"{directory}{os.pathsep}{known.get('PATH', '')}"},
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").splitlines()[-LAST_LINES:]
        raise StackUnavailable(f"{script}: {' '.join(said) or f'exit code {ended.returncode}'}")


def _libpq(url: str) -> dict[str, str]:
    """The variables that tell PostgreSQL's programs a server: a command line is everybody's to read."""
    parts = make_url(url)
    named = {
        "PGHOST": parts.host,
        "PGPORT": parts.port,
        "PGUSER": parts.username,
        "PGPASSWORD": parts.password,
        "PGDATABASE": parts.database,
        **{_QUERY[name]: value for name, value in parts.query.items() if name in _QUERY},
    }
    return {name: str(value) for name, value in named.items() if value is not None}


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
