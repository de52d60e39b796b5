"""One gateway on one database for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateway import Gateway, gateway_on


@pytest.fixture(scope="module")
def gateway(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway_on(module_database, tmp_path_factory.mktemp("gateway")) as running:
        yield running
