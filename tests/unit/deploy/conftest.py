"""What every test of the command line needs put back."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from deploy.interruption import SIGNALS


@pytest.fixture(autouse=True)
def _signal_handlers_are_put_back() -> Iterator[None]:
    """`purser up` leaves handlers behind that ignore its signals: its process ends soon after, ours does not."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
