"""What the gateway asks the ledger and tells it, and what it makes of the answers. Against a real HTTP server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from gateway.domain.callers import Caller, Client, Server
from gateway.domain.wallets import LedgerAnswer, LedgerAnswerUnavailable, LedgerUnavailable
from gateway.ledger_client import LedgerClient
from shared.apps import App, AppleApp
from shared.ids import AppId, UserId
from tests.support.scripted_ledger import ScriptedLedger, scripted_ledger

GAME = App(id=AppId("game"), name="Game", apple=AppleApp(bundle_id="com.example.game"))
ALICE = Client(app=GAME, user_id=UserId("älice/1"))
BACKEND = Server(app=GAME, key_id="backend", scopes=frozenset({"read"}))
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def ledger() -> Iterator[ScriptedLedger]:
    with scripted_ledger() as running:
        yield running


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


def tell(client: LedgerClient, *, body: bytes = b"{}", key: str | None = "order-1") -> LedgerAnswer:
    return client.send(
        ["users", "älice/1", "spends"],
        body=body,
        key=key,
        caller=BACKEND,
        trace_id=TRACE,
        request_id="backend-42",
    )


Exchange = Callable[[LedgerClient], LedgerAnswer]
BOTH = pytest.mark.parametrize("exchange", [ask, tell])


def test_the_path_the_query_and_all_identities_arrive(ledger: ScriptedLedger) -> None:
    answer = ask(client_of(ledger.url + "/"))
    assert answer == LedgerAnswer(status=200, body=b"{}", content_type="application/json")
    assert (ledger.last.method, ledger.last.path) == ("GET", "/v1/users/%C3%A4lice%2F1/wallet?environment=sandbox")
    headers = ledger.last.headers
    assert headers["authorization"] == "Bearer between-us"
    assert headers["x-purser-app"] == "game"
    assert headers["x-purser-caller"] == "client:%C3%A4lice%2F1"
    assert headers["x-request-id"] == "mobile-42"
    assert headers["traceparent"].split("-")[1] == TRACE


def test_a_body_arrives_to_the_byte_with_its_key_and_all_identities(ledger: ScriptedLedger) -> None:
    body = '{ "amount" : 1,\r\n"item":"Schwert ⚔" , "amount":2}\n'.encode()
    tell(client_of(ledger.url), body=body, key='"a key": 1')
    assert (ledger.last.method, ledger.last.path) == ("POST", "/v1/users/%C3%A4lice%2F1/spends")
    assert ledger.last.body == body
    headers = ledger.last.headers
    assert headers["idempotency-key"] == '"a key": 1'
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == "Bearer between-us"
    assert headers["x-purser-app"] == "game"
    assert headers["x-purser-caller"] == "server:backend"
    assert headers["x-request-id"] == "backend-42"
    assert headers["traceparent"].split("-")[1] == TRACE


def test_where_there_is_no_key_none_is_sent(ledger: ScriptedLedger) -> None:
    tell(client_of(ledger.url), body=b"", key=None)
    assert "idempotency-key" not in ledger.last.headers
    assert ledger.last.body == b""


def test_a_server_is_named_by_its_key(ledger: ScriptedLedger) -> None:
    ask(client_of(ledger.url), caller=BACKEND)
    assert ledger.last.headers["x-purser-caller"] == "server:backend"


@pytest.mark.parametrize("status", [200, 400, 403, 404])
def test_what_is_about_a_question_is_handed_on(ledger: ScriptedLedger, status: int) -> None:
    ledger.status = status
    assert ask(client_of(ledger.url)).status == status


@pytest.mark.parametrize("status", [200, 201, 400, 403, 404, 409, 413, 422])
def test_what_is_about_an_order_is_handed_on(ledger: ScriptedLedger, status: int) -> None:
    ledger.status = status
    assert tell(client_of(ledger.url)).status == status


@pytest.mark.parametrize("status", [204, 302, 401, 409, 500, 502, 503])
def test_what_is_between_the_services_is_temporary_to_who_asks(ledger: ScriptedLedger, status: int) -> None:
    ledger.status = status
    with pytest.raises(LedgerUnavailable):
        ask(client_of(ledger.url))


@pytest.mark.parametrize("status", [202, 204, 302, 401, 429, 500, 502, 503])
def test_what_is_between_the_services_leaves_open_whether_it_was_done(ledger: ScriptedLedger, status: int) -> None:
    ledger.status = status
    with pytest.raises(LedgerAnswerUnavailable):
        tell(client_of(ledger.url))


@pytest.mark.parametrize(("header", "replayed"), [({}, False), ({"Idempotent-Replayed": "true"}, True)])
def test_an_answer_that_was_given_before_is_known(
    ledger: ScriptedLedger, header: dict[str, str], replayed: bool
) -> None:
    ledger.headers |= header
    assert tell(client_of(ledger.url)).replayed is replayed


def test_a_kept_connection_that_was_closed_costs_no_answer(ledger: ScriptedLedger) -> None:
    ledger.close_after_answer = True
    client = client_of(ledger.url)
    assert [ask(client).status for _ in range(5)] == [200] * 5


def test_a_question_that_gets_no_answer_is_asked_once_more(ledger: ScriptedLedger) -> None:
    ledger.breaks = True
    with pytest.raises(LedgerUnavailable):
        ask(client_of(ledger.url))
    assert len(ledger.asked) == 2


def test_an_order_that_gets_no_answer_is_not_sent_again(ledger: ScriptedLedger) -> None:
    ledger.breaks = True
    with pytest.raises(LedgerAnswerUnavailable):
        tell(client_of(ledger.url))
    assert len(ledger.asked) == 1


@BOTH
def test_no_proxy_of_the_environment_comes_between(
    ledger: ScriptedLedger, monkeypatch: pytest.MonkeyPatch, exchange: Exchange
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert exchange(client_of(ledger.url)).status == 200


@BOTH
def test_a_ledger_that_is_not_there_is_temporary(exchange: Exchange) -> None:
    with pytest.raises(LedgerUnavailable):
        exchange(client_of("http://127.0.0.1:1"))


def test_a_ledger_that_hangs_is_given_up(ledger: ScriptedLedger) -> None:
    ledger.hold = threading.Event()
    with pytest.raises(LedgerUnavailable):
        ask(client_of(ledger.url, read_timeout_s=0.05))


def test_an_order_that_hangs_is_given_up_and_not_sent_again(ledger: ScriptedLedger) -> None:
    ledger.hold = threading.Event()
    with pytest.raises(LedgerAnswerUnavailable):
        tell(client_of(ledger.url, read_timeout_s=0.05))
    assert len(ledger.asked) == 1
