"""One running system for the session's end-to-end tests; what stops or kills things starts its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.system import System, running_system


@pytest.fixture(scope="package")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running
