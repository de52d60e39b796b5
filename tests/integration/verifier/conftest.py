"""The verifier's own database role, an app with and without a key for the Server API, and an App Store that signs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from shared.apps import Apps, load_apps
from shared.database import connect_engine
from tests.support.app_store import AppStore
from tests.support.verifying import NOW


@pytest.fixture(scope="module")
def engine(module_database: str) -> Iterator[Engine]:
    engine = connect_engine(module_database, role="purser_verifier", pool_size=4, application_name="test")
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection
        connection.rollback()


@pytest.fixture(scope="module")
def apps_with_key(apps: Apps) -> Apps:
    """Its app may ask the Server API; nobody opens the key here."""
    (app,) = apps
    key = {"issuer_id": "issuer", "key_id": "key", "private_key_file": Path("key.p8")}
    return Apps.of((app.model_copy(update={"apple": app.apple.model_copy(update=key)}),))


@pytest.fixture(scope="module")
def apps() -> Apps:
    """Its app has no key for the Server API."""
    (app,) = load_apps(Path("deploy/examples/apps.toml"))
    keyless = {"issuer_id": None, "key_id": None, "private_key_file": None}
    return Apps.of((app.model_copy(update={"apple": app.apple.model_copy(update=keyless)}),))


@pytest.fixture(scope="module")
def store() -> AppStore:
    return AppStore(now=NOW)
