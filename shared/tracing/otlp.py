"""Telling spans to a collector, with OpenTelemetry's own exporter: OTLP over HTTP, protobuf.

Only its exporter and its types are used. It has no place of its own in our threads, and what it would read from the
environment, but for proxies and certificates, is given to it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from shared.settings import TracingSettings
from shared.tracing import Span
from shared.tracing.outbox import CollectorUnavailable

TELL_WITHIN_S: Final = 5.0
"""One batch, its repeats included."""
PATH: Final = "/v1/traces"
"""OTLP specification, "OTLP/HTTP Request": the default path of traces, below the collector's URL."""

_KINDS: Final = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


class OtlpCollector:
    """A collector that speaks OTLP. For one thread."""

    def __init__(self, *, service: str, settings: TracingSettings) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # whoever tells it says what came of it
        self._exporter = OTLPSpanExporter(
            endpoint=settings.otlp_url.rstrip("/") + PATH,
            headers=settings.otlp_header_pairs(),
            timeout=TELL_WITHIN_S,
            compression=Compression.Gzip,
        )
        self._ids, self._over = _GivenIds(), _Over()
        release = version("purser")
        provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource({"service.name": service, "service.namespace": "purser", "service.version": release}),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        provider.add_span_processor(self._over)
        self._tracer = provider.get_tracer("purser", release)

    def tell(self, spans: Sequence[Span]) -> None:
        """Raises CollectorUnavailable."""
        for span in spans:
            self._translate(span)
        if self._exporter.export(self._over.take()) is not SpanExportResult.SUCCESS:
            raise CollectorUnavailable("the collector is away, or does not take them")

    def _translate(self, span: Span) -> None:
        self._ids.given = (int(span.trace_id, 16), int(span.span_id, 16))
        began_ns = _nanoseconds(span.began)
        translated = self._tracer.start_span(
            span.name,
            context=_below(span),
            kind=_KINDS[span.kind],
            attributes=span.attributes,
            start_time=began_ns,
        )
        if span.error is not None:
            translated.set_attribute("error.type", span.error)
            translated.set_status(Status(StatusCode.ERROR, span.error))
        translated.end(began_ns + round(span.took_s * 1e9))


class _GivenIds(IdGenerator):
    """A span has the ids that it was made with."""

    given = (0, 0)

    def generate_trace_id(self) -> int:
        return self.given[0]

    def generate_span_id(self) -> int:
        return self.given[1]


class _Over(SpanProcessor):
    """Collects the spans that are over."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self._spans.append(span)

    def take(self) -> list[ReadableSpan]:
        spans, self._spans = self._spans, []
        return spans


def _below(span: Span) -> Context:
    """Its parent, as OpenTelemetry wants to be told of it; an empty context for none."""
    if span.parent_id is None:
        return Context()
    parent = SpanContext(
        int(span.trace_id, 16), int(span.parent_id, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
