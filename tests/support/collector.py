"""A small real collector of traces: takes OTLP over HTTP, as OpenTelemetry's own messages say, and keeps the spans."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

Behaviour = Literal["take", "refuse", "hang"]
HANG_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class ToldSpan:
    """A span as it arrived. `parent_id` is empty for a root; times are seconds since 1970."""

    service: str
    version: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    began_s: float
    ended_s: float
    attributes: Mapping[str, Any]
    failed: bool


class Collector:
    """Listens on a free port. `behaviour` may be changed at any time."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = "take"
        self._lock = threading.Lock()
        self._spans: list[ToldSpan] = []
        self._heads: list[Mapping[str, str]] = []
        self._closed = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def spans(self) -> list[ToldSpan]:
        """All spans so far, in the order of their arrival."""
        with self._lock:
            return list(self._spans)

    @property
    def heads(self) -> list[Mapping[str, str]]:
        """The headers of all requests so far, their names in lower case."""
        with self._lock:
            return list(self._heads)

    def trace(self, trace_id: str) -> list[ToldSpan]:
        return [span for span in self.spans if span.trace_id == trace_id]

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(HANG_S_MAX)

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        """Keeps what a request tells; the status to answer."""
        with self._lock:
            self._heads.append(headers)
        if path != "/v1/traces" or headers.get("content-type") != "application/x-protobuf":
            return 404
        match self.behaviour:
            case "hang":
                self._closed.wait(HANG_S_MAX)
                return 503
            case "refuse":
                return 403
        told = ExportTraceServiceRequest.FromString(
            gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        )
        with self._lock:
            self._spans += _spans(told)
        return 200


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens until the end of the block."""
    collector = Collector()
    try:
        yield collector
    finally:
        collector.close()


def _spans(told: ExportTraceServiceRequest) -> Iterator[ToldSpan]:
    for of_process in told.resource_spans:
        process = _values(of_process.resource.attributes)
        for scope in of_process.scope_spans:
            for span in scope.spans:
                yield ToldSpan(
                    service=process["service.name"],
                    version=process["service.version"],
                    name=span.name,
                    kind=OtlpSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    began_s=span.start_time_unix_nano / 1e9,
                    ended_s=span.end_time_unix_nano / 1e9,
                    attributes=_values(span.attributes),
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                )


def _values(attributes: Any) -> dict[str, Any]:
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, collector: Collector) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.collector = collector


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert isinstance(self.server, _Server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with contextlib.suppress(OSError):  # who asked may have given up
            self.send_response(self.server.collector.take(self.path, headers, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""
