"""A courier that hands every event over once: what the broker or a worker then loses does not come again.

It exists to be caught: `python -m tests.proof --without-redelivery` puts it in the place of the product's, which has no
such switch, and has to report losses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from unittest.mock import patch

from shared.bus import app
from shared.bus.routes import CONSUMERS

NEVER_S: Final = 10 * 365 * 86_400.0
"""The lease: so long after a hand-over an event would be taken for lost."""
ANY_NUMBER: Final = 1_000_000
"""What is lost counts as in flight for as long as its lease: it must not keep the rest from being handed over."""


def run_courier() -> None:
    """The product's own, but for the leases."""
    for_ever = {
        name: replace(consumer, lease_s=NEVER_S, ids_in_flight=ANY_NUMBER) for name, consumer in CONSUMERS.items()
    }
    with patch.object(app, "CONSUMERS", for_ever):
        app.run_courier()
