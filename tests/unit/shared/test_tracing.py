"""Spans: which there are, below which, and that telling them is nobody's business but their own."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
import structlog
from structlog.testing import LogCapture

from shared import tracing, trail
from shared.clock import ManualClock, SystemClock
from shared.events import AccountTokenIssued, Draft
from shared.ids import AppId, EventId, system_ids
from shared.settings import TracingSettings, examine
from shared.tracing import Span, Together, Tracer
from shared.tracing.otlp import OtlpCollector
from shared.tracing.outbox import BATCH_MAX, COMPLAIN_EVERY_S, QUEUE_MAX, STOP_WITHIN_S, CollectorUnavailable, Outbox
from shared.trail import Place, SpanId, event_span
from tests.support.collector import collecting
from tests.support.seeded import seeded_ids
from tests.support.stack import wait_until

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
OTHER = "0af7651916cd43dd8448eb211c80319c"
HERE = Place(TRACE, SpanId("00f067aa0ba902b7"))


@dataclass(frozen=True)
class Happened:
    """An event, as far as it matters here."""

    id: EventId
    type: str = "account_token.issued"
    trace_id: str = TRACE


def draft(trace_id: str = TRACE, *, causation_id: EventId | None = None) -> Draft:
    payload = AccountTokenIssued(token=UUID(int=1))
    return Draft(payload, AppId("game"), "acc_x", None, NOW, trace_id, causation_id)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def told(clock: ManualClock) -> Iterator[list[Span]]:
    """What is told from now on: all traces are wanted."""
    spans: list[Span] = []
    tracing.use(Tracer(tell=spans.append, share=1.0, clock=clock, ids=seeded_ids(7, clock=clock)))
    yield spans
    tracing.use(None)


class TestSpans:
    def test_one_is_below_where_the_thread_is_and_the_thread_is_in_it(
        self, told: list[Span], clock: ManualClock
    ) -> None:
        with trail.at(HERE), tracing.span("outer", kind="server"):
            clock.advance(1)
            with tracing.span("inner", kind="client") as span:
                span.attributes["answer"] = 42
                clock.advance(2)
        inner, outer = told
        assert (outer.parent_id, inner.parent_id) == (HERE.span_id, outer.span_id)
        assert (outer.took_s, inner.took_s, inner.attributes) == (3, 2, {"answer": 42})
        assert {inner.trace_id, outer.trace_id} == {TRACE}
        assert outer.error is inner.error is None

    def test_what_is_raised_is_its_error(self, told: list[Span]) -> None:
        with pytest.raises(KeyError), trail.at(HERE), tracing.span("fails", kind="client"):
            raise KeyError("a secret")
        assert [span.error for span in told] == ["KeyError"]

    def test_a_thread_that_is_nowhere_has_none(self, told: list[Span]) -> None:
        with tracing.span("nobody's", kind="client") as span:
            span.attributes["answer"] = 42
        assert told == []

    def test_without_a_collector_nothing_is_made_and_the_thread_stays_where_it_is(self) -> None:
        with trail.at(HERE), tracing.span("unheard", kind="client"):
            assert trail.place() == HERE
        assert tracing.recording([draft()], [system_ids().event_id()])(set()) is None


class TestEvents:
    def test_an_event_is_handled_below_its_recording_and_what_follows_is_recorded_below_that(
        self, told: list[Span]
    ) -> None:
        first, second = system_ids().event_id(), system_ids().event_id()
        with trail.at(HERE):
            tracing.recording([draft()], [first])({first})
        together = Together("verifier")
        with trail.at(*together.places_of([Happened(first)])):
            tracing.recording([draft(causation_id=first)], [second])({second})
        together.end()
        recorded, followed, handled = told
        assert [span.name for span in told] == [
            "account_token.issued record",
            "account_token.issued record",
            "account_token.issued handle",
        ]
        assert (recorded.parent_id, recorded.span_id) == (HERE.span_id, event_span(first))
        assert (handled.parent_id, followed.parent_id) == (recorded.span_id, handled.span_id)
        assert handled.attributes["messaging.destination.name"] == "verifier"

    def test_of_a_batch_each_follows_from_its_own_cause(self, told: list[Span]) -> None:
        causes = [system_ids().event_id() for _ in range(3)]
        together = Together("ledger")
        places = together.places_of([Happened(each) for each in causes])
        follow = [system_ids().event_id() for _ in causes]
        with trail.at(*places):
            tracing.recording([draft(causation_id=each) for each in causes], follow)(set(follow))
        assert [span.parent_id for span in told] == [place.span_id for place in places]
        assert len({place.span_id for place in places}) == 3

    def test_what_is_recorded_beside_others_requests_is_below_its_own(self, told: list[Span]) -> None:
        mine, others = Place(OTHER, SpanId("1" * 16)), HERE
        with trail.at(others, mine):
            tracing.recording([draft(OTHER)], [event := system_ids().event_id()])({event})
        assert [span.parent_id for span in told] == ["1" * 16]

    def test_what_follows_from_nothing_here_is_a_root_or_below_its_causes_recording(self, told: list[Span]) -> None:
        cause, events = system_ids().event_id(), [system_ids().event_id() for _ in range(2)]
        tracing.recording([draft(), draft(causation_id=cause)], events)(set(events))
        assert [span.parent_id for span in told] == [None, event_span(cause)]

    def test_what_was_known_already_is_not_told(self, told: list[Span]) -> None:
        known, new = system_ids().event_id(), system_ids().event_id()
        tracing.recording([draft(), draft()], [known, new])({new})
        assert [span.span_id for span in told] == [event_span(new)]

    def test_a_transaction_that_is_repeated_has_one_span_for_each_event(self, told: list[Span]) -> None:
        together, event = Together("ledger"), Happened(system_ids().event_id())
        together.places_of([event])
        together.places_of([event])
        together.end()
        assert len(told) == 1


class TestTheShare:
    def test_a_trace_is_wanted_by_all_processes_or_by_none(self) -> None:
        half = [Tracer(tell=_nobody, share=0.5, clock=SystemClock(), ids=system_ids()) for _ in range(2)]
        traces = [system_ids().trace_id() for _ in range(1_000)]
        assert [half[0].wants(trace) for trace in traces] == [half[1].wants(trace) for trace in traces]
        assert 400 < sum(half[0].wants(trace) for trace in traces) < 600

    @pytest.mark.parametrize(("share", "wanted"), [(0.0, False), (1.0, True)])
    def test_none_and_all_are_none_and_all(self, share: float, wanted: bool) -> None:
        tracer = Tracer(tell=_nobody, share=share, clock=SystemClock(), ids=system_ids())
        assert {tracer.wants(trace) for trace in ("0" * 32, "f" * 32)} == {wanted}

    def test_of_a_trace_that_is_not_wanted_there_is_no_span_and_others_are_told_so(self, told: list[Span]) -> None:
        tracing.use(Tracer(tell=told.append, share=0.5, clock=SystemClock(), ids=system_ids()))
        unwanted = replace(HERE, trace_id="f" * 32)
        event = Happened(system_ids().event_id(), trace_id="f" * 32)
        with trail.at(unwanted), tracing.span("unwanted", kind="client"):
            assert tracing.traceparent() == f"00-{'f' * 32}-{HERE.span_id}-00"
            tracing.recording([draft("f" * 32)], [event.id])({event.id})
        together = Together("ledger")
        assert together.places_of([event]) == [Place.of(event)]
        together.end()
        assert told == []

    def test_without_a_collector_whoever_is_told_of_the_trace_may_keep_it(self) -> None:
        with trail.at(HERE):
            assert tracing.traceparent() == f"00-{TRACE}-{HERE.span_id}-01"
        assert tracing.traceparent() is None


class Taking:
    """A collector that takes what it is told, or does not."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.away = False
        self.asked = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def tell(self, spans: Sequence[Span]) -> None:
        self.asked += 1
        self.may_go_on.wait(30)
        if self.away:
            raise CollectorUnavailable("away")
        self.spans += spans


