"""What was to be told by webhook, and what became of it. The notifier answers; here it is what the contract says of it.

The examples are answers of a notifier: tests/contracts/test_notifier_calls.py has it give them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from gateway.api.documents.outward import OutwardMessage
from gateway.api.documents.outward_examples import OUTWARD_EXAMPLES
from gateway.api.documents.parts import PAGE_DEFAULT, PAGE_MAX, Example, Moment
from shared.apps import ENDPOINT_ID_PATTERN

WebhookState = Literal["waiting", "delivered", "exhausted", "parked"]
EndpointName = Annotated[str, Field(pattern=ENDPOINT_ID_PATTERN)]


# ---- what comes in ----------------------------------------------------------------------------------------------


class WebhookDeliveriesQuery(BaseModel):
    """Which deliveries, and which page: `after` is the `next` of the page before."""

    endpoint: EndpointName | None = None
    state: WebhookState | None = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    after: Annotated[str, Field(min_length=1, max_length=97)] | None = None


class WebhookResending(BaseModel):
    """To one endpoint; without it, to all that were to hear of the event."""

    endpoint: EndpointName | None = None


RESENDING_EXAMPLES: Final[Mapping[str, Example]] = {
    "all": Example("To all that were to hear of it", {}),
    "one": Example("To one of them", {"endpoint": "backend"}),
}


# ---- what goes out ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """One event to one endpoint.

    `state`: `waiting` for its next attempt at `due_at`, or for its endpoint to be enabled; `delivered`; `exhausted`: no
    attempt of its schedule is left; `parked`: it cannot be sent at all. What is settled is kept for 30 days.
    """

    event_id: str
    endpoint: str
    type: str
    state: WebhookState
    attempts: int
    created_at: Moment
    due_at: Moment | None
    settled_at: Moment | None
    last_status: int | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class WebhookDeliveryPage:
    """Deliveries, the newest event first. `next` null: there are no more."""

    deliveries: Sequence[WebhookDelivery]
    next: str | None


@dataclass(frozen=True, slots=True)
class WebhookAttempt:
    """One attempt. `status` null: there was no answer. `answer` is how its body began. `error` null: it was taken.

    `retry_after_s`: what the endpoint asked for by `Retry-After`.
    """

    number: int
    at: Moment
    status: int | None
    duration_ms: int
    answer: str
    error: str | None
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class WebhookHistory(WebhookDelivery):
    """One event to one endpoint, with each attempt at it, the first one first."""

    attempt_list: Sequence[WebhookAttempt]


@dataclass(frozen=True, slots=True)
class WebhookRecord:
    """An event, and what became of telling it. `message` is the body that is posted, null for what cannot be sent."""

    event_id: str
    message: OutwardMessage | None
    deliveries: Sequence[WebhookHistory]


@dataclass(frozen=True, slots=True)
class WebhookResent:
    """So many deliveries are `queued`: they are sent at once, with their whole schedule before them."""

    queued: int


_EVENT_ID: Final = "019aab00-5dc0-7001-8000-000000000002"
_DELIVERED: Final[Mapping[str, Any]] = {
    "event_id": _EVENT_ID,
    "endpoint": "backend",
    "type": "wallet.credited",
    "state": "delivered",
    "attempts": 1,
    "created_at": "2026-11-22T12:00:00.100Z",
    "due_at": None,
    "settled_at": "2026-11-22T12:00:00.123Z",
    "last_status": 200,
    "last_error": None,
}
_WAITING: Final[Mapping[str, Any]] = {
    **_DELIVERED,
    "endpoint": "analytics",
    "state": "waiting",
    "due_at": "2026-11-22T12:00:05.900Z",
    "settled_at": None,
    "last_status": 503,
    "last_error": "answered 503",
}
_TAKEN: Final = {
    "number": 1,
    "at": "2026-11-22T12:00:00.110Z",
    "status": 200,
    "duration_ms": 12,
    "answer": "",
    "error": None,
    "retry_after_s": None,
}
_REFUSED: Final = {
    **_TAKEN,
    "status": 503,
    "answer": "down for maintenance",
    "error": "answered 503",
    "retry_after_s": 5.0,
}

DELIVERIES_EXAMPLES: Final[Mapping[str, Example]] = {
    "deliveries": Example(
        "An event that one endpoint has taken, and another not yet",
        {"deliveries": [_WAITING, _DELIVERED], "next": None},
    )
}
RECORD_EXAMPLES: Final[Mapping[str, Example]] = {
    "record": Example(
        "The same, attempt by attempt",
        {
            "event_id": _EVENT_ID,
            "message": OUTWARD_EXAMPLES["wallet.credited"].value,
            "deliveries": [
                {**_WAITING, "attempt_list": [_REFUSED]},
                {**_DELIVERED, "attempt_list": [_TAKEN]},
            ],
        },
    )
}
