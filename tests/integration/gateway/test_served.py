"""The gateway as it is really served: by Granian, in processes of its own, over a socket."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import pytest
import requests

from shared.clock import SystemClock
from tests.support.served_gateway import TIMEOUT_S, Served, served_gateway


@pytest.fixture(scope="module")
def served(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_gateway(module_database, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


def submission(served: Served, transaction_id: str) -> bytes:
    body = {"store": "apple", "signed_transaction": served.twin.signed_transaction(transaction_id)}
    return json.dumps(body).encode()


def test_a_purchase_is_durable_when_it_is_answered(served: Served) -> None:
    response = served.post(submission(served, "1"))
    assert (response.status_code, response.json()["status"]) == (202, "accepted")
    assert len(served.twin.events(response.json()["id"])) == 1


def test_a_body_may_come_in_pieces(served: Served) -> None:
    content = submission(served, "2")
    pieces = (content[start : start + 1000] for start in range(0, len(content), 1000))
    assert served.post(pieces).status_code == 202


def test_two_mebibytes_are_too_large_announced_or_not(served: Served) -> None:
    pieces = [b"x" * 65_536] * 32
    announced, streamed = served.post(b"".join(pieces)), served.post(iter(pieces))
    assert [response.status_code for response in (announced, streamed)] == [413, 413]
    assert announced.json()["code"] == streamed.json()["code"] == "body-too-large"


def test_an_announced_body_that_never_comes_is_refused_without_waiting_for_it(served: Served) -> None:
    connection = http.client.HTTPConnection(*served.address, timeout=TIMEOUT_S)
    began = SystemClock().monotonic()
    headers = served.twin.as_user() | {"Content-Length": str(2 * 1024 * 1024)}
    connection.request("POST", "/v1/purchases", headers=headers)
    assert connection.getresponse().status == 413
    assert SystemClock().monotonic() - began < TIMEOUT_S / 2
    connection.close()


def test_a_path_is_read_as_it_was_written(served: Served) -> None:
    path = "/v1/users/a%2Fb%20%E6%BC%A2/account-token"
    tokens = {requests.get(served.url + path, headers=served.twin.as_server(), timeout=TIMEOUT_S).json().popitem()}
    same = served.twin.client().get(path, headers=served.twin.as_server()).json or {}
    assert tokens == {same.popitem()}


@pytest.mark.parametrize("content", [b"", b"[]", b"\x00\xff", b'{"store": "apple", "signed_transaction": "a.b"}'])
def test_a_hostile_body_is_a_problem_and_no_stack_trace(served: Served, content: bytes) -> None:
    response = served.post(content)
    assert (response.status_code, response.headers["Content-Type"]) == (400, "application/problem+json")
    assert "Traceback" not in response.text
    assert response.headers["X-Request-Id"]


def test_waiting_takes_some_of_the_threads_and_accepting_the_others(served: Served) -> None:
    purchase = served.post(submission(served, "3")).json()["id"]
    waiting = [http.client.HTTPConnection(*served.address, timeout=60) for _ in range(16)]
    for connection in waiting:
        connection.request("GET", f"/v1/purchases/{purchase}?wait=8", headers=served.twin.as_user())
    began = SystemClock().monotonic()
    for number in range(20):
        assert served.post(submission(served, f"4{number}")).status_code == 202
    assert SystemClock().monotonic() - began < 6
    for connection in waiting:
        connection.close()
