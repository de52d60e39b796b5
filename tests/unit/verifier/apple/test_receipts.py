"""The verifyReceipt client against a real HTTP server that answers as told."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from shared.clock import SystemClock
from verifier.apple.receipts import ANSWER_BYTES_MAX, VerifiedReceipt, VerifyReceiptClient, store_session
from verifier.domain import ReceiptRefused, ReceiptValid, StoreBusy, StoreMisconfigured

SHORT_TIMEOUT_S = 0.4
VALID: dict[str, Any] = {
    "status": 0,
    "environment": "Production",
    "receipt": {
        "bundle_id": "com.example.game",
        "adam_id": 1234567890,
        "in_app": [
            {
                "quantity": "1",
                "product_id": "com.example.game.gems100",
                "transaction_id": "1",
                "purchase_date_ms": "1767225600000",
            }
        ],
    },
}

Reply = Callable[[BaseHTTPRequestHandler], None]


class Store:
    """verifyReceipt of both environments: gives the replies it was told, in order, and keeps what it was asked."""

    def __init__(self) -> None:
        self.replies: dict[str, list[Reply]] = {"/production": [], "/sandbox": [], "/elsewhere": []}
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.closing = threading.Event()

    def tell(self, path: str, *replies: Reply) -> None:
        self.replies[path].extend(replies)

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.store.asked.append((self.path, json.loads(body), dict(self.headers)))
        self.store.replies[self.path].pop(0)(self)

    def log_message(self, *_: object) -> None:
        """The test's output is no access log."""


def says(body: Any, *, status: int = 200, **headers: str) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(raw)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(raw)

    return reply


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Promises a body and closes in the middle of it."""
    raw = json.dumps(VALID).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(raw)))
    handler.end_headers()
    handler.wfile.write(raw[: len(raw) // 2])
    handler.close_connection = True


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def chunked(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    raw = json.dumps(VALID).encode()
    for start in range(0, len(raw), 50):
        piece = raw[start : start + 50]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


def silent(store: Store) -> Reply:
    """Takes the question and says nothing until the test is over."""

    def reply(_: BaseHTTPRequestHandler) -> None:
        store.closing.wait(10)

    return reply


def dripping(store: Store) -> Reply:
    """A space now and then, for ever: never long enough silent for a read time-out."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not store.closing.wait(SHORT_TIMEOUT_S / 10):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return

    return reply


@contextmanager
def serving(store: Store) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneStore", (Handler,), {"store": store}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        store.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def store() -> Store:
    return Store()


@contextmanager
def client_of(url: str, *, read_timeout_s: float) -> Iterator[VerifyReceiptClient]:
    with store_session(connections=4) as session:
        yield VerifyReceiptClient(
            session=session,
            production_url=f"{url}/production",
            sandbox_url=f"{url}/sandbox",
            connect_timeout_s=5,
            read_timeout_s=read_timeout_s,
            clock=SystemClock(),
        )


@pytest.fixture
def client(store: Store) -> Iterator[VerifyReceiptClient]:
    with serving(store) as url, client_of(url, read_timeout_s=30) as client:
        yield client


def verify(client: VerifyReceiptClient, *, receipt: str = "cmVjZWlwdA==", secret: str | None = None) -> VerifiedReceipt:
    return client.verify(receipt=receipt, shared_secret=secret, product_types=lambda _: "consumable")


def test_a_receipt_of_production_is_asked_about_there_only(client: VerifyReceiptClient, store: Store) -> None:
    store.tell("/production", says(VALID))
    found = verify(client, secret="shared")
    assert isinstance(found, ReceiptValid)
    assert [each.transaction.transaction_id for each in found.transactions] == ["1"]
    ((path, question, headers),) = store.asked
    assert path == "/production"
    assert question == {"receipt-data": "cmVjZWlwdA==", "exclude-old-transactions": False, "password": "shared"}
    assert headers["Content-Type"] == "application/json"


def test_without_a_shared_secret_none_is_sent(client: VerifyReceiptClient, store: Store) -> None:
    store.tell("/production", says(VALID))
    verify(client)
    assert "password" not in store.asked[0][1]


def test_a_receipt_of_the_sandbox_is_asked_about_there_after_production_said_so(
    client: VerifyReceiptClient, store: Store
) -> None:
    store.tell("/production", says({"status": 21007}))
    store.tell("/sandbox", says({**VALID, "environment": "Sandbox"}))
    found = verify(client)
    assert isinstance(found, ReceiptValid)
    assert found.environment == "sandbox"
    assert store.paths() == ["/production", "/sandbox"]


def test_one_receipt_of_the_sandbox_does_not_send_the_next_one_there(client: VerifyReceiptClient, store: Store) -> None:
    store.tell("/production", says({"status": 21007}), says(VALID))
    store.tell("/sandbox", says({"status": 21003}))
    assert isinstance(verify(client), ReceiptRefused)
    assert isinstance(verify(client), ReceiptValid)


