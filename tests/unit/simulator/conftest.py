"""A store with certificates of its own."""

from __future__ import annotations

import pytest

from simulator.certificates import Authority, create
from tests.support.shop import START, Shop, open_shop


@pytest.fixture(scope="session")
def authority() -> Authority:
    return create(now=START)


@pytest.fixture
def shop(authority: Authority) -> Shop:
    return open_shop(authority)
