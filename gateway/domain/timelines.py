"""Timelines: the events of a purchase and of what caused them, as an operator is shown them: without the proofs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from gateway.domain.purchases import Delivery
from shared.events import Recorded, UnreadEvent
from shared.ids import EventId, UserId

PROOFS: Final = frozenset({"receipt", "signed_transaction", "signed_renewal_info", "signed_payload", "token"})
"""The fields of payloads that are never shown: whoever has them could claim what is somebody else's."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event: what it says, what it followed from, what followed from it, and who has not handled it yet.

    `data` is empty for an event that this release cannot read: which of its fields are proofs is not known either.
    """

    id: EventId
    type: str
    user_id: UserId | None
    data: Mapping[str, Any]
    trace_id: str
    caused_by: EventId | None
    led_to: Sequence[EventId]
    deliveries: Sequence[Delivery]
    occurred_at: datetime
    recorded_at: datetime


def entries(events: Sequence[Recorded], deliveries: Sequence[Delivery]) -> list[Entry]:
    """The events, oldest first, each with its place among the others."""
    ordered = sorted(events, key=lambda event: event.id)
    return [
        Entry(
            id=event.id,
            type=event.type,
            user_id=event.user_id,
            data=_shown(event),
            trace_id=event.trace_id,
            caused_by=event.causation_id,
            led_to=[other.id for other in ordered if other.causation_id == event.id],
            deliveries=[delivery for delivery in deliveries if delivery.event_id == event.id],
            occurred_at=event.occurred_at,
            recorded_at=event.recorded_at,
        )
        for event in ordered
    ]


def missing_causes(events: Sequence[Recorded]) -> list[EventId]:
    """The events that these followed from and that are not among them."""
    known = {event.id for event in events}
    causes = {event.causation_id for event in events if event.causation_id is not None}
    return sorted(causes - known)


def _shown(event: Recorded) -> dict[str, Any]:
    if isinstance(event, UnreadEvent):
        return {}
    payload = event.payload
    return {field.name: getattr(payload, field.name) for field in fields(payload) if field.name not in PROOFS}
