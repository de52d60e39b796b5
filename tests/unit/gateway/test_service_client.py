"""What the gateway asks another service and tells it, and what it makes of the answers. Against a real HTTP server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.domain.callers import Caller, Client, Server
from gateway.domain.services import ServiceAnswer, ServiceAnswerUnavailable, ServiceUnavailable
from gateway.service_client import ServiceClient
from shared.apps import App, AppleApp
from shared.ids import AppId, UserId
from tests.support.scripted_service import ScriptedService, scripted_service
from tests.support.stack import wait_until

GAME = App(id=AppId("game"), name="Game", apple=AppleApp(bundle_id="com.example.game"))
ALICE = Client(app=GAME, user_id=UserId("älice/1"))
BACKEND = Server(app=GAME, key_id="backend", scopes=frozenset({"read"}))
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def service() -> Iterator[ScriptedService]:
    with scripted_service() as running:
        yield running


def client_of(url: str, *, read_timeout_s: float = 5, calls_at_once: int = 2) -> ServiceClient:
    return ServiceClient(
        service="ledger",
        url=url,
        service_token="between-us",
        calls_at_once=calls_at_once,
        connect_timeout_s=1,
        read_timeout_s=read_timeout_s,
    )


def ask(client: ServiceClient, *, caller: Caller = ALICE) -> ServiceAnswer:
    return client.read(
        ["users", "älice/1", "wallet"],
        query={"environment": "sandbox"},
        caller=caller,
        trace_id=TRACE,
        request_id="mobile-42",
    )


def tell(client: ServiceClient, *, body: bytes = b"{}", key: str | None = "order-1") -> ServiceAnswer:
    return client.send(
        ["users", "älice/1", "spends"],
        body=body,
        key=key,
        caller=BACKEND,
        trace_id=TRACE,
        request_id="backend-42",
    )


Exchange = Callable[[ServiceClient], ServiceAnswer]
BOTH = pytest.mark.parametrize("exchange", [ask, tell])


def test_the_path_the_query_and_all_identities_arrive(service: ScriptedService) -> None:
    answer = ask(client_of(service.url + "/"))
    assert answer == ServiceAnswer(status=200, body=b"{}", content_type="application/json")
    assert (service.last.method, service.last.path) == ("GET", "/v1/users/%C3%A4lice%2F1/wallet?environment=sandbox")
    headers = service.last.headers
    assert headers["authorization"] == "Bearer between-us"
    assert headers["x-purser-app"] == "game"
    assert headers["x-purser-caller"] == "client:%C3%A4lice%2F1"
    assert headers["x-request-id"] == "mobile-42"
    assert headers["traceparent"].split("-")[1] == TRACE


def test_a_body_arrives_to_the_byte_with_its_key_and_all_identities(service: ScriptedService) -> None:
    body = '{ "amount" : 1,\r\n"item":"Schwert ⚔" , "amount":2}\n'.encode()
    tell(client_of(service.url), body=body, key='"a key": 1')
    assert (service.last.method, service.last.path) == ("POST", "/v1/users/%C3%A4lice%2F1/spends")
    assert service.last.body == body
    headers = service.last.headers
    assert headers["idempotency-key"] == '"a key": 1'
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == "Bearer between-us"
    assert headers["x-purser-app"] == "game"
    assert headers["x-purser-caller"] == "server:backend"
    assert headers["x-request-id"] == "backend-42"
    assert headers["traceparent"].split("-")[1] == TRACE


def test_where_there_is_no_key_none_is_sent(service: ScriptedService) -> None:
    tell(client_of(service.url), body=b"", key=None)
    assert "idempotency-key" not in service.last.headers
    assert service.last.body == b""


def test_a_server_is_named_by_its_key(service: ScriptedService) -> None:
    ask(client_of(service.url), caller=BACKEND)
    assert service.last.headers["x-purser-caller"] == "server:backend"


@pytest.mark.parametrize("status", [200, 400, 403, 404])
def test_what_is_about_a_question_is_handed_on(service: ScriptedService, status: int) -> None:
    service.status = status
    assert ask(client_of(service.url)).status == status


@pytest.mark.parametrize("status", [200, 201, 400, 403, 404, 409, 413, 422])
def test_what_is_about_an_order_is_handed_on(service: ScriptedService, status: int) -> None:
    service.status = status
    assert tell(client_of(service.url)).status == status


@pytest.mark.parametrize("status", [204, 302, 401, 409, 500, 502, 503])
def test_what_is_between_the_services_is_temporary_to_who_asks(service: ScriptedService, status: int) -> None:
    service.status = status
    with pytest.raises(ServiceUnavailable, match=r"^the ledger is away$"):
        ask(client_of(service.url))


@pytest.mark.parametrize("status", [202, 204, 302, 401, 429, 500, 502, 503])
def test_what_is_between_the_services_leaves_open_whether_it_was_done(service: ScriptedService, status: int) -> None:
    service.status = status
    with pytest.raises(ServiceAnswerUnavailable, match="the ledger has not answered"):
        tell(client_of(service.url))


@pytest.mark.parametrize(("header", "replayed"), [({}, False), ({"Idempotent-Replayed": "true"}, True)])
def test_an_answer_that_was_given_before_is_known(
    service: ScriptedService, header: dict[str, str], replayed: bool
) -> None:
    service.headers |= header
    assert tell(client_of(service.url)).replayed is replayed


def test_a_kept_connection_that_was_closed_costs_no_answer(service: ScriptedService) -> None:
    service.close_after_answer = True
    client = client_of(service.url)
    assert [ask(client).status for _ in range(5)] == [200] * 5


def test_a_question_that_gets_no_answer_is_asked_once_more(service: ScriptedService) -> None:
    service.breaks = True
    with pytest.raises(ServiceUnavailable, match=r"^the ledger is away$"):
        ask(client_of(service.url))
    assert len(service.asked) == 2


def test_an_order_that_gets_no_answer_is_not_sent_again(service: ScriptedService) -> None:
    service.breaks = True
    with pytest.raises(ServiceAnswerUnavailable, match="the ledger has not answered"):
        tell(client_of(service.url))
    assert len(service.asked) == 1


@BOTH
def test_no_proxy_of_the_environment_comes_between(
    service: ScriptedService, monkeypatch: pytest.MonkeyPatch, exchange: Exchange
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert exchange(client_of(service.url)).status == 200


@BOTH
def test_a_service_that_is_not_there_is_temporary(exchange: Exchange) -> None:
    with pytest.raises(ServiceUnavailable):
        exchange(client_of("http://127.0.0.1:1"))


def test_a_service_that_hangs_is_given_up(service: ScriptedService) -> None:
    service.hold = threading.Event()
    with pytest.raises(ServiceUnavailable, match=r"^the ledger is away$"):
        ask(client_of(service.url, read_timeout_s=0.05))


def test_an_order_that_hangs_is_given_up_and_not_sent_again(service: ScriptedService) -> None:
    service.hold = threading.Event()
    with pytest.raises(ServiceAnswerUnavailable, match="the ledger has not answered"):
        tell(client_of(service.url, read_timeout_s=0.05))
    assert len(service.asked) == 1


def test_a_service_that_hangs_takes_no_more_threads_than_it_may_and_the_next_one_is_told_at_once(
    service: ScriptedService,
) -> None:
    service.hold = threading.Event()
    client = client_of(service.url, calls_at_once=2)
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(ask, client) for _ in range(2)]
        wait_until(lambda: len(service.asked) == 2, what="as many as may being answered")
        for exchange in (ask, tell):
            with pytest.raises(ServiceUnavailable, match=r"^the ledger is busy$") as refused:
                exchange(client)
            assert not isinstance(refused.value, ServiceAnswerUnavailable)
        assert len(service.asked) == 2
        service.hold.set()
        assert [each.result().status for each in waiting] == [200, 200]
    assert ask(client).status == 200


@BOTH
def test_who_was_not_answered_makes_room_for_the_next(service: ScriptedService, exchange: Exchange) -> None:
    client = client_of(service.url, calls_at_once=1)
    service.breaks = True
    with pytest.raises(ServiceUnavailable):
        exchange(client)
    service.breaks = False
    assert exchange(client).status == 200
