"""The app's webhooks: where they go, how the endpoints do, and what an operator does about them.

The notifier reads and checks the bodies and answers, the gateway hands them on: here they are what the contract says of
them. The examples are answers of a notifier: tests/contracts/test_notifier_calls.py has it give them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from gateway.api.documents.parts import Example, Moment

REASON_LENGTH_MAX: Final = 500

EndpointState = Literal["on", "failing", "disabled", "not_configured"]
MomentText = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
SwitchReason = Annotated[str, Field(min_length=1, max_length=REASON_LENGTH_MAX, pattern=r"\S")]


# ---- what comes in ----------------------------------------------------------------------------------------------


class EndpointReplay(BaseModel):
    """Which events are told once more: those recorded from `since` on, up to `until`, or up to now."""

    since: MomentText
    until: MomentText | None = None
    delivered: bool = Field(default=False, description="Those too that the endpoint has taken.")


class EndpointTest(BaseModel):
    """Nothing needs to be said."""


class EndpointEnabling(BaseModel):
    """Nothing needs to be said."""


class EndpointDisabling(BaseModel):
    """Why, for whoever wonders later."""

    reason: SwitchReason


REPLAY_EXAMPLES: Final[Mapping[str, Example]] = {
    "missed": Example("What was not taken since then", {"since": "2026-11-22T12:00:00Z"}),
    "all": Example(
        "All of two hours, to rebuild what the backend has lost",
        {"since": "2026-11-22T12:00:00Z", "until": "2026-11-22T14:00:00Z", "delivered": True},
    ),
}
TEST_EXAMPLES: Final[Mapping[str, Example]] = {"bare": Example("Nothing needs to be said", {})}
ENABLING_EXAMPLES: Final[Mapping[str, Example]] = {"bare": Example("Nothing needs to be said", {})}
DISABLING_EXAMPLES: Final[Mapping[str, Example]] = {
    "moving": Example("For a while", {"reason": "the backend moves to another data centre"})
}


# ---- what goes out ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the app's backend is told of events: one of the `webhooks` of the apps file, and how it does.

    `state`: `on`; `failing` since its first failure after the last message that it took; `disabled` by itself (410
    Gone, or nothing taken for five days) or by an operator, with `reason`; `not_configured` when the apps file has it
    no more. What it is to be told waits while it is disabled or not configured. `host` is all that is shown of its
    URL, which may hold secrets; null when it is not configured. `waiting` and `failed` (given up, or impossible to
    send) are counted up to 100,000. `oldest_waiting_at`: since when what has waited longest has done so; what was
    resent or replayed waits since then. `delivered_at`: when the newest event that it took was taken.
    """

    id: str
    host: str | None
    events: Sequence[str]
    state: EndpointState
    disabled_at: Moment | None
    reason: str | None
    failing_since: Moment | None
    failures: int
    waiting: int
    oldest_waiting_at: Moment | None
    failed: int
    delivered_at: Moment | None


@dataclass(frozen=True, slots=True)
class EndpointList:
    """The app's endpoints, by id."""

    endpoints: Sequence[Endpoint]


@dataclass(frozen=True, slots=True)
class EndpointReplayed:
    """So many deliveries are `queued`. `next_since` null: all of that time was gone through; else send the same again
    with it as `since`.
    """

    queued: int
    next_since: Moment | None


@dataclass(frozen=True, slots=True)
class EndpointTested:
    """What the endpoint made of a signed message of the type `webhook.test`. `taken`: it answered with a status of 2xx.

    `status` null: there was no answer, and `error` says why; `answer` is how its body began. `message_id` was sent as
    `webhook-id`.
    """

    message_id: str
    taken: bool
    status: int | None
    duration_ms: int
    answer: str
    error: str | None


_WELL: Final = {
    "id": "backend",
    "host": "backend.example.com",
    "events": ["*"],
    "state": "on",
    "disabled_at": None,
    "reason": None,
    "failing_since": None,
    "failures": 0,
    "waiting": 0,
    "oldest_waiting_at": None,
    "failed": 0,
    "delivered_at": "2026-11-22T12:00:00.123Z",
}
_DISABLED: Final = {
    "id": "analytics",
    "host": "analytics.example.com",
    "events": ["wallet.*"],
    "state": "disabled",
    "disabled_at": "2026-11-22T12:00:06.456Z",
    "reason": "it answered 410 Gone",
    "failing_since": None,
    "failures": 0,
    "waiting": 1,
    "oldest_waiting_at": "2026-11-22T12:00:00.100Z",
    "failed": 0,
    "delivered_at": None,
}

ENDPOINTS_EXAMPLES: Final[Mapping[str, Example]] = {
    "endpoints": Example("One that is well, and one that went away", {"endpoints": [_DISABLED, _WELL]})
}
TESTED_EXAMPLES: Final[Mapping[str, Example]] = {
    "taken": Example(
        "Taken",
        {
            "message_id": "019aab00-5dc0-7000-8000-000000000001",
            "taken": True,
            "status": 200,
            "duration_ms": 42,
            "answer": "",
            "error": None,
        },
    ),
    "refused": Example(
        "Refused, with what the answer said",
        {
            "message_id": "019aab00-5dc0-7000-8000-000000000001",
            "taken": False,
            "status": 500,
            "duration_ms": 42,
            "answer": "no such table",
            "error": "answered 500",
        },
    ),
}
