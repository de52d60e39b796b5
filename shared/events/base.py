"""What every event has: the fact in the journal, and the draft of one that is about to be recorded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Generic, TypeVar

from shared.ids import AppId, EventId, UserId


class EventUnknown(LookupError):
    """No event of this name and version is known here: deploy consumers before producers."""


class EventMalformed(ValueError):
    """The payload in the journal is not what this event's type says."""


@dataclass(frozen=True, slots=True)
class Payload:
    """What every payload class says of itself."""

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1


P_co = TypeVar("P_co", bound=Payload, covariant=True)


@dataclass(frozen=True, slots=True)
class Event(Generic[P_co]):
    """A fact in the journal. `causation_id` is the event that it followed from; times are UTC."""

    id: EventId
    app: AppId
    subject: str
    user_id: UserId | None
    payload: P_co
    trace_id: str
    causation_id: EventId | None
    occurred_at: datetime
    recorded_at: datetime

    @property
    def type(self) -> str:
        return self.payload.TYPE


@dataclass(frozen=True, slots=True)
class UnreadEvent:
    """A fact in the journal whose payload this release cannot read, a newer one's say: all but the payload."""

    id: EventId
    type: str
    version: int
    app: AppId
    subject: str
    user_id: UserId | None
    trace_id: str
    causation_id: EventId | None
    occurred_at: datetime
    recorded_at: datetime


Recorded = Event[Payload] | UnreadEvent
"""Whatever is in the journal: to be shown, not to be acted on."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A fact that is about to be recorded; the journal gives it its time of recording, and its id unless it has one
    (what else is written in the same transaction may name it)."""

    payload: Payload
    app: AppId
    subject: str
    user_id: UserId | None
    occurred_at: datetime
    trace_id: str
    causation_id: EventId | None = None
    id: EventId | None = None


def following(
    cause: Event[Payload],
    payload: Payload,
    *,
    subject: str | None = None,
    user_id: UserId | None = None,
    occurred_at: datetime,
) -> Draft:
    """A draft that followed from an event: same app and trace, and its subject and user unless others are named."""
    return Draft(
        payload=payload,
        app=cause.app,
        subject=subject or cause.subject,
        user_id=user_id or cause.user_id,
        occurred_at=occurred_at,
        trace_id=cause.trace_id,
        causation_id=cause.id,
    )
