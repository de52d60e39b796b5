"""Traces, for whoever names a collector (PURSER_OTLP_URL): spans, told to it by OTLP over HTTP (OpenTelemetry).

    with tracing.span("POST buy.itunes.apple.com", kind="client") as span:  # below where this thread is (shared.trail)
        span.attributes["http.response.status_code"] = 200

outbox.py   where spans wait to be told
otlp.py     telling them: the one place where OpenTelemetry is imported, and only if there is a collector

All spans of a purchase are one tree, though nothing but the trace's id is stored for it. The span of an event's having
been recorded has an id that follows from the event's (`trail.event_span`), so whoever handles it knows the parent:

    POST /v1/purchases                gateway     below the caller's span, if it sent a `traceparent`
      transaction.submitted record    gateway     until it was durable
        transaction.submitted handle  verifier    from its claim until the commit
          purchase.verified record    verifier
            …
              POST webhook            webhooks    one for each attempt

Without a collector nothing is measured. One that is away or slow loses spans, and nothing else. No attribute holds what
is nobody's business: no receipt, token, key or JWS, no user id, no path of a URL.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing.util import Finalize
from typing import Final, Literal, TypeAlias

from shared import trail
from shared.clock import Clock, SystemClock
from shared.events import Draft
from shared.ids import EventId, IdSource, system_ids
from shared.settings import TracingSettings
from shared.trail import Place, Recorded, SpanId, event_span

Kind = Literal["server", "client", "producer", "consumer"]
Attribute: TypeAlias = str | int | float | bool

EVENT_ID: Final = "purser.event_id"
_NEVER: Final = datetime.fromtimestamp(0, UTC)


@dataclass(slots=True)
class Span:
    """What takes a while. `error`: a word for what went wrong, if something did. `began_s`: by the clock that is never
    put back, for `took_s`.
    """

    name: str
    kind: Kind
    trace_id: str
    span_id: SpanId
    parent_id: SpanId | None
    began: datetime
    began_s: float
    attributes: dict[str, Attribute] = field(default_factory=dict)
    took_s: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Tracer:
    """Makes the spans of the wanted share of all traces, and has them told once they are over. Thread-safe.

    Whether a trace is wanted follows from its id, so processes with the same share agree.
    """

    tell: Callable[[Span], None]
    share: float
    clock: Clock
    ids: IdSource

    def wants(self, trace_id: str) -> bool:
        """As OpenTelemetry's TraceIdRatioBased: the lower 8 bytes decide."""
        return int(trace_id[16:], 16) < self.share * 2**64

    def new_span(self) -> SpanId:
        """Its last 8 bytes, since no UUID has only zeros there."""
        return SpanId(self.ids.uuid().hex[16:])

    def begin(self, name: str, kind: Kind, *, trace_id: str, parent_id: SpanId | None) -> Span:
        """A span that begins now."""
        return Span(name, kind, trace_id, self.new_span(), parent_id, self.clock.now(), self.clock.monotonic())

    def end(self, *spans: Span) -> None:
        """They end now."""
        now_s = self.clock.monotonic()
        for span in spans:
            span.took_s = now_s - span.began_s
            self.tell(span)


_tracer: Tracer | None = None


def start(*, service: str, settings: TracingSettings) -> None:
    """From now on this process, which is called `service`, tells its spans, if the settings name a collector.

    Nothing is connected, and no thread runs, before the first span: call it in the process that makes them, not before
    it is forked.
    """
    if not settings.otlp_url:
        return
    from shared.tracing.otlp import OtlpCollector
    from shared.tracing.outbox import Outbox

    clock = SystemClock()
    outbox = Outbox(OtlpCollector(service=service, settings=settings), clock=clock)
    use(Tracer(tell=outbox.put, share=settings.traces_sample, clock=clock, ids=system_ids()))
    Finalize(None, outbox.close, exitpriority=0)  # at the end of a forked worker too, where atexit is not heard


def use(tracer: Tracer | None) -> None:
    """Makes it this process's; None: no spans are made."""
    global _tracer  # noqa: PLW0603  one per process, as logging is
    _tracer = tracer


def traceparent() -> str | None:
    """What is sent onward from where this thread is (W3C Trace Context); None if that is not one place.

    Its flag says whether spans of this trace are kept here; without a collector, it leaves that to whoever gets it.
    """
    here = trail.place()
    if here is None:
        return None
    kept = _tracer is None or _tracer.wants(here.trace_id)
    return f"00-{here.trace_id}-{here.span_id}-{'01' if kept else '00'}"


