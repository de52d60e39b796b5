"""For every test: real servers, made when the first test asks for them, and Hypothesis' profiles."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.support.stack import Servers, reachable_directory, running_servers

# How long an example takes says more of what else the machine does than of us.
settings.register_profile("purser", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("purser")
settings.register_profile("full", max_examples=2000)  # for --hypothesis-profile

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))  # as our processes, unless told


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files whose tests may take longest begin first; what is quick fills the ends of the workers."""
    longest_s: defaultdict[Path, float] = defaultdict(float)
    for item in items:
        longest_s[item.path] = max(longest_s[item.path], _may_take_s(item))
    items.sort(key=lambda item: -longest_s[item.path])


def _may_take_s(item: pytest.Item) -> float:
    """What its marks say: a limit of its own is one beyond the usual."""
    limit = item.get_closest_marker("timeout")
    return limit.args[0] if limit else 10.0 if item.get_closest_marker("slow") else 0.0


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """One real PostgreSQL and one real Redis or Valkey, for the whole session (of each worker, under `make test`)."""
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
