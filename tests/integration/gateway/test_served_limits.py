"""What strangers do to the gateway as it is really served: too often, too large, too deep, too slowly."""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
import requests

from deploy.processes import HEADERS_BUFFER_BYTES, HEADERS_READ_TIMEOUT_MS
from shared.clock import SystemClock
from shared.nesting import DEPTH_MAX
from tests.support.served_gateway import TIMEOUT_S, WORKERS, Served, served_gateway

USER, SUBMISSIONS, FAILURES = 40, 5, 10
"""Calls at once, of one worker; what comes back in the meantime is less than one."""
LIMITS = {
    "PURSER_RATE_LIMIT_USER": f"{USER}/hour",
    "PURSER_RATE_LIMIT_SUBMISSIONS": f"{SUBMISSIONS}/hour",
    "PURSER_RATE_LIMIT_FAILURES": f"{FAILURES}/hour",
}


@pytest.fixture(scope="module")
def served(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_gateway(module_database, tmp_path_factory.mktemp("gateway"), LIMITS) as gateway:
        yield gateway


def repeatedly(count: int, *arguments: object, **options: object) -> list[requests.Response]:
    """The answers to the same request, by connections of their own, so that each worker has some."""

    def ask(_: int) -> requests.Response:
        return requests.request(*arguments, timeout=TIMEOUT_S, **options)  # type: ignore[arg-type]

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(ask, range(count)))


def talk(served: Served, said: bytes) -> bytes:
    """What a connection is answered on which this was said: the beginning of it, or nothing."""
    with socket.create_connection(served.address, timeout=TIMEOUT_S) as connection:
        try:
            connection.sendall(said)
            return connection.recv(65_536)
        except ConnectionError:  # it hung up on us before we were done
            return b""


def test_a_user_gets_no_more_than_each_workers_allowance(served: Served) -> None:
    headers = served.twin.as_user("eager")
    answers = repeatedly(USER * WORKERS * 3, "GET", f"{served.url}/v1/products", headers=headers)
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 429}
    assert USER <= statuses[200] <= USER * WORKERS
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert 1 <= int(refused.headers["Retry-After"]) <= 3600 // USER
    assert (refused.json()["code"], refused.headers["Content-Type"]) == (
        "too-many-requests",
        "application/problem+json",
    )


def test_submissions_end_sooner_and_what_is_refused_is_not_recorded(served: Served) -> None:
    headers = served.twin.as_user("submitter")
    recorded = "select count(*) from journal.event where user_id = 'submitter'"

    def submit(number: int) -> int:
        body = {"store": "apple", "signed_transaction": served.twin.signed_transaction(f"7{number}")}
        response = requests.post(f"{served.url}/v1/purchases", json=body, headers=headers, timeout=TIMEOUT_S)
        return response.status_code

    with ThreadPoolExecutor(4) as pool:
        statuses = Counter(pool.map(submit, range(SUBMISSIONS * WORKERS * 3)))
    assert set(statuses) == {202, 429}
    assert served.twin.bus.execute(recorded) == [(statuses[202],)]
    assert SUBMISSIONS <= statuses[202] <= SUBMISSIONS * WORKERS
    again = repeatedly(2, "GET", f"{served.url}/v1/products", headers=headers)
    assert {answer.status_code for answer in again} == {200}


