"""What the notifier says: what became of telling the app's backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from shared.events.base import Payload


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


@dataclass(frozen=True, slots=True)
class WebhookEndpointDisabled(Payload):
    """Nothing more is sent to the endpoint until an operator enables it, or its URL is another one: why.

    `actor` is who did it: `notifier` itself, or `server:<key id>` or `operator`.
    """

    TYPE: ClassVar[str] = "webhook.endpoint_disabled"

    endpoint_id: str
    reason: str
    actor: str


@dataclass(frozen=True, slots=True)
class WebhookEndpointEnabled(Payload):
    """The endpoint is told again, and first of all what it has missed."""

    TYPE: ClassVar[str] = "webhook.endpoint_enabled"

    endpoint_id: str
    actor: str