def test_a_receipt_that_the_sandbox_sends_back_is_asked_about_once_more(
    client: VerifyReceiptClient, store: Store
) -> None:
    store.tell("/production", says({"status": 21007}), says(VALID))
    store.tell("/sandbox", says({"status": 21008}))
    assert isinstance(verify(client), ReceiptValid)
    assert store.paths() == ["/production", "/sandbox", "/production"]


def test_stores_that_point_at_each_other_are_not_asked_for_ever(client: VerifyReceiptClient, store: Store) -> None:
    store.tell("/production", *[says({"status": 21007})] * 9)
    store.tell("/sandbox", *[says({"status": 21008})] * 9)
    assert isinstance(verify(client), StoreBusy)
    assert len(store.asked) == 3


def test_a_sandbox_address_that_leads_to_production_is_misconfiguration(
    client: VerifyReceiptClient, store: Store
) -> None:
    store.tell("/production", says({"status": 21007}))
    store.tell("/sandbox", says(VALID))
    assert isinstance(verify(client), StoreMisconfigured)


@pytest.mark.parametrize("status", [301, 307, 400, 403, 404, 429, 500, 502, 503])
def test_every_other_http_status_is_a_store_that_is_away(
    client: VerifyReceiptClient, store: Store, status: int
) -> None:
    store.tell("/production", says(VALID, status=status, Location="/elsewhere"))
    store.tell("/elsewhere", says(VALID))
    busy = verify(client)
    assert isinstance(busy, StoreBusy)
    assert str(status) in busy.reason
    assert store.paths() == ["/production"]


def test_the_store_may_say_when_to_come_again(client: VerifyReceiptClient, store: Store) -> None:
    store.tell("/production", says(b"slow down", status=429, Retry_After="7"))
    assert verify(client) == StoreBusy("the store answered HTTP 429", retry_after_s=7)


def test_an_answer_in_chunks_is_an_answer(client: VerifyReceiptClient, store: Store) -> None:
    store.tell("/production", chunked)
    assert isinstance(verify(client), ReceiptValid)


@pytest.mark.parametrize("reply", [cut, hang_up, says(b"<html>"), says(b"")])
def test_an_answer_that_is_cut_or_no_json_is_a_store_that_is_away(
    client: VerifyReceiptClient, store: Store, reply: Reply
) -> None:
    store.tell("/production", reply)
    assert isinstance(verify(client), StoreBusy)


def test_a_compressed_answer_is_not_asked_for_and_not_unpacked(client: VerifyReceiptClient, store: Store) -> None:
    """A few kilobytes could unpack to gigabytes."""
    store.tell("/production", says(gzip.compress(json.dumps(VALID).encode()), Content_Encoding="gzip"))
    assert isinstance(verify(client), StoreBusy)
    assert store.asked[0][2]["Accept-Encoding"] == "identity"


def test_an_answer_that_is_longer_than_the_limit_is_not_read_to_its_end(
    client: VerifyReceiptClient, store: Store
) -> None:
    store.tell("/production", says(json.dumps(VALID).encode().ljust(ANSWER_BYTES_MAX + 1)))
    assert verify(client) == StoreBusy("the store's answer is too long")


def test_an_answer_as_long_as_the_limit_is_read(client: VerifyReceiptClient, store: Store) -> None:
    store.tell("/production", says(json.dumps(VALID).encode().ljust(ANSWER_BYTES_MAX)))
    assert isinstance(verify(client), ReceiptValid)


@pytest.mark.parametrize("kind", [silent, dripping])
def test_a_store_that_does_not_come_to_an_end_is_left_in_time(store: Store, kind: Callable[[Store], Reply]) -> None:
    store.tell("/production", kind(store))
    clock = SystemClock()
    with serving(store) as url, client_of(url, read_timeout_s=SHORT_TIMEOUT_S) as client:
        started_s = clock.monotonic()
        assert isinstance(verify(client), StoreBusy)
        assert SHORT_TIMEOUT_S * 0.9 <= clock.monotonic() - started_s < 5


def test_a_store_that_cannot_be_reached_is_away_and_the_reason_shows_no_secret() -> None:
    with serving(Store()) as url:
        pass
    with client_of(url, read_timeout_s=1) as client:
        busy = verify(client, receipt="the-receipt", secret="the-secret")
    assert isinstance(busy, StoreBusy)
    assert busy.status is None
    assert "the-" not in busy.reason


def test_cookies_of_the_store_are_not_kept(client: VerifyReceiptClient, store: Store) -> None:
    store.tell("/production", says(VALID, Set_Cookie="session=1; Path=/"), says(VALID))
    verify(client)
    verify(client)
    assert "Cookie" not in store.asked[1][2]


def test_threads_share_a_client(client: VerifyReceiptClient, store: Store) -> None:
    store.tell("/production", *[says(VALID)] * 40)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: verify(client, receipt=str(number)), range(40)))
    assert all(isinstance(each, ReceiptValid) for each in found)
    assert sorted(int(question["receipt-data"]) for _, question, _ in store.asked) == list(range(40))
