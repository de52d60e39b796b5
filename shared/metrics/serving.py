"""Tells the metrics of a process that is one: `serve_metrics(settings, ReadAtScrape(…))`."""

from __future__ import annotations

import platform
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from importlib.metadata import version
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from shared.log import get_logger
from shared.metrics.counted import REGISTRY
from shared.metrics.ports import open_port
from shared.metrics.read import Family, family
from shared.settings import ProcessSettings

log = get_logger(__name__)

PATH: Final = "/metrics"
SCRAPES_AT_ONCE_MAX: Final = 4
SILENCE_S: Final = 5.0
"""Who connects and says nothing, or does not read, is hung up on."""

Render = Callable[[str], tuple[bytes, str]]
"""The metrics, and their content type, for what a scrape accepts."""


class BuildInfo(Collector):
    """Which release runs, on which Python."""

    def collect(self) -> Iterator[Family]:
        yield family("purser_build_info", {(version("purser"), platform.python_version()): 1.0})


def serve_metrics(settings: ProcessSettings, *read: Collector) -> None:
    """Tells what this process counts and is, and what is `read` at the scrape, until the process ends.

    Nothing without PURSER_METRICS_PORT. Ends the process with a sentence when the port cannot be had.
    """
    if settings.metrics_port:
        own = ProcessCollector(registry=None)
        serve(open_port(settings), rendering([BuildInfo(), own, REGISTRY, *read]))


def rendering(collectors: Iterable[Collector]) -> Render:
    """Renders what these collect, in the format that the scrape asks for."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)

    def render(accept: str) -> tuple[bytes, str]:
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type

    return render


def serve(listener: socket.socket, render: Render) -> None:
    """Answers scrapes, on threads of their own, until the process ends."""
    server = _Server(listener, render)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """So many scrapes at once; whoever comes while they are under way is hung up on."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, render: Render) -> None:
        super().__init__(listener.getsockname(), partial(_Scrape, render), bind_and_activate=False)
        self.socket.close()  # the one that it made itself
        self.socket = listener
        self._room = threading.Semaphore(SCRAPES_AT_ONCE_MAX)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        log.warning("a scrape was not answered", exc_info=True)


class _Scrape(BaseHTTPRequestHandler):
    """One scrape."""

    server_version = "Purser"
    sys_version = ""
    timeout = SILENCE_S

    def __init__(self, render: Render, *arguments: Any) -> None:
        self._render = render
        super().__init__(*arguments)

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        body, content_type = self._render(self.headers.get("Accept", ""))
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a scrape every few seconds is no news."""
