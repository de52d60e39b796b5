"""One message to one endpoint: what is posted, what its answer means, and when it is posted again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal, NewType

import msgspec

from notifier.domain.endpoints import EndpointKey
from shared.apps import EndpointId
from shared.events import Event, Payload, Recorded, outward_document
from shared.ids import AppId, EventId

AttemptNumber = NewType("AttemptNumber", int)
DeliveryState = Literal["waiting", "delivered", "exhausted", "parked"]

RETRY_DELAYS_S: Final = (5, 5 * 60, 30 * 60, *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24)))
"""From one failed attempt to the next. Ten attempts in a little over three days, jitter left out."""
RETRY_AFTER_S_MAX: Final = 24 * 3600.0
"""An endpoint that asks for more is tried after a day all the same."""
BODY_BYTES_MAX: Final = 64 * 1024
"""Standard Webhooks wants small messages (20 kB); more than this is refused by many a receiver's default."""

GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Message:
    """What is posted. Every attempt carries the same id and the same bytes."""

    id: str
    body: bytes


def message_of(event: Event[Payload]) -> Message:
    """The event as Standard Webhooks wants it. Raises shared.events.OutwardEventUnknown."""
    return Message(id=str(event.id), body=msgspec.json.encode(outward_document(event)))


@dataclass(frozen=True, slots=True)
class DeliveryKey:
    """One outward event to one endpoint."""

    app: AppId
    endpoint_id: EndpointId
    event_id: EventId

    @property
    def endpoint(self) -> EndpointKey:
        return EndpointKey(self.app, self.endpoint_id)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery that is to be tried now; `attempts` were made before, since it was last resent.

    Until `lost_at` it is nobody else's, unless it is resent meanwhile: it is known by that time when it is settled.
    """

    key: DeliveryKey
    event: Recorded
    attempts: int
    lost_at: datetime

    @property
    def number(self) -> AttemptNumber:
        """Of the attempt that is next, from 1: its place in the schedule."""
        return AttemptNumber(self.attempts + 1)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one post. `status` is None when there was no answer; `trouble` says why there was none.

    `beginning` is how the answer's body begins; `retry_after_s` is what the endpoint asked for, if it did.
    """

    at: datetime
    duration_ms: int
    status: int | None
    beginning: str = ""
    trouble: str | None = None
    retry_after_s: float | None = None

    @property
    def error(self) -> str | None:
        """Why the message was not taken, in a few words; None when it was."""
        if self.status is None:
            return self.trouble or "no answer"
        return None if 200 <= self.status < 300 else f"answered {self.status}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an attempt means for its delivery (waiting: again after `delay_s`). `endpoint_gone`: and for its endpoint,
    that it is not to be told any more."""

    state: DeliveryState
    reason: str | None = None
    delay_s: float | None = None
    endpoint_gone: bool = False


def judge(answer: Answer, *, number: AttemptNumber, delays_s: Sequence[float] | None, jitter: float) -> Verdict:
    """The verdict on attempt `number` (from 1). `delays_s` is the endpoint's own schedule, if it has one.

    `jitter` (1 or a little more) stretches the delay, so that a retry comes no sooner than the schedule says or the
    endpoint asks, and many do not come at once.
    """
    schedule = RETRY_DELAYS_S if delays_s is None else delays_s
    if answer.error is None:
        return Verdict("delivered")
    if answer.status == GONE:  # kept for the day when the endpoint is enabled, or has another URL
        return Verdict("waiting", answer.error, delay_s=0.0, endpoint_gone=True)
    if number > len(schedule):
        return Verdict("exhausted", f"not taken in {number} attempts, the last one: {answer.error}")
    delay_s = max(schedule[number - 1], answer.retry_after_s or 0.0)
    return Verdict("waiting", answer.error, delay_s=delay_s * jitter)


@dataclass(frozen=True, slots=True)
class Settlement:
    """One attempt, for the record. `answer` None: none was made, since it cannot be sent at all.

    `lost_at` is the delivery's: it is settled only as what it was taken for.
    """

    key: DeliveryKey
    lost_at: datetime
    answer: Answer | None
    verdict: Verdict
    due_at: datetime | None


def read_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Seconds to wait, from 0 to RETRY_AFTER_S_MAX. None: there is no such header, or it cannot be read.

    RFC 9110, section 10.2.3: a number of seconds, or a date.
    """
    if value is None:
        return None
    try:
        seconds = _seconds(value.strip(), now=now)
    except (ValueError, TypeError, OverflowError):  # whatever the standard library finds wrong with a date
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_S_MAX)


def _seconds(value: str, *, now: datetime) -> float:
    if value.isascii() and value.isdigit():
        return float(value)
    moment = parsedate_to_datetime(value)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
