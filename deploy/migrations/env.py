"""Alembic's entry: runs one schema's migrations on the connection that deploy.migrate hands over."""

from __future__ import annotations

from alembic import context

schema = context.config.attributes["schema"]
connection = context.config.attributes["connection"]

context.configure(
    connection=connection,
    version_table="schema_version",
    version_table_schema=schema,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
