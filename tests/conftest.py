"""Fixtures that every test may use: real servers, made when the first test asks for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.stack import Servers, reachable_directory, running_servers


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """One real PostgreSQL and one real Redis or Valkey, for the whole session."""
    with reachable_directory() as directory, running_servers(directory) as running:
        yield running


@pytest.fixture(scope="session")
def postgres_url(servers: Servers) -> str:
    """`postgresql://…` of the session's PostgreSQL, as a superuser, in a database that nothing else uses."""
    return servers.postgres.create_database("session")


@pytest.fixture(scope="session")
def redis_url(servers: Servers) -> str:
    """`redis://…` of the session's Redis. Empty at first; a test that leaves keys behind leaves them to others."""
    return servers.redis.url()


@pytest.fixture
def database(servers: Servers) -> str:
    """`postgresql://…` of a fresh, migrated database for this test alone."""
    return servers.migrated_database()


@pytest.fixture(scope="module")
def module_database(servers: Servers) -> str:
    """`postgresql://…` of a fresh, migrated database for this module's tests."""
    return servers.migrated_database()
