"""A real HTTP server in another service's place, which answers what it is told to and keeps what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from http.server import BaseHTTPRequestHandler

from tests.support.quiet import QuietServer

HOLD_S_MAX = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came in, its body to the byte; the names of its headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class ScriptedService:
    """What it answers: `status`, `headers` and `body`, once `hold` is set if there is one.

    `breaks`: it reads a request and closes the connection without a word. `close_after_answer`: it closes it after the
    answer, and says nothing of it, so that the client finds out by itself.
    """

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    body: bytes = b"{}"
    breaks: bool = False
    close_after_answer: bool = False
    hold: threading.Event | None = None
    asked: list[Asked] = field(default_factory=list)

    @property
    def last(self) -> Asked:
        return self.asked[-1]

    def start_anew(self) -> None:
        """It answers as it did at first, and was asked nothing."""
        fresh = ScriptedService(url=self.url)
        for each in fields(self):
            setattr(self, each.name, getattr(fresh, each.name))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: ScriptedService

    def answer(self) -> None:
        service = self.service
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        service.asked.append(Asked(self.command, self.path, headers, body))
        if service.hold is not None:
            service.hold.wait(HOLD_S_MAX)
        self.close_connection = service.close_after_answer or service.breaks
        if not service.breaks:
            self._send(service)

    do_GET = do_POST = answer  # noqa: N815 - the names that http.server looks for

    def _send(self, service: ScriptedService) -> None:
        self.send_response(service.status)
        for name, value in service.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(service.body)))
        self.end_headers()
        self.wfile.write(service.body)

    def log_message(self, *_: object) -> None:
        """The test's output is no access log."""


@contextmanager
def scripted_service() -> Iterator[ScriptedService]:
    """One that runs until the block ends."""
    service = ScriptedService()
    server = QuietServer(("127.0.0.1", 0), type("OneService", (_Handler,), {"service": service}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        if service.hold is not None:
            service.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()
