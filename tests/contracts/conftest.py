"""One gateway and one ledger API, both for real, on one database for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger.app import create_api
from tests.support.gateway import EXAMPLES, SERVICE_TOKEN, Gateway, gateway_on
from tests.support.served import served


@pytest.fixture(scope="module")
def ledger_url(module_database: str) -> Iterator[str]:
    """The ledger's own API, served for real."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setattr("ledger.app.configure_logging", lambda **_: None)  # it is for a whole process
        environment.setenv("PURSER_DATABASE_URL", module_database)
        environment.setenv("PURSER_SERVICE_TOKEN", SERVICE_TOKEN)
        environment.setenv("PURSER_APPS_FILE", str(EXAMPLES / "apps.toml"))
        environment.setenv("PURSER_CATALOG_FILE", str(EXAMPLES / "catalog.toml"))
        api = create_api()
    with served(api) as url:
        yield url


@pytest.fixture(scope="module")
def gateway(module_database: str, ledger_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("gateway")
    with gateway_on(module_database, directory, changes={"ledger_url": ledger_url}) as running:
        yield running
