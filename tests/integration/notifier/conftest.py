"""A notifier on a database of its own, and receivers for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.notifier import SECRET, Notifier, apps_with, endpoint, notifying
from tests.support.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(SECRET) as running:
        yield running


@pytest.fixture
def other_receiver() -> Iterator[Receiver]:
    with receiving(SECRET) as running:
        yield running


@pytest.fixture
def notifier(database: str, receiver: Receiver) -> Iterator[Notifier]:
    """With one endpoint, `backend`, that wants everything."""
    with notifying(database, apps_with(endpoint(receiver.url))) as running:
        yield running


@pytest.fixture
def two(notifier: Notifier, receiver: Receiver, other_receiver: Receiver) -> Notifier:
    """With two, `backend` and `analytics`."""
    notifier.apps = apps_with(endpoint(receiver.url), endpoint(other_receiver.url, id="analytics"))
    return notifier