# ---- one span ----------------------------------------------------------------------------------------------------


def begin(name: str, *, kind: Kind, trace_id: str, parent_id: SpanId | None) -> Span | None:
    """A span from now until it is given to `end`; None: there is to be none. For what has no block to be in."""
    if _tracer is None or not _tracer.wants(trace_id):
        return None
    return _tracer.begin(name, kind, trace_id=trace_id, parent_id=parent_id)


def end(span: Span | None) -> None:
    """It ends now."""
    if _tracer is not None and span is not None:
        _tracer.end(span)


@contextmanager
def span(name: str, *, kind: Kind) -> Iterator[Span]:
    """A span below where this thread is; until the end of the block the thread is in it. What is raised is its error.

    A thread that is not at one place gets one that nobody is told of.
    """
    here = trail.place()
    begun = None if here is None else begin(name, kind=kind, trace_id=here.trace_id, parent_id=here.span_id)
    if here is None or begun is None:
        yield Span(name, kind, "", SpanId(""), None, _NEVER, 0.0)
        return
    with trail.at(replace(here, span_id=begun.span_id)):
        try:
            yield begun
        except BaseException as error:
            begun.error = type(error).__name__
            raise
        finally:
            end(begun)


# ---- events ------------------------------------------------------------------------------------------------------


class Together:
    """The spans of events that are handled in one transaction: one each, as long as all of it takes, from now on."""

    def __init__(self, consumer: str) -> None:
        self._consumer = consumer
        self._spans: list[Span] = []
        self._began = (_NEVER, 0.0) if _tracer is None else (_tracer.clock.now(), _tracer.clock.monotonic())

    def places_of(self, events: Sequence[Recorded]) -> list[Place]:
        """Where whoever handles these events is: in the span of each. A transaction that is repeated asks again."""
        self._spans = []
        return [self._place_of(event) for event in events]

    def end(self) -> None:
        """All of them are handled."""
        if _tracer is not None:
            _tracer.end(*self._spans)

    def _place_of(self, event: Recorded) -> Place:
        below = Place.of(event)
        if _tracer is None or not _tracer.wants(event.trace_id):
            return below
        name = f"{event.type} handle"
        span = Span(name, "consumer", event.trace_id, _tracer.new_span(), below.span_id, *self._began)
        span.attributes |= handling(self._consumer, event.id)
        self._spans.append(span)
        return replace(below, span_id=span.span_id)


def handling(consumer: str, event_id: EventId) -> dict[str, Attribute]:
    """The attributes of an event's being handled (OpenTelemetry's names, where it has one)."""
    return {"messaging.destination.name": consumer, EVENT_ID: str(event_id)}


def recording(drafts: Sequence[Draft], event_ids: Sequence[EventId]) -> Callable[[Collection[EventId]], None]:
    """The spans of these events' being recorded, from now until they are durable: then what is returned is called, with
    those that were recorded.
    """
    tracer = _tracer
    if tracer is None:
        return _nothing
    here, began = _Here(trail.places()), (tracer.clock.now(), tracer.clock.monotonic())
    spans = {
        event_id: _of_recording(draft, event_id, here.parent_of(draft), *began)
        for draft, event_id in zip(drafts, event_ids, strict=True)
        if tracer.wants(draft.trace_id)
    }
    return lambda recorded: tracer.end(*(span for event_id, span in spans.items() if event_id in recorded))


def _of_recording(draft: Draft, event_id: EventId, parent_id: SpanId | None, began: datetime, began_s: float) -> Span:
    name = f"{draft.payload.TYPE} record"
    attributes: dict[str, Attribute] = {
        EVENT_ID: str(event_id),
        "purser.app": draft.app,
        "purser.subject": draft.subject,
    }
    return Span(name, "producer", draft.trace_id, event_span(event_id), parent_id, began, began_s, attributes)


class _Here:
    """The places where this thread is, to find among them the one that a draft comes from."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._by_event = {each.event_id: each.span_id for each in places if each.event_id is not None}
        self._by_trace = {each.trace_id: each.span_id for each in reversed(places)}

    def parent_of(self, draft: Draft) -> SpanId | None:
        """Where the event that it follows from is handled, or was recorded; what is said of its own accord follows
        from the request at hand, if it is one of its trace."""
        if draft.causation_id is None:
            return self._by_trace.get(draft.trace_id)
        return self._by_event.get(draft.causation_id) or event_span(draft.causation_id)


def _nothing(_recorded: Collection[EventId]) -> None:
    """Nothing is told."""
