"""A migrated database for each module, as the ledger; and Hypothesis' longer form (`--hypothesis-profile=full`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from sqlalchemy import Engine

from shared.database import connect_engine

settings.register_profile("full", max_examples=2000)


@pytest.fixture(scope="module")
def engine(module_database: str) -> Iterator[Engine]:
    """As the ledger."""
    engine = connect_engine(module_database, role="purser_ledger", pool_size=2, application_name="test-properties")
    yield engine
    engine.dispose()
