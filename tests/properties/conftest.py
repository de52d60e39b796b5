"""A migrated database for each module, as the ledger."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from shared.database import connect_engine


@pytest.fixture(scope="module")
def engine(module_database: str) -> Iterator[Engine]:
    """As the ledger."""
    engine = connect_engine(module_database, role="purser_ledger", pool_size=2, application_name="test-properties")
    yield engine
    engine.dispose()
