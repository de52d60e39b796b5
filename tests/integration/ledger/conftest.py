"""The ledger's own database, as its role and as the owner of its tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine

from shared.database import connect_engine


@pytest.fixture(scope="module")
def engine(module_database: str) -> Iterator[Engine]:
    """As the ledger."""
    engine = connect_engine(module_database, role="purser_ledger", pool_size=9, application_name="test-ledger")
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """As the ledger, in a transaction of which nothing is kept."""
    with engine.connect() as connection:
        yield connection
        connection.rollback()


@pytest.fixture(scope="module")
def owner(module_database: str) -> Iterator[Engine]:
    """As the superuser who owns the tables."""
    engine = connect_engine(module_database, role=None, pool_size=2, application_name="test-owner")
    yield engine
    engine.dispose()
