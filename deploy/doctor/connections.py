"""Which processes are connected to the database, as it tells everybody: its own and others' logins alike."""

from __future__ import annotations

from sqlalchemy import Connection

# PostgreSQL documentation, 27.2.3 (pg_stat_activity): of another role's sessions most columns are null to who is no
# member of it, the client's address among them; the name and the database are there. Over a Unix socket the address is
# null for everybody.
_CONNECTED = """
select exists (select from pg_stat_activity
                where application_name = %(name)s and datname = current_database())
"""


def connected(connection: Connection, name: str) -> bool:
    """Whether a process of this name is. Each calls its connections by its own: their `application_name`."""
    found: bool = connection.exec_driver_sql(_CONNECTED, {"name": name}).scalar_one()
    return found
