"""A small real receiver of webhooks: checks signatures with the standard's own library, and answers as it is told."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from shared.clock import SystemClock
from tests.support.quiet import QuietServer

Behaviour = Literal["answer", "hang", "close", "break off", "cut off", "stall", "trickle"]
PAUSE_S_MAX = 30.0


@dataclass(frozen=True)
class Reply:
    """How one delivery is answered.

    hang: not at all, until the receiver is closed; close: the connection is closed instead; break off: it is closed
    within the status line; cut off: before the body's announced length; stall: the rest of the body never comes;
    trickle: a header that never ends, a byte now and then.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    behaviour: Behaviour = "answer"


@dataclass(frozen=True)
class Received:
    """One delivery as it arrived. `client` is the other end: equal for two that came over one connection; `at_s` is
    the machine's monotonic clock."""

    id: str
    headers: Mapping[str, str]
    raw: bytes
    genuine: bool
    client: tuple[str, int]
    at_s: float

    @property
    def body(self) -> dict[str, Any]:
        """The message."""
        message: dict[str, Any] = json.loads(self.raw)
        return message


class Receiver:
    """Listens on a port of `bind` (a free one, unless it is named), with TLS if it is given a context for it.

    What is not signed with the secret is recorded, and answered 400.
    """

    def __init__(
        self, secret: str, *, tls: ssl.SSLContext | None = None, bind: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._webhook = Webhook(secret)
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._replies: deque[Reply] = deque()
        self._usual = Reply()
        self._received: list[Received] = []
        self._closed = threading.Event()
        self._scheme = "http" if tls is None else "https"
        self._server = _Server(self, tls, bind, port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/hooks"

    @property
    def received(self) -> list[Received]:
        """All deliveries so far, in the order of their arrival."""
        with self._lock:
            return list(self._received)

    def reply_next(self, *replies: Reply) -> None:
        """The next deliveries are answered so, in turn; after them all are answered as usual again."""
        with self._lock:
            self._replies.extend(replies)

    def reply_usually(self, reply: Reply) -> None:
        """Whatever nothing else is said of is answered so from now on; at first it is answered 200."""
        with self._lock:
            self._usual = reply

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PAUSE_S_MAX)

    def take(self, *, headers: Mapping[str, str], raw: bytes, client: tuple[str, int]) -> Reply:
        """Records a delivery; how it is to be answered."""
        genuine = self._is_genuine(headers, raw)
        with self._lock:
            at_s = self._clock.monotonic()
            self._received.append(Received(headers.get("webhook-id", ""), headers, raw, genuine, client, at_s))
            if not genuine:
                return Reply(status=400)
            return self._replies.popleft() if self._replies else self._usual

    def pause(self, seconds: float) -> bool:
        """Lets time pass; True when the receiver is being closed."""
        return self._closed.wait(seconds)

    def _is_genuine(self, headers: Mapping[str, str], raw: bytes) -> bool:
        try:
            self._webhook.verify(raw, dict(headers))
        except (WebhookVerificationError, ValueError):
            return False
        return True


@contextlib.contextmanager
def receiving(
    secret: str, *, tls: ssl.SSLContext | None = None, bind: str = "127.0.0.1", port: int = 0
) -> Iterator[Receiver]:
    """A receiver that listens until the end of the block."""
    receiver = Receiver(secret, tls=tls, bind=bind, port=port)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.close()


class _Server(QuietServer):
    block_on_close = False
    request_queue_size = 128  # so many may connect at once; five, as is usual here, leaves others to their time-outs

    def __init__(self, receiver: Receiver, tls: ssl.SSLContext | None, bind: str, port: int) -> None:
        super().__init__((bind, port), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.receiver = receiver


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self._receiver.take(headers=headers, raw=raw, client=self.client_address)
        match reply.behaviour:
            case "answer":
                self._answer(reply, announced=len(reply.body))
            case "hang":
                self._receiver.pause(PAUSE_S_MAX)
                self._cut()
            case "close":
                self._cut()
            case "break off":
                self.wfile.write(b"HTTP/1.1 20")
                self.wfile.flush()
                self._cut()
            case "cut off":
                self._answer(reply, announced=len(reply.body) + 1)
                self._cut()
            case "stall":
                self._answer(reply, announced=len(reply.body) + 1)
                self._receiver.pause(PAUSE_S_MAX)
                self._cut()
            case "trickle":
                self._trickle()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    @property
    def _receiver(self) -> Receiver:
        assert isinstance(self.server, _Server)
        return self.server.receiver

    def _answer(self, reply: Reply, *, announced: int) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(reply.body)
        self.wfile.flush()

    def _trickle(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self._receiver.pause(0.05):
                self.connection.sendall(b"x")
        self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
