"""One gateway, one ledger API and one notifier API, all of them for real, on one database for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask

import ledger.app
import notifier.app
from tests.support.gateway import EXAMPLES, SERVICE_TOKEN, Gateway, gateway_on
from tests.support.notifier import SECRET, endpoint
from tests.support.receiver import Receiver, receiving
from tests.support.served import served

HEARERS = {"backend": ["*"], "analytics": ["wallet.*"]}
"""The endpoints of the app, with what they want to hear of."""


@contextmanager
def environment(database_url: str, apps: Path) -> Iterator[pytest.MonkeyPatch]:
    """What the internal APIs read, as processes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        for service in ("ledger", "notifier"):
            patch.setattr(f"{service}.app.configure_logging", lambda **_: None)  # it is for a whole process
        for name, value in {
            "DATABASE_URL": database_url,
            "SERVICE_TOKEN": SERVICE_TOKEN,
            "APPS_FILE": str(apps),
            "CATALOG_FILE": str(EXAMPLES / "catalog.toml"),
        }.items():
            patch.setenv(f"PURSER_{name}", value)
        yield patch


@pytest.fixture(scope="module")
def receivers() -> Iterator[dict[str, Receiver]]:
    """The app's backends, by the ids of their endpoints."""
    with receiving(SECRET) as backend, receiving(SECRET) as analytics:
        yield {"backend": backend, "analytics": analytics}


@pytest.fixture(scope="module")
def told_apps(receivers: dict[str, Receiver], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's apps file, with webhooks to the receivers."""
    example = (EXAMPLES / "apps.toml").read_text(encoding="utf-8")
    tables = [endpoint(receivers[id].url, id=id, events=events) for id, events in HEARERS.items()]
    directory = tmp_path_factory.mktemp("apps")
    (directory / "AuthKey_EXAMPLE.p8").write_bytes((EXAMPLES / "AuthKey_EXAMPLE.p8").read_bytes())
    file = directory / "apps.toml"
    file.write_text(example[: example.index("[[apps.webhooks]]")] + "\n".join(tables), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def ledger_url(module_database: str) -> Iterator[str]:
    """The ledger's own API, served for real."""
    with environment(module_database, EXAMPLES / "apps.toml"):
        api: Flask = ledger.app.create_api()
    with served(api) as url:
        yield url


@pytest.fixture(scope="module")
def notifier_url(module_database: str, told_apps: Path) -> Iterator[str]:
    """The notifier's own API, served for real."""
    with environment(module_database, told_apps):
        api: Flask = notifier.app.create_api()
    with served(api) as url:
        yield url


@pytest.fixture(scope="module")
def gateway(
    module_database: str, ledger_url: str, notifier_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("gateway")
    changes = {"ledger_url": ledger_url, "notifier_url": notifier_url}
    with gateway_on(module_database, directory, changes=changes) as running:
        yield running
