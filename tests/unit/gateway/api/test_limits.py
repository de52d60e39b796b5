"""How often callers may ask: users by what they ask, addresses by what is refused to them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from gateway.api.limits import KEYS_MAX, Allowances
from gateway.api.routes import ROUTES
from gateway.domain.rates import Rate
from shared.clock import ManualClock
from tests.support.gateway import Gateway, gateway_on

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/nowhere"
START = datetime(2026, 11, 22, 12, tzinfo=UTC)
WRONG_KEY = {"Authorization": "Bearer sk_wrong"}
WRONG_TOKEN = {"Authorization": "Bearer a.b.c"}
COSTLY = {
    ("POST", "/v1/purchases"),
    ("GET", "/v1/users/{user}/account-token"),
    ("POST", "/v1/users/{user}/spends"),
    ("POST", "/v1/purchases/{purchase}/refund-requests"),
}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


Started = Callable[..., AbstractContextManager[Gateway]]


@pytest.fixture
def started(tmp_path: Path, clock: ManualClock) -> Started:
    """A gateway without a database (what gets past its limits is 503) and with these limits, no other."""

    def start(**limits: str) -> AbstractContextManager[Gateway]:
        none = dict.fromkeys(("rate_limit_user", "rate_limit_submissions", "rate_limit_failures"), "")
        return gateway_on(NO_DATABASE, tmp_path, clock=clock, changes=none | limits)

    return start


@pytest.fixture
def gateway(started: Started) -> Iterator[Gateway]:
    with started(rate_limit_user="5/minute", rate_limit_submissions="2/minute", rate_limit_failures="3/minute") as one:
        yield one


def products(gateway: Gateway, headers: Mapping[str, str], address: str = "203.0.113.1") -> TestResponse:
    """A call that needs no database."""
    return gateway.client().get("/v1/products", headers=headers, environ_base={"REMOTE_ADDR": address})


def webhook(gateway: Gateway, payload: Any, address: str = "203.0.113.1") -> TestResponse:
    body = {"signedPayload": payload}
    return gateway.client().post("/webhooks/apple", json=body, environ_base={"REMOTE_ADDR": address})


def statuses(*responses: TestResponse) -> list[int]:
    return [response.status_code for response in responses]


def test_a_user_is_told_when_to_come_back_and_may_then(gateway: Gateway, clock: ManualClock) -> None:
    alice = gateway.as_user("alice")
    assert statuses(*(products(gateway, alice) for _ in range(6))) == [200] * 5 + [429]
    refused = products(gateway, alice)
    assert refused.json is not None
    assert (refused.json["code"], refused.content_type) == ("too-many-requests", "application/problem+json")
    assert refused.headers["Retry-After"] == "12"
    clock.advance(11.9)
    assert products(gateway, alice).status_code == 429
    clock.advance(0.2)
    assert statuses(products(gateway, alice), products(gateway, alice)) == [200, 429]


def test_one_user_does_not_use_up_anothers(gateway: Gateway) -> None:
    assert products(gateway, gateway.as_user("alice")).status_code == 200
    for _ in range(9):
        products(gateway, gateway.as_user("alice"))
    assert products(gateway, gateway.as_user("bob")).status_code == 200


def test_a_new_token_is_no_new_user(gateway: Gateway) -> None:
    tokens = [{"Authorization": f"Bearer {gateway.token('alice', iat=number)}"} for number in range(6)]
    assert statuses(*(products(gateway, token) for token in tokens)) == [200] * 5 + [429]


def test_a_server_key_is_not_limited(gateway: Gateway) -> None:
    assert set(statuses(*(products(gateway, gateway.as_server()) for _ in range(50)))) == {200}


def test_what_costs_may_be_asked_for_less_often(gateway: Gateway) -> None:
    alice = gateway.as_user("alice")
    found = statuses(*(gateway.client().get("/v1/users/me/account-token", headers=alice) for _ in range(3)))
    assert found == [503, 503, 429]
    assert products(gateway, alice).status_code == 200


def test_these_calls_cost_and_no_other() -> None:
    assert {(route.method, route.path) for route in ROUTES if route.costly} == COSTLY


def test_a_refused_submission_is_not_read(gateway: Gateway) -> None:
    alice = gateway.as_user("alice")
    bodies = [gateway.client().post("/v1/purchases", data=b"{", headers=alice) for _ in range(3)]
    assert statuses(*bodies) == [400, 400, 429]


@pytest.mark.parametrize("headers", [{}, WRONG_KEY, WRONG_TOKEN], ids=["none", "server key", "token"])
def test_an_address_that_was_refused_too_often_is_told_to_wait(
    gateway: Gateway, clock: ManualClock, headers: dict[str, str]
) -> None:
    assert statuses(*(products(gateway, headers) for _ in range(4))) == [401] * 3 + [429]
    assert products(gateway, headers, "203.0.113.2").status_code == 401
    clock.advance(20.1)
    assert statuses(products(gateway, headers), products(gateway, headers)) == [401, 429]


def test_a_guesser_does_not_shut_out_the_backend_behind_the_same_address(gateway: Gateway) -> None:
    for _ in range(9):
        products(gateway, WRONG_KEY)
    assert products(gateway, gateway.as_server()).status_code == 200


def test_a_guesser_does_not_shut_out_the_users_behind_the_same_address(gateway: Gateway) -> None:
    for _ in range(9):
        products(gateway, WRONG_TOKEN)
    assert products(gateway, gateway.as_user("alice")).status_code == 200


def test_behind_a_proxy_it_is_the_callers_address_that_counts(gateway: Gateway) -> None:
    def ask(origin: str) -> TestResponse:
        return products(gateway, WRONG_KEY | {"X-Forwarded-For": f"192.0.2.1, {origin}"}, "10.0.0.2")

    assert statuses(*(ask("203.0.113.1") for _ in range(4))) == [401] * 3 + [429]
    assert ask("203.0.113.2").status_code == 401


def test_nobody_gets_a_new_address_by_a_header(gateway: Gateway) -> None:
    found = [products(gateway, WRONG_KEY | {"X-Forwarded-For": f"192.0.2.{number}"}) for number in range(4)]
    assert statuses(*found) == [401] * 3 + [429]


@pytest.mark.parametrize("payload", ["a.b.c", 7, None, "x" * 300_000], ids=["forged", "number", "nothing", "long"])
def test_webhooks_that_nobody_signed_count_as_failures(gateway: Gateway, payload: Any) -> None:
    found = statuses(*(webhook(gateway, payload) for _ in range(4)))
    assert set(found[:3]) < {400, 401, 413}
    assert found[3] == 429


def test_what_the_app_store_signed_is_never_limited(gateway: Gateway) -> None:
    signed = gateway.signed_notification()
    others = gateway.signed_notification(data={"bundleId": "com.example.other", "environment": "Production"})
    assert set(statuses(*(webhook(gateway, signed) for _ in range(9)))) == {503}  # no database: it got past the limits
    assert set(statuses(*(webhook(gateway, others) for _ in range(9)))) == {401}


def test_a_forger_does_not_shut_out_the_app_store_behind_the_same_proxy(gateway: Gateway) -> None:
    for _ in range(9):
        webhook(gateway, "a.b.c")
    assert webhook(gateway, gateway.signed_notification()).status_code == 503  # no database: it got past the limits


def test_without_limits_nobody_is_told_to_wait(started: Started) -> None:
    with started() as gateway:
        assert set(statuses(*(products(gateway, gateway.as_user()) for _ in range(50)))) == {200}
        assert set(statuses(*(products(gateway, WRONG_KEY) for _ in range(50)))) == {401}


def test_a_limit_takes_no_more_memory_however_many_come(clock: ManualClock) -> None:
    tracemalloc.start()
    try:
        allowances = Allowances(Rate(600, 60), clock=clock)
        for number in range(3 * KEYS_MAX):
            allowances.take(("game", f"somebody with a long name, who is called {number}"))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(allowances) == KEYS_MAX
    assert held < 12 * 1024 * 1024


def test_of_too_many_the_one_that_was_quiet_the_longest_begins_anew(clock: ManualClock) -> None:
    allowances = Allowances(Rate(2, 60), clock=clock, keys_max=2)
    for key in ("first", "second", "first", "third"):
        assert not allowances.take(key)
    assert allowances.take("first")
    assert not allowances.take("second")
    assert not allowances.take("second")
