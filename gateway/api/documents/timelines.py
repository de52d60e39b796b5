"""The events of a purchase, as an operator reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from gateway.api.documents.parts import Moment
from gateway.domain.purchases import Delivery
from gateway.domain.timelines import Entry
from shared.clock import rfc3339


@dataclass(frozen=True, slots=True)
class OpenDelivery:
    """A consumer that has not handled the event yet. `due_at` null: it waits for an operator."""

    consumer: str
    state: str
    due_at: Moment | None
    handovers: int
    attempts: int
    error: str | None

    @classmethod
    def of(cls, delivery: Delivery) -> OpenDelivery:
        return cls(
            consumer=delivery.consumer,
            state=delivery.state,
            due_at=None if delivery.due_at is None else rfc3339(delivery.due_at),
            handovers=delivery.handovers,
            attempts=delivery.attempts,
            error=delivery.error,
        )


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One event: what it says (proofs left out), what it followed from, and what followed from it.

    `data` is empty when a newer release wrote the event and the one that answers cannot read it.
    """

    id: str
    type: str
    user_id: str | None
    data: Mapping[str, Any]
    trace_id: str
    caused_by: str | None
    led_to: Sequence[str]
    deliveries: Sequence[OpenDelivery]
    occurred_at: Moment
    recorded_at: Moment

    @classmethod
    def of(cls, entry: Entry) -> TimelineEvent:
        return cls(
            id=str(entry.id),
            type=entry.type,
            user_id=entry.user_id,
            data=_plain(msgspec.to_builtins(entry.data, builtin_types=(datetime,))),
            trace_id=entry.trace_id,
            caused_by=None if entry.caused_by is None else str(entry.caused_by),
            led_to=[str(event_id) for event_id in entry.led_to],
            deliveries=[OpenDelivery.of(delivery) for delivery in entry.deliveries],
            occurred_at=rfc3339(entry.occurred_at),
            recorded_at=rfc3339(entry.recorded_at),
        )


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that is recorded of a purchase, and of what caused it, oldest first."""

    events: Sequence[TimelineEvent]


def _plain(value: Any) -> Any:
    """The value with its moments as the contract writes them."""
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return value
