"""What the notifier says: what became of telling the app's backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from shared.events.base import Payload


@dataclass(frozen=True, slots=True)
class WebhookQueued(Payload):
    """An outward event is to be told to one endpoint of the app's backend."""

    TYPE: ClassVar[str] = "webhook.queued"

    endpoint_id: str
    event_id: UUID
    event_type: str


@dataclass(frozen=True, slots=True)
class WebhookDelivered(Payload):
    """The endpoint took it. `attempt` counts from 1."""

    TYPE: ClassVar[str] = "webhook.delivered"

    endpoint_id: str
    event_id: UUID
    event_type: str
    attempt: int
    status: int


@dataclass(frozen=True, slots=True)
class WebhookExhausted(Payload):
    """The endpoint did not take it, and no attempt is left."""

    TYPE: ClassVar[str] = "webhook.exhausted"

    endpoint_id: str
    event_id: UUID
    event_type: str
    attempts: int
    reason: str
