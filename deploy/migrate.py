"""Brings a database up to date: the roles, then each schema's own migrations, the journal first.

It does so beside processes that run. Whoever wants a table for itself alone waits for all who use it, and everybody
else waits behind it: a backup under way would hold up every purchase. So it waits for a moment, lets the others by, and
tries again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError
from tenacity import RetryError, Retrying, retry_if_exception, retry_if_result, stop_after_delay, wait_random

from deploy.errors import StackUnavailable

ROOT = Path(__file__).resolve().parent.parent
LOCK = 0x9042_5E12  # any number of ours: two migrations of one database take turns
LOCK_TIMEOUT_MS: Final = 1_000
"""So long others wait behind it."""
PATIENCE_S: Final = 3_600
"""A backup of a large database takes so long."""
PAUSE_S: Final = (1.0, 3.0)
TURN_PAUSE_S: Final = (0.1, 0.3)
LOCK_NOT_AVAILABLE: Final = "55P03"  # PostgreSQL documentation, appendix A


@dataclass(frozen=True, slots=True)
class Migrated:
    """What was done to one schema: the revision before (None: it was not there) and after."""

    schema: str
    before: str | None
    after: str | None


SCHEMAS = {
    "journal": ROOT / "shared" / "bus" / "migrations",
    "verifier": ROOT / "verifier" / "migrations",
    "ledger": ROOT / "ledger" / "migrations",
    "notifier": ROOT / "notifier" / "migrations",
}


def migrate(
    database_url: str,
    *,
    patience_s: float = PATIENCE_S,
    on_held_up: Callable[[str], None] = lambda schema: None,  # noqa: ARG005 - nobody wants to hear of it
) -> list[Migrated]:
    """Migrates the database at `postgresql://…`, as a login that may create schemas (and, at first, roles).

    `on_held_up` hears, each time, of which schema others use what is to be changed; they may for `patience_s`.
    Raises sqlalchemy.exc.SQLAlchemyError when the database cannot be reached or refuses, and when they used it longer;
    StackUnavailable when another migration takes as long.
    """
    engine = create_engine(
        database_url.replace("postgresql://", "postgresql+psycopg2://", 1),
        connect_args={"connect_timeout": 5, "options": f"-c lock_timeout={LOCK_TIMEOUT_MS}"},
    )
    try:
        with engine.connect() as connection:
            _take_turn(connection, patience_s)
            connection.execute(text((ROOT / "deploy" / "roles.sql").read_text(encoding="utf-8")))
            connection.commit()
            patient = _patient(patience_s, on_held_up)
            return [_migrate_schema(connection, schema, folder, patient) for schema, folder in SCHEMAS.items()]
    finally:
        engine.dispose()


def _take_turn(connection: Connection, patience_s: float) -> None:
    """Asks again and again, with nothing under way meanwhile: an index that the other one makes concurrently waits for
    whoever waits within a statement."""
    patient = Retrying(
        retry=retry_if_result(lambda taken: not taken),
        stop=stop_after_delay(patience_s),
        wait=wait_random(*TURN_PAUSE_S),
        sleep=_sleep,
    )
    try:
        patient(_try_turn, connection)
    except RetryError as error:
        raise StackUnavailable("PURSER_DATABASE_URL: another `purser migrate` is at work, and does not end") from error


def _try_turn(connection: Connection) -> bool:
    taken: bool = connection.execute(text("select pg_try_advisory_lock(:lock)"), {"lock": LOCK}).scalar_one()
    connection.commit()
    return taken


def _patient(patience_s: float, on_held_up: Callable[[str], None]) -> Retrying:
    """Calls with a schema again as long as it is held up."""
    return Retrying(
        retry=retry_if_exception(_is_held_up),
        stop=stop_after_delay(patience_s),
        wait=wait_random(*PAUSE_S),
        before_sleep=lambda state: on_held_up(state.args[1]),
        sleep=_sleep,
        reraise=True,
    )


def _is_held_up(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "pgcode", None) == LOCK_NOT_AVAILABLE


def _sleep(seconds: float) -> None:
    threading.Event().wait(seconds)


def _migrate_schema(connection: Connection, schema: str, folder: Path, patient: Retrying) -> Migrated:
    connection.execute(text(f"create schema if not exists {schema}"))
    connection.commit()
    before = _revision(connection, schema)
    patient(_upgrade, connection, schema, folder)
    return Migrated(schema=schema, before=before, after=_revision(connection, schema))


def _upgrade(connection: Connection, schema: str, folder: Path) -> None:
    """Each revision is a transaction: what was done before one was held up stays."""
    connection.rollback()
    config = Config()
    config.set_main_option("script_location", str(ROOT / "deploy" / "migrations"))
    config.set_main_option("version_locations", str(folder))
    config.set_main_option("path_separator", "newline")
    config.attributes.update(schema=schema, connection=connection)
    command.upgrade(config, "head")
    connection.commit()


def _revision(connection: Connection, schema: str) -> str | None:
    context = MigrationContext.configure(
        connection, opts={"version_table": "schema_version", "version_table_schema": schema}
    )
    revision = context.get_current_revision()
    connection.rollback()
    return revision
