"""One running system for the session's end-to-end tests; what stops or kills things starts its own.

And one of docker-compose.yml, for those that are about that.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.compose import Composed, composed
from tests.support.system import System, running_system


@pytest.fixture(scope="package")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


@pytest.fixture(scope="session")
def composed_system() -> Iterator[Composed]:
    with composed() as running:
        yield running
