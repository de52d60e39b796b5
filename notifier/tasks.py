"""Which use-case hears of which event. Translation only."""

from __future__ import annotations

from typing import Any

from shared.bus.consumer import Apply, Fact, InBatches, OneByOne, Prepare, Settle
from shared.events import OUTWARD, WebhookQueued


def outward_handlers(queue: Apply) -> dict[str, InBatches | OneByOne[Any]]:
    """Every outward event is put down for the endpoints that want it."""
    return {event_type: InBatches(queue) for event_type in OUTWARD}


def webhook_handlers(attempt: Prepare[Fact], settle: Settle[Fact]) -> dict[str, InBatches | OneByOne[Any]]:
    """Every delivery is an attempt outside, then its outcome on record."""
    return {WebhookQueued.TYPE: OneByOne(prepare=attempt, settle=settle)}
