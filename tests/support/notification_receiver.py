"""A real HTTP server that receives the simulator's notifications, in the gateway's place."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.shop import claims


class Receiver:
    """Keeps what is posted to it and answers as it was told to: one status per post, 200 once they are used up."""

    def __init__(self, url: str, answers: Sequence[int]) -> None:
        self.url = url
        self.bodies: list[dict[str, Any]] = []
        self._answers = deque(answers)
        self._received = threading.Condition()

    def take(self, body: dict[str, Any]) -> int:
        with self._received:
            self.bodies.append(body)
            self._received.notify_all()
            return self._answers.popleft() if self._answers else 200

    def wait_for_posts(self, count: int, *, timeout_s: float = 10) -> list[dict[str, Any]]:
        """The payloads of all posts, once there are so many of them."""
        with self._received:
            assert self._received.wait_for(lambda: len(self.bodies) >= count, timeout_s), f"{len(self.bodies)} posts"
            return [claims(body["signedPayload"]) for body in self.bodies]


@contextmanager
def receiver(*, answers: Sequence[int] = ()) -> Iterator[Receiver]:
    """A receiver that listens until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status = receiving.take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = b"" if status == 204 else b"heard"
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            if 300 <= status < 400:
                self.send_header("Location", receiving.url)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiving = Receiver(f"http://127.0.0.1:{server.server_port}/webhooks/apple", answers)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiving
        finally:
            server.shutdown()
            thread.join()