def a_span() -> Span:
    return Span("x", "client", TRACE, SpanId("1" * 16), None, NOW, 0.0)


class TestTheOutbox:
    def test_what_is_put_in_is_told_soon(self) -> None:
        collector = Taking()
        outbox = Outbox(collector, clock=SystemClock())
        outbox.put(a_span())
        wait_until(lambda: len(collector.spans) == 1, what="the span")
        outbox.close()

    def test_what_waits_at_the_end_is_told(self) -> None:
        collector = Taking()
        outbox = Outbox(collector, clock=SystemClock())
        for _ in range(BATCH_MAX + 1):
            outbox.put(a_span())
        outbox.close()
        assert len(collector.spans) == BATCH_MAX + 1

    def test_a_collector_that_hangs_keeps_nobody_waiting_and_costs_no_more_than_the_queue(self) -> None:
        collector, clock = Taking(), SystemClock()
        collector.may_go_on.clear()
        outbox = Outbox(collector, clock=clock)
        began_s = clock.monotonic()
        for _ in range(3 * QUEUE_MAX):
            outbox.put(a_span())
        assert clock.monotonic() - began_s < 3
        outbox.close()
        assert clock.monotonic() - began_s < STOP_WITHIN_S + 5
        collector.may_go_on.set()
        wait_until(lambda: len(collector.spans) >= QUEUE_MAX, what="what was kept")
        assert len(collector.spans) <= QUEUE_MAX + BATCH_MAX

    def test_what_is_lost_is_said_once_a_minute(self, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
        captured = LogCapture()
        monkeypatch.setattr("shared.tracing.outbox.log", structlog.wrap_logger(None, processors=[captured]))
        collector = Taking()
        collector.away = True
        outbox = Outbox(collector, clock=clock)
        for number in range(1, 4):
            outbox.put(a_span())
            wait_until(lambda number=number: collector.asked == number, what="the attempt")  # type: ignore[misc]
        clock.advance(COMPLAIN_EVERY_S)
        outbox.put(a_span())
        wait_until(lambda: len(captured.entries) == 2, what="the second complaint")
        outbox.close()
        assert [(line["spans"], line["reason"]) for line in captured.entries] == [(1, "away"), (3, "away")]


class TestOtlp:
    def test_a_span_arrives_as_it_was(self) -> None:
        with collecting() as collector:
            settings = TracingSettings(otlp_url=collector.url + "/")
            OtlpCollector(service="gateway", settings=settings).tell(
                [
                    replace(a_span(), attributes={"n": 1, "s": "x", "b": True}, took_s=1.5),
                    replace(a_span(), kind="server", span_id=SpanId("2" * 16), parent_id=HERE.span_id, error="500"),
                ]
            )
            root, child = collector.spans
        assert (root.service, root.name, root.kind, root.trace_id) == ("gateway", "x", "client", TRACE)
        assert (root.span_id, root.parent_id, root.failed) == ("1" * 16, "", False)
        assert root.attributes == {"n": 1, "s": "x", "b": True}
        assert (root.began_s, root.ended_s - root.began_s) == (NOW.timestamp(), 1.5)
        assert (child.kind, child.span_id, child.parent_id, child.failed) == ("server", "2" * 16, HERE.span_id, True)
        assert child.attributes == {"error.type": "500"}

    def test_a_collector_that_refuses_is_one_that_does_not_take_them(self) -> None:
        with collecting() as collector:
            collector.behaviour = "refuse"
            exporting = OtlpCollector(service="gateway", settings=TracingSettings(otlp_url=collector.url))
            with pytest.raises(CollectorUnavailable):
                exporting.tell([a_span()])
            collector.behaviour = "take"
            exporting.tell([a_span()])
            assert len(collector.spans) == 1

    def test_a_collector_that_is_not_there_is_one_that_does_not_take_them(self) -> None:
        with pytest.raises(CollectorUnavailable):
            OtlpCollector(service="x", settings=TracingSettings(otlp_url="http://127.0.0.1:1")).tell([a_span()])


def test_without_a_collector_nothing_of_opentelemetry_is_imported() -> None:
    program = (
        "import sys; from shared import tracing; from shared.settings import TracingSettings\n"
        "import gateway.app, notifier.app, verifier.app, ledger.app\n"
        "tracing.start(service='x', settings=TracingSettings())\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "[]\n"


class TestSettings:
    @pytest.mark.parametrize(
        "url", ["collector:4318", "grpc://collector:4317", "http://", "http://user:pass@host", "x"]
    )
    def test_what_is_no_url_of_a_collector_is_refused(self, url: str) -> None:
        assert examine(TracingSettings, {"PURSER_OTLP_URL": url})[0] is None

    def test_headers_are_a_comma_list_whose_values_are_percent_encoded(self) -> None:
        settings, _ = examine(TracingSettings, {"PURSER_OTLP_HEADERS": "Authorization=Basic%20YQ==, x-team=purser"})
        assert settings is not None
        assert settings.otlp_header_pairs() == {"Authorization": "Basic YQ==", "x-team": "purser"}

    @pytest.mark.parametrize("headers", ["hunter2", "a b=hunter2", "=hunter2", "x=hunter2%0d%0aEvil: 1", "x="])
    def test_other_headers_are_refused_without_a_word_of_them(self, headers: str) -> None:
        settings, problems = examine(TracingSettings, {"PURSER_OTLP_HEADERS": headers})
        assert settings is None
        assert "PURSER_OTLP_HEADERS" in problems[0]
        assert "hunter2" not in str(problems)


def _nobody(_span: Span) -> None:
    """Is told, and does nothing."""
