"""A small backend of the app's own: takes the webhooks of the demo and checks their signatures."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from standardwebhooks import Webhook, WebhookVerificationError

from deploy.ports import FixedPort, require_free
from shared.apps import WebhookEndpoint
from shared.clock import Clock

BODY_BYTES_MAX = 256 * 1024
READ_TIMEOUT_S = 10
KEPT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Received:
    """One webhook whose signature is right."""

    id: str
    type: str
    data: dict[str, Any]
    at: datetime


class Receiver:
    """Listens at an endpoint's URL until it is closed, and keeps the last webhooks that came."""

    def __init__(self, endpoint: WebhookEndpoint, *, clock: Clock) -> None:
        """Raises PortUnavailable when somebody listens there already."""
        address = urlsplit(endpoint.url)
        host, port = address.hostname or "127.0.0.1", address.port or 80
        remedy = "change the webhook's url in PURSER_APPS_FILE, or leave the demo out (--no-demo)"
        require_free([FixedPort(port, "the demo's receiver of webhooks", remedy)], bind=host)
        self._path = address.path or "/"
        self._signatures = Webhook(endpoint.secret)
        self._clock = clock
        self._received: list[Received] = []
        self._arrived = threading.Condition()
        self._server = _Server((host, port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, name="webhook receiver", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for(self, matches: Callable[[Received], bool], *, within_s: float) -> Received | None:
        """The first webhook that matches, whether it has come or is still to come; None when the limit has passed."""
        with self._arrived:
            self._arrived.wait_for(lambda: any(map(matches, self._received)), timeout=within_s)
            return next(filter(matches, self._received), None)

    def accept(self, *, path: str, body: bytes, headers: dict[str, str]) -> HTTPStatus:
        """What to answer: 204 to a webhook that is signed with our secret."""
        if path != self._path:
            return HTTPStatus.NOT_FOUND
        try:
            self._signatures.verify(body, headers, json_parse=False)
            document = json.loads(body)
            received = Received(headers["webhook-id"], document["type"], document["data"], self._clock.now())
        except (WebhookVerificationError, ValueError, KeyError, TypeError):
            return HTTPStatus.UNAUTHORIZED
        with self._arrived:
            self._received = [*self._received[1 - KEPT_MAX :], received]
            self._arrived.notify_all()
        return HTTPStatus.NO_CONTENT


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], receiver: Receiver) -> None:
        self.receiver = receiver
        super().__init__(address, _Request)


class _Request(BaseHTTPRequestHandler):
    timeout = READ_TIMEOUT_S
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        status = self._answer()
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            self.close_connection = True  # its body was not read
        self.end_headers()

    def _answer(self) -> HTTPStatus:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > BODY_BYTES_MAX:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        headers = {name.lower(): value for name, value in self.headers.items()}
        return self.server.receiver.accept(path=self.path, body=self.rfile.read(int(length)), headers=headers)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the terminal is the demo's."""
