"""What the gateway asks the ledger, and what it makes of the answers. Against a real HTTP server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gateway.domain.callers import Caller, Client, Server
from gateway.domain.wallets import LedgerAnswer, LedgerUnavailable
from gateway.ledger_client import LedgerClient
from shared.apps import App, AppleApp
from shared.ids import AppId, UserId

GAME = App(id=AppId("game"), name="Game", apple=AppleApp(bundle_id="com.example.game"))
ALICE = Client(app=GAME, user_id=UserId("älice/1"))
BACKEND = Server(app=GAME, key_id="backend", scopes=frozenset({"read"}))
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@dataclass
class FakeLedger:
    """Answers what it is told to, after an event if there is one; keeps what it was asked."""

    url: str = ""
    status: int = 200
    close_after_answer: bool = False
    hold: threading.Event | None = None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@pytest.fixture
def ledger() -> Iterator[FakeLedger]:
    fake = FakeLedger()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            fake.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            if fake.hold is not None:
                fake.hold.wait(10)
            self.send_response(fake.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
            self.close_connection = fake.close_after_answer  # says nothing of it: the client finds out by itself

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        if fake.hold is not None:
            fake.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


def client_of(url: str, *, read_timeout_s: float = 5) -> LedgerClient:
    return LedgerClient(
        url=url, service_token="between-us", connections=2, connect_timeout_s=1, read_timeout_s=read_timeout_s
    )


def ask(client: LedgerClient, *, caller: Caller = ALICE) -> LedgerAnswer:
    return client.read(
        ["users", "älice/1", "wallet"],
        query={"environment": "sandbox"},
        caller=caller,
        trace_id=TRACE,
        request_id="mobile-42",
    )


def test_the_path_the_query_and_all_identities_arrive(ledger: FakeLedger) -> None:
    answer = ask(client_of(ledger.url + "/"))
    assert answer == LedgerAnswer(status=200, body=b"{}", content_type="application/json")
    ((path, headers),) = ledger.asked
    assert path == "/v1/users/%C3%A4lice%2F1/wallet?environment=sandbox"
    assert headers["authorization"] == "Bearer between-us"
    assert headers["x-purser-app"] == "game"
    assert headers["x-purser-caller"] == "client:%C3%A4lice%2F1"
    assert headers["x-request-id"] == "mobile-42"
    assert headers["traceparent"].split("-")[1] == TRACE


def test_a_server_is_named_by_its_key(ledger: FakeLedger) -> None:
    ask(client_of(ledger.url), caller=BACKEND)
    assert ledger.asked[0][1]["x-purser-caller"] == "server:backend"


@pytest.mark.parametrize("status", [400, 404])
def test_what_is_about_the_request_is_handed_on(ledger: FakeLedger, status: int) -> None:
    ledger.status = status
    assert ask(client_of(ledger.url)).status == status


@pytest.mark.parametrize("status", [204, 302, 401, 403, 500, 502, 503])
def test_what_is_between_the_services_is_temporary_to_the_caller(ledger: FakeLedger, status: int) -> None:
    ledger.status = status
    with pytest.raises(LedgerUnavailable):
        ask(client_of(ledger.url))


def test_a_kept_connection_that_was_closed_costs_no_answer(ledger: FakeLedger) -> None:
    ledger.close_after_answer = True
    client = client_of(ledger.url)
    assert [ask(client).status for _ in range(5)] == [200] * 5


def test_no_proxy_of_the_environment_comes_between(ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert ask(client_of(ledger.url)).status == 200


def test_a_ledger_that_is_not_there_is_temporary() -> None:
    with pytest.raises(LedgerUnavailable):
        ask(client_of("http://127.0.0.1:1"))


def test_a_ledger_that_hangs_is_given_up(ledger: FakeLedger) -> None:
    ledger.hold = threading.Event()
    with pytest.raises(LedgerUnavailable):
        ask(client_of(ledger.url, read_timeout_s=0.05))
