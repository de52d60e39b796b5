"""The database: does it answer, is it migrated, and may our login act as each role."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from deploy.doctor.books import audited, scheduler
from deploy.doctor.findings import Finding, failed, ok, unchecked
from deploy.doctor.journal import courier, deliveries, notifications, parked
from deploy.migrate import ROOT, SCHEMAS
from shared.database import INTERACTIVE_TIMEOUT_S, DatabaseUnavailable, connect_engine, transact

NAME = "database"
OLDEST_SERVER = 150_000
"""PostgreSQL 15, as `server_version_num` has it."""

ROLES: Sequence[str] = ("purser_courier", "purser_gateway", "purser_ledger", "purser_notifier", "purser_verifier")
"""Those of `deploy/roles.sql`."""

Look = Callable[[Connection], Finding]


def check_database(url: str) -> list[Finding]:
    """Whether it answers, and then what each further look finds, or why it could not look."""
    try:
        engine = connect_engine(url, role=None, pool_size=1, application_name="doctor", timeout_s=INTERACTIVE_TIMEOUT_S)
    except (SQLAlchemyError, ValueError):  # the message may quote the URL, and that has the password in it
        return [
            failed(NAME, "PURSER_DATABASE_URL cannot be read as a URL", "postgresql://user:password@host:port/name")
        ]
    try:
        server = transact(engine, _server)
        return [server, *(_look(engine, name, look) for name, look in _LOOKS)]
    except DatabaseUnavailable as error:
        remedy = "start it, or mend PURSER_DATABASE_URL"
        return [failed(NAME, _reason(error), remedy), *(unchecked(name, "no database") for name, _ in _LOOKS)]
    finally:
        engine.dispose()


def _look(engine: Engine, name: str, look: Look) -> Finding:
    """One look. A statement that fails (no such table, no right to it) is that look's trouble and no other's."""
    try:
        return transact(engine, look)
    except DBAPIError as error:
        return unchecked(name, _first_line(error.orig))


def _server(connection: Connection) -> Finding:
    number, version = connection.exec_driver_sql(
        "select current_setting('server_version_num')::int, current_setting('server_version')"
    ).one()
    if number < OLDEST_SERVER:
        return failed(NAME, f"PostgreSQL {version}", "PostgreSQL 15 or newer is needed")
    return ok(NAME, f"PostgreSQL {version} answers")


def _migrations(connection: Connection) -> Finding:
    behind = []
    for schema, folder in SCHEMAS.items():
        there, wanted = _revision(connection, schema), _newest(folder)
        if there != wanted:
            behind.append(f"{schema} at {there or 'nothing'}, wanted {wanted}")
    if behind:
        return failed("migrations", "; ".join(behind), "purser migrate")
    return ok("migrations", f"current: {', '.join(SCHEMAS)}")


def _revision(connection: Connection, schema: str) -> str | None:
    table = f"{schema}.schema_version"
    if connection.exec_driver_sql("select to_regclass(%(table)s)", {"table": table}).scalar_one() is None:
        return None
    revision: str | None = connection.exec_driver_sql(f"select max(version_num) from {table}").scalar_one()  # noqa: S608 - a constant
    return revision


def _newest(folder: Path) -> str | None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "deploy" / "migrations"))
    config.set_main_option("version_locations", str(folder))
    config.set_main_option("path_separator", "newline")
    return ScriptDirectory.from_config(config).get_current_head()


def _roles(connection: Connection) -> Finding:
    """Whether each is there, and our login may become it (since PostgreSQL 16 that is SET, not membership)."""
    usable = connection.exec_driver_sql(
        "select rolname from pg_roles where rolname = any(%(names)s) and pg_has_role(current_user, oid,"
        "       case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end)",
        {"names": list(ROLES)},
    ).scalars()
    missing = sorted(set(ROLES) - set(usable))
    if missing:
        return failed(
            "roles", f"missing, or not ours to act as: {', '.join(missing)}", "purser migrate, or deploy/roles.sql"
        )
    return ok("roles", ", ".join(ROLES))


_LOOKS: Sequence[tuple[str, Look]] = (
    ("migrations", _migrations),
    ("roles", _roles),
    ("courier", courier),
    ("deliveries", deliveries),
    ("parked", parked),
    ("notifications", notifications),
    ("ledger-scheduler", scheduler),
    ("books", audited),
)


def _reason(error: DatabaseUnavailable) -> str:
    """Why, as PostgreSQL or its library says it."""
    cause = error.__cause__
    return _first_line(cause.orig if isinstance(cause, DBAPIError) else cause)


def _first_line(error: BaseException | None) -> str:
    """Without what it quotes: of a URL that is wrongly put together that may be a piece of the password."""
    return re.sub(r'"[^"]*"', "…", str(error).partition("\n")[0]) or "it does not answer"
