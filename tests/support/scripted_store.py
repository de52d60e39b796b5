"""A real HTTP server that answers as told: well, badly, slowly, or not at all."""

from __future__ import annotations

import json
import ssl
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import serialization

from tests.support.apple_pki import Chain

LIMIT_S = 20

Reply = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came in. `body` is its JSON, if it had any."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: Any
    headers: dict[str, str]


@dataclass
class ScriptedStore:
    """Gives the replies it was told, by path and in order, and keeps what it was asked. `closing`: the test is over."""

    replies: defaultdict[str, list[Reply]] = field(default_factory=lambda: defaultdict(list))
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    def tell(self, path: str, *replies: Reply) -> None:
        self.replies[path].extend(replies)

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: ScriptedStore

    def setup(self) -> None:
        super().setup()
        self.store.connections += 1

    def answer(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.store.asked.append(
            Asked(self.command, url.path, parse_qs(url.query), json.loads(body) if body else None, dict(self.headers))
        )
        self.store.replies[url.path].pop(0)(self)

    do_GET = do_POST = answer  # noqa: N815 - the names that http.server looks for

    def log_message(self, *_: object) -> None:
        """The test's output is no access log."""


@contextmanager
def serving(store: ScriptedStore, *, tls: Chain | None = None) -> Iterator[str]:
    """The address of the server while it runs; with a chain it speaks TLS, under a name that is not its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneStore", (_Handler,), {"store": store}))
    server.daemon_threads = True
    if tls is not None:
        server.socket = _tls_context(tls).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        store.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _tls_context(chain: Chain) -> ssl.SSLContext:
    import tempfile

    key = chain.leaf.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(key + chain.leaf.pem + chain.intermediate.pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def says(body: Any, *, status: int = 200, **headers: str) -> Reply:
    """A whole answer: bytes as they are, anything else as JSON, whose type is then said too."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    if not isinstance(body, bytes):
        headers = {"Content_Type": "application/json", **headers}

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(raw)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(raw)

    return reply


def cut(body: Any) -> Reply:
    """Promises a body and closes in the middle of it."""
    raw = json.dumps(body).encode()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw[: len(raw) // 2])
        handler.close_connection = True

    return reply


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def chunked(body: Any, *, to_its_end: bool = True) -> Reply:
    """In pieces of 50 bytes; without its end, the connection closes before the last."""
    raw = json.dumps(body).encode()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(raw), 50):
            piece = raw[start : start + 50]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if to_its_end:
            handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.close_connection = True

    return reply


def silent(store: ScriptedStore) -> Reply:
    """Takes the question and says nothing until the test is over."""

    def reply(_: BaseHTTPRequestHandler) -> None:
        store.closing.wait(LIMIT_S)

    return reply


def dripping(store: ScriptedStore, *, first: bytes, drop: bytes = b" ", every_s: float) -> Reply:
    """`first`, then a drop now and then, for ever: never long enough silent for a socket's time-out."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        try:
            handler.wfile.write(first)
            while not store.closing.wait(every_s):
                handler.wfile.write(drop)
        except OSError:
            return

    return reply


IN_THE_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
IN_A_HEADER = b"HTTP/1.1 200 OK\r\nX-Long: "
IN_THE_STATUS = b"HTTP/1.1 200 "
IN_THE_LENGTH_OF_A_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;"
IN_A_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n"
BEFORE_THE_ANSWER = b"HTTP/1.1 100 Continue\r\n"
"""Where a drip can begin; after the last the drop is a header, so that it never comes to an end."""