def test_an_address_that_guesses_is_stopped_and_others_are_not(served: Served) -> None:
    def guesses(origin: str, count: int) -> Counter[int]:
        headers = {"Authorization": "Bearer sk_guess", "X-Forwarded-For": origin}
        answers = repeatedly(count, "GET", f"{served.url}/v1/products", headers=headers)
        return Counter(answer.status_code for answer in answers)

    found = guesses("203.0.113.1", FAILURES * WORKERS * 3)
    assert set(found) == {401, 429}
    assert FAILURES <= found[401] <= FAILURES * WORKERS
    assert set(guesses("203.0.113.2", FAILURES // 2)) == {401}
    assert set(guesses("2001:db8::1", FAILURES // 2)) == {401}


def test_the_app_stores_notifications_come_through_whatever_others_post(served: Served) -> None:
    forged = {"json": {"signedPayload": "a.b.c"}, "headers": {"X-Forwarded-For": "203.0.113.3"}}
    answers = repeatedly(FAILURES * WORKERS * 3, "POST", f"{served.url}/webhooks/apple", **forged)
    assert {answer.status_code for answer in answers} == {400, 429}
    genuine = {
        "json": {"signedPayload": served.twin.signed_notification()},
        "headers": {"X-Forwarded-For": "17.58.0.1"},
    }
    answers = repeatedly(FAILURES * WORKERS * 3, "POST", f"{served.url}/webhooks/apple", **genuine)
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize(
    "nested",
    ["[" * 200_000, '{"a":' * 40_000, "[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1)],
    ids=["arrays", "objects", "one level more"],
)
def test_json_that_is_too_deep_is_refused(served: Served, nested: str) -> None:
    body = f'{{"store": "apple", "signed_transaction": {nested}}}'
    webhook = f'{{"signedPayload": {nested}}}'
    key = {"Authorization": "Bearer sk_example_only_change_me"}
    for path, content, headers in (("/v1/purchases", body, key), ("/webhooks/apple", webhook, {})):
        response = requests.post(served.url + path, data=content, headers=headers, timeout=TIMEOUT_S)
        assert (response.status_code, response.json()["code"]) == (400, "malformed-request")
        assert f"at most {DEPTH_MAX} levels" in response.json()["detail"]


@pytest.mark.parametrize("levels", [DEPTH_MAX + 1, 40_000])
def test_a_token_whose_payload_is_too_deep_is_refused(served: Served, levels: int) -> None:
    payload = (
        b64encode(b'{"transactionId":"1","a":' + b"[" * levels + b"]" * levels + b"}", b"-_").rstrip(b"=").decode()
    )
    body = {"store": "apple", "signed_transaction": f"e30.{payload}.AA"}
    key = {"Authorization": "Bearer sk_example_only_change_me"}
    response = requests.post(f"{served.url}/v1/purchases", json=body, headers=key, timeout=TIMEOUT_S)
    assert (response.status_code, response.json()["code"]) == (400, "malformed-request")
    assert f"at most {DEPTH_MAX} levels" in response.json()["detail"]
    as_credential = {"Authorization": f"Bearer e30.{payload[:8000]}.AA", "X-Forwarded-For": "203.0.113.5"}
    assert requests.get(f"{served.url}/v1/products", headers=as_credential, timeout=TIMEOUT_S).status_code == 401


def test_headers_that_are_too_many_or_too_long_are_refused_unread(served: Served) -> None:
    many = b"".join(b"X-%d: x\r\n" % number for number in range(1000))
    long = b"X: " + b"x" * (16 * HEADERS_BUFFER_BYTES) + b"\r\n"
    for headers in (many, long):
        assert talk(served, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")[:12] in {b"HTTP/1.1 431", b""}


def test_a_path_that_is_too_long_is_refused(served: Served) -> None:
    answer = talk(served, b"GET /" + b"a" * (16 * HEADERS_BUFFER_BYTES) + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer[:12] in {b"HTTP/1.1 431", b"HTTP/1.1 414", b""}


@pytest.mark.parametrize(
    "said",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nA\x00B: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET /healthz HTTP/9.9\r\n\r\n",
    ],
    ids=["two lengths", "negative length", "NUL", "TLS", "version"],
)
def test_what_is_no_http_is_hung_up_on(served: Served, said: bytes) -> None:
    assert talk(served, said)[:12] in {b"HTTP/1.1 400", b""}


@pytest.mark.slow
def test_whoever_sends_headers_a_byte_at_a_time_takes_nothing_from_others_and_is_hung_up_on(served: Served) -> None:
    clock = SystemClock()
    with ExitStack() as held:
        slow = [held.enter_context(closing(socket.create_connection(served.address, timeout=60))) for _ in range(200)]
        began_s = clock.monotonic()
        for connection in slow:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHos")
        for _ in range(20):
            assert requests.get(f"{served.url}/healthz", timeout=TIMEOUT_S).status_code == 200
        assert clock.monotonic() - began_s < TIMEOUT_S
        assert slow[0].recv(1) == b""
        assert clock.monotonic() - began_s < HEADERS_READ_TIMEOUT_MS / 1000 + TIMEOUT_S


def test_a_header_cannot_say_who_is_connected(served: Served) -> None:
    said = json.dumps({"signedPayload": "a.b.c"})
    headers = {"Remote-Addr": "203.0.113.77", "X-Forwarded-For": "203.0.113.4"}
    answers = repeatedly(FAILURES * WORKERS * 3, "POST", f"{served.url}/webhooks/apple", data=said, headers=headers)
    assert 429 in {answer.status_code for answer in answers}
    headers["Remote-Addr"] = "203.0.113.78"
    again = repeatedly(FAILURES, "POST", f"{served.url}/webhooks/apple", data=said, headers=headers)
    assert 429 in {answer.status_code for answer in again}
