"""Brings a database up to date: the roles, then each schema's own migrations, the journal first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text

ROOT = Path(__file__).resolve().parent.parent
LOCK = 0x9042_5E12  # any number of ours: two migrations of one database take turns


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


def migrate(database_url: str) -> list[Migrated]:
    """Migrates the database at `postgresql://…`, as a login that may create schemas (and, at first, roles).

    Raises sqlalchemy.exc.SQLAlchemyError when the database cannot be reached or refuses.
    """
    engine = create_engine(
        database_url.replace("postgresql://", "postgresql+psycopg2://", 1), connect_args={"connect_timeout": 5}
    )
    try:
        with engine.connect() as connection:
            connection.execute(text("select pg_advisory_lock(:lock)"), {"lock": LOCK})
            connection.execute(text((ROOT / "deploy" / "roles.sql").read_text(encoding="utf-8")))
            connection.commit()
            return [_migrate_schema(connection, schema, folder) for schema, folder in SCHEMAS.items()]
    finally:
        engine.dispose()


def _migrate_schema(connection: Connection, schema: str, folder: Path) -> Migrated:
    connection.execute(text(f"create schema if not exists {schema}"))
    connection.commit()
    before = _revision(connection, schema)
    config = Config()
    config.set_main_option("script_location", str(ROOT / "deploy" / "migrations"))
    config.set_main_option("version_locations", str(folder))
    config.set_main_option("path_separator", "newline")
    config.attributes.update(schema=schema, connection=connection)
    command.upgrade(config, "head")
    connection.commit()
    return Migrated(schema=schema, before=before, after=_revision(connection, schema))


def _revision(connection: Connection, schema: str) -> str | None:
    context = MigrationContext.configure(
        connection, opts={"version_table": "schema_version", "version_table_schema": schema}
    )
    revision = context.get_current_revision()
    connection.rollback()
    return revision
