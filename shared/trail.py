"""Where a thread is: in which trace, and about which event or request. Not what it does there.

    with trail.at(Place.of(event)):
        ...                               # whatever is logged, sent or recorded in here belongs to that event's trace

The log puts it on every line (`shared.log`), traces hang their spans below it, and what is told onward names it
(`shared.tracing`). A thread that does the work of several at once (a batch, a group commit) is at all of their places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, NewType, Protocol
from uuid import UUID

from shared.ids import EventId

SpanId = NewType("SpanId", str)
"""16 hexadecimal digits, as W3C Trace Context wants them."""

TRACEPARENT_HEADER: Final = "traceparent"
NAMED_MAX: Final = 5
"""So many traces of a batch are named; a line is to stay a line."""

_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


class Recorded(Protocol):
    """An event, as far as it matters here."""

    @property
    def id(self) -> EventId: ...

    @property
    def type(self) -> str: ...

    @property
    def trace_id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a trace: below which span, and about what, if that is known."""

    trace_id: str
    span_id: SpanId
    event_id: EventId | None = None
    request_id: str | None = None

    @classmethod
    def of(cls, event: Recorded) -> Place:
        """Where everything belongs that is done about an event: below the span of its having been recorded."""
        return cls(event.trace_id, event_span(event.id), event.id)

    def names(self) -> Mapping[str, str]:
        """As a line of the log names it."""
        about = {"event_id": self.event_id, "request_id": self.request_id}
        return {"trace_id": self.trace_id, **{name: str(value) for name, value in about.items() if value is not None}}


_PLACES: ContextVar[tuple[Place, ...]] = ContextVar("places", default=())


def places() -> tuple[Place, ...]:
    """Where this thread is: nowhere in particular, at one place, or at those of a batch."""
    return _PLACES.get()


def place() -> Place | None:
    """The one place where this thread is; None if there is none, or are several."""
    here = _PLACES.get()
    return here[0] if len(here) == 1 else None


def move_to(*there: Place) -> None:
    """This thread is there from now on, and nowhere if there is no place. Threads are used again: move away."""
    _PLACES.set(there)


@contextmanager
def at(*there: Place) -> Iterator[None]:
    """This thread is there, until the end of the block."""
    before = _PLACES.set(there)
    try:
        yield
    finally:
        _PLACES.reset(before)


def names(*, about: object = None) -> Mapping[str, str | Sequence[str]]:
    """Where this thread is, for the log: `trace_id` with `event_id` or `request_id`, or the first `trace_ids`.

    `about`: the event that the line names itself; of several places only that one counts.
    """
    here = _PLACES.get()
    if about is not None:
        here = tuple(each for each in here if each.event_id is None or str(each.event_id) == about)
    if about is not None or len(here) == 1:
        return here[0].names() if here else {}
    traces = list(dict.fromkeys(each.trace_id for each in here))
    return {"trace_ids": traces[:NAMED_MAX]} if traces else {}


def event_span(event_id: UUID) -> SpanId:
    """The span of an event's having been recorded. Whoever knows the event knows it: nothing more is stored.

    The last 8 bytes of a UUID are never all zero: its variant is in them.
    """
    return SpanId(event_id.hex[16:])


def read_traceparent(header: str) -> tuple[str, SpanId] | None:
    """Trace and span of a `traceparent`; None if it is not valid (W3C Trace Context, sections 3.2.2 and 4.3)."""
    match = _TRACEPARENT.fullmatch(header)
    if match is None:
        return None
    version, trace, span, more = match.groups()
    if version == "ff" or (version == "00" and more) or trace == _NO_TRACE or span == _NO_SPAN:
        return None
    return str(trace), SpanId(span)
