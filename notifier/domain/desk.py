"""What an operator is told of endpoints and of what they were to hear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from notifier.domain.deliveries import Answer, AttemptNumber, DeliveryState, Message
from shared.apps import EndpointId, WebhookEndpoint
from shared.clock import rfc3339
from shared.events import OUTWARD, OutwardEventUnknown, Recorded, UnreadEvent, outward_document
from shared.ids import EventId

EndpointState = Literal["on", "failing", "disabled", "not_configured"]
TEST_TYPE: Final = "webhook.test"
"""Of a message that tells nothing: it is sent when an operator wants to know whether an endpoint takes any."""


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """What is on record of an endpoint, configured or not.

    `waiting` and `failed` (exhausted and parked) are counted up to a limit. `oldest_waiting_at`: since when
    what has waited longest has done so; what was queued again waits since then. `delivered_at`: when the newest event
    that it has taken was taken.
    """

    id: EndpointId
    disabled_at: datetime | None = None
    disabled_url: str | None = field(default=None, repr=False)  # it may hold a secret
    reason: str | None = None
    failing_since: datetime | None = None
    failures: int = 0
    waiting: int = 0
    oldest_waiting_at: datetime | None = None
    failed: int = 0
    delivered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint as it is shown; see EndpointRecord. `host` and `events` are the configuration's."""

    id: EndpointId
    host: str | None
    events: Sequence[str]
    state: EndpointState
    disabled_at: datetime | None
    reason: str | None
    failing_since: datetime | None
    failures: int
    waiting: int
    oldest_waiting_at: datetime | None
    failed: int
    delivered_at: datetime | None


def endpoint_view(record: EndpointRecord, configured: WebhookEndpoint | None) -> EndpointView:
    """The endpoint as it stands. One that was disabled under another URL is not: it has another chance."""
    disabled = configured is not None and record.disabled_url == configured.url
    return EndpointView(
        id=record.id,
        host=None if configured is None else host_of(configured.url),
        events=() if configured is None else tuple(sorted(configured.events)),
        state=_state(record, configured=configured is not None, disabled=disabled),
        disabled_at=record.disabled_at if disabled else None,
        reason=record.reason if disabled else None,
        failing_since=record.failing_since,
        failures=record.failures,
        waiting=record.waiting,
        oldest_waiting_at=record.oldest_waiting_at,
        failed=record.failed,
        delivered_at=record.delivered_at,
    )


def _state(record: EndpointRecord, *, configured: bool, disabled: bool) -> EndpointState:
    if not configured:
        return "not_configured"
    if disabled:
        return "disabled"
    return "on" if record.failing_since is None else "failing"


def host_of(url: str) -> str:
    """The host and port of a URL; nothing else of it, since its path, query and login may be secrets."""
    return urlsplit(url).netloc.rpartition("@")[2]


class DeliveryPlace(NamedTuple):
    """Where a delivery stands in an app's list, the newest event coming first, each event's by endpoint."""

    event_id: EventId
    endpoint: EndpointId


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """One event to one endpoint. `due_at`, while it waits: when it is tried (again)."""

    event_id: EventId
    endpoint: EndpointId
    type: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    due_at: datetime | None
    settled_at: datetime | None
    last_status: int | None
    last_error: str | None

    @property
    def place(self) -> DeliveryPlace:
        return DeliveryPlace(self.event_id, self.endpoint)


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Deliveries, the newest event first. `next_after` is the place to read on after; None: there are no more."""

    deliveries: Sequence[DeliveryView]
    next_after: DeliveryPlace | None


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt. `status` None: there was no answer; `answer` is how the answer's body began; `error` None: taken."""

    number: AttemptNumber
    at: datetime
    status: int | None
    duration_ms: int
    answer: str
    error: str | None
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class DeliveryHistory:
    """A delivery, and every attempt at it, the first one first."""

    delivery: DeliveryView
    attempt_list: Sequence[AttemptView]


@dataclass(frozen=True, slots=True)
class Told:
    """An outward event, and what became of telling it. `message` is what is posted; None: it cannot be told."""

    event_id: EventId
    message: Mapping[str, Any] | None
    deliveries: Sequence[DeliveryHistory]


def message_shown(event: Recorded | None) -> Mapping[str, Any] | None:
    """What is posted of the event, in plain values: `{"type", "timestamp", "data"}`; None for what cannot be told."""
    if event is None or isinstance(event, UnreadEvent):
        return None
    try:
        shown: Mapping[str, Any] = msgspec.to_builtins(outward_document(event))
    except OutwardEventUnknown:
        return None
    return shown


@dataclass(frozen=True, slots=True)
class Span:
    """Events by their ids: from one on, up to another, which is not part of it."""

    first: EventId
    end: EventId


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a replay. `last` is the last event that it has come to; None: there was none left."""

    queued: int
    looked_at: int
    last: EventId | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay came to. `queued` deliveries are due, of `looked_at` events.

    `next_since` None: it came to its end; else it came to its limit, and goes on from there (that event is looked at
    once more).
    """

    queued: int
    looked_at: int
    next_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """What an endpoint made of a message that tells nothing."""

    message_id: EventId
    taken: bool
    status: int | None
    duration_ms: int
    answer: str
    error: str | None


def trial_message(endpoint_id: EndpointId, *, id: EventId, now: datetime) -> Message:
    """A message that tells nothing, for an endpoint to take."""
    document = {"type": TEST_TYPE, "timestamp": rfc3339(now), "data": {"endpoint_id": endpoint_id}}
    return Message(id=str(id), body=msgspec.json.encode(document))


def trial_of(answer: Answer, *, id: EventId) -> Trial:
    """What the endpoint's answer to it says."""
    return Trial(
        message_id=id,
        taken=answer.error is None,
        status=answer.status,
        duration_ms=answer.duration_ms,
        answer=answer.beginning,
        error=answer.error,
    )


def types_wanted(endpoint: WebhookEndpoint) -> list[str]:
    """The types of outward events that the endpoint wants to hear of."""
    return [event_type for event_type in OUTWARD if endpoint.wants(event_type)]
