"""The calls that the ledger answers: what is handed on to it, what is not, and what comes back; with a scripted one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from gateway.api.forwarding import ORDER_BYTES_MAX
from gateway.api.routes import ROUTES, Route
from tests.support.gateway import Gateway, apps_file, gateway_on
from tests.support.scripted_ledger import ScriptedLedger, scripted_ledger

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/nowhere"
SPEND, HOLD, REQUEST = "spd_" + "0" * 32, "hld_" + "1" * 32, "rfr_" + "2" * 32
PURCHASE = "pur_" + "a" * 26
PARTS = {"user": "alice", "purchase": PURCHASE, "spend": SPEND, "hold": HOLD, "refund_request": REQUEST}
ORDERS = [route for route in ROUTES if route.order is not None]
KEYED = [route for route in ORDERS if route.order and route.order.key == "required"]
KEYLESS = [route for route in ORDERS if route not in KEYED]


def by_path(route: Route) -> str:
    return route.path


@dataclass(frozen=True, slots=True)
class Counter:
    """A gateway without a database, and the ledger behind it."""

    gateway: Gateway
    ledger: ScriptedLedger

    def get(self, path: str, *, user: str = "alice") -> TestResponse:
        """Asks as a user's device."""
        return self.gateway.client().get(path, headers=self.gateway.as_user(user))

    def post(
        self,
        path: str,
        *,
        body: bytes | None = b"{}",
        key: str | None = "order-1",
        user: str | None = None,
        **more: Any,
    ) -> TestResponse:
        """Posts as the app's backend, or as a user's device."""
        headers = self.gateway.as_server() if user is None else self.gateway.as_user(user)
        headers |= {} if key is None else {"Idempotency-Key": key}
        return self.gateway.client().post(path, headers=headers, data=body, **more)


@contextmanager
def counter_in(directory: Path, *, client_may_spend: bool) -> Iterator[Counter]:
    apps = apps_file(directory, api_key=True, client_may_spend=client_may_spend)
    with scripted_ledger() as ledger:
        changes = {"ledger_url": ledger.url, "apps_file": apps}
        with gateway_on(NO_DATABASE, directory, changes=changes) as gateway:
            yield Counter(gateway, ledger)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    """One of an app whose clients may not spend by themselves."""
    with counter_in(tmp_path_factory.mktemp("strict"), client_may_spend=False) as running:
        yield running


@pytest.fixture
def counter(strict: Counter) -> Counter:
    strict.ledger.start_anew()
    return strict


def problem(response: TestResponse) -> tuple[int, str, str]:
    document = response.json or {}
    return response.status_code, document["code"], document["detail"]


# ---- what is handed on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/users/alice/spends", "/v1/users/alice/spends"),
        ("/v1/users/auth0%7Cä%2F1/spends", "/v1/users/auth0%7C%C3%A4%2F1/spends"),
        (f"/v1/spends/{SPEND}/reverse", f"/v1/spends/{SPEND}/reverse"),
        ("/v1/users/alice/holds", "/v1/users/alice/holds"),
        (f"/v1/holds/{HOLD}/capture", f"/v1/holds/{HOLD}/capture"),
        (f"/v1/holds/{HOLD}/release", f"/v1/holds/{HOLD}/release"),
        ("/v1/users/alice/grants", "/v1/users/alice/grants"),
        (f"/v1/purchases/{PURCHASE}/refund-requests", f"/v1/purchases/{PURCHASE}/refund-requests"),
    ],
)
def test_an_order_reaches_the_ledger_at_the_same_path_to_the_byte(counter: Counter, path: str, asked: str) -> None:
    body = b'{"amount":  5,\n "note": "nobody reads me here"'
    assert counter.post(path, body=body).status_code == 200
    last = counter.ledger.last
    assert (last.method, last.path, last.body) == ("POST", asked, body)
    assert last.headers["x-purser-caller"] == "server:backend"


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (f"/v1/refund-requests/{REQUEST}", f"/v1/refund-requests/{REQUEST}"),
        ("/v1/users/me/wallet", "/v1/users/alice/wallet?environment=production"),
        ("/v1/users/me/wallet?environment=sandbox", "/v1/users/alice/wallet?environment=sandbox"),
        (
            "/v1/users/me/wallet/entries?after=7&limit=3",
            "/v1/users/alice/wallet/entries?environment=production&limit=3&after=7",
        ),
        ("/v1/users/me/subscriptions", "/v1/users/alice/subscriptions?environment=production&limit=50"),
        (
            "/v1/users/me/subscriptions?after=7.apple.1&limit=3&environment=sandbox",
            "/v1/users/alice/subscriptions?environment=sandbox&limit=3&after=7.apple.1",
        ),
        ("/v1/users/me/entitlements", "/v1/users/alice/entitlements?environment=production"),
        ("/v1/users/me/entitlements?environment=sandbox", "/v1/users/alice/entitlements?environment=sandbox"),
    ],
)
def test_a_question_reaches_the_ledger_with_whoever_asks(counter: Counter, path: str, asked: str) -> None:
    assert counter.get(path).status_code == 200
    last = counter.ledger.last
    assert (last.method, last.path) == ("GET", asked)
    assert last.headers["x-purser-caller"] == "client:alice"


@pytest.mark.parametrize("what", ["wallet", "subscriptions", "entitlements"])
def test_nobody_is_shown_what_another_user_has(counter: Counter, what: str) -> None:
    assert counter.get(f"/v1/users/bob/{what}").status_code == 404
    assert counter.ledger.asked == []


def test_a_client_asks_for_a_refund_in_its_own_name(counter: Counter) -> None:
    assert counter.post(f"/v1/purchases/{PURCHASE}/refund-requests", user="alice", key=None).status_code == 200
    assert counter.ledger.last.headers["x-purser-caller"] == "client:alice"


def test_no_client_spends_where_its_app_does_not_let_it(counter: Counter) -> None:
    assert problem(counter.post("/v1/users/me/spends", user="alice"))[:2] == (403, "forbidden")
    assert counter.ledger.asked == []


def test_a_client_spends_its_own_where_its_app_lets_it(tmp_path: Path) -> None:
    with counter_in(tmp_path, client_may_spend=True) as counter:
        assert counter.post("/v1/users/bob/spends", user="alice").status_code == 404
        assert counter.post("/v1/users/me/holds", user="alice").status_code == 403
        assert counter.ledger.asked == []
        assert counter.post("/v1/users/me/spends", user="alice").status_code == 200
        assert counter.ledger.last.path == "/v1/users/alice/spends"
        assert counter.ledger.last.headers["x-purser-caller"] == "client:alice"


# ---- what is not ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/v1/spends/spd_1/reverse",
        f"/v1/spends/{HOLD}/reverse",
        f"/v1/spends/{SPEND.upper()}/reverse",
        f"/v1/holds/{SPEND}/capture",
        f"/v1/holds/{HOLD}0/release",
        "/v1/purchases/pur_1/refund-requests",
        f"/v1/purchases/{PURCHASE}%00/refund-requests",
    ],
)
def test_what_cannot_be_an_id_is_not_there(counter: Counter, path: str) -> None:
    assert problem(counter.post(path))[:2] == (404, "not-found")
    assert counter.ledger.asked == []


def test_what_cannot_be_the_id_of_a_request_is_not_there(counter: Counter) -> None:
    assert counter.get(f"/v1/refund-requests/{HOLD}").status_code == 404
    assert counter.ledger.asked == []


def test_a_server_names_the_user(counter: Counter) -> None:
    assert problem(counter.post("/v1/users/me/grants"))[:2] == (400, "malformed-request")
    assert counter.ledger.asked == []


@pytest.mark.parametrize("route", KEYED, ids=by_path)
def test_an_order_that_wants_a_key_is_refused_without_one(counter: Counter, route: Route) -> None:
    status, code, detail = problem(counter.post(route.path.format_map(PARTS), key=None))
    assert (status, code) == (400, "malformed-request")
    assert "Idempotency-Key" in detail
    assert counter.ledger.asked == []


@pytest.mark.parametrize("route", KEYLESS, ids=by_path)
def test_an_order_that_wants_no_key_is_taken_without_one(counter: Counter, route: Route) -> None:
    assert counter.post(route.path.format_map(PARTS), key=None).status_code == 200
    assert "idempotency-key" not in counter.ledger.last.headers


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "é", "a\tb", "\x7f"])
@pytest.mark.parametrize("path", ["/v1/users/alice/spends", f"/v1/holds/{HOLD}/release"])
def test_a_key_that_cannot_be_one_is_refused(counter: Counter, path: str, key: str) -> None:
    status, code, detail = problem(counter.post(path, key=key))
    assert (status, code) == (400, "malformed-request")
    assert "Idempotency-Key" in detail
    assert counter.ledger.asked == []


@pytest.mark.parametrize(("key", "arrives"), [("x" * 200, "x" * 200), ('"1"; a', '"1"; a'), ("  1 2\t", "1 2")])
def test_a_key_is_handed_on_without_the_blanks_around_it(counter: Counter, key: str, arrives: str) -> None:
    assert counter.post(f"/v1/holds/{HOLD}/capture", key=key).status_code == 200
    assert counter.ledger.last.headers["idempotency-key"] == arrives


@pytest.mark.parametrize("route", ORDERS, ids=by_path)
def test_a_body_that_is_too_large_is_refused_however_its_length_is_told(counter: Counter, route: Route) -> None:
    path, large = route.path.format_map(PARTS), b"x" * (ORDER_BYTES_MAX + 1)
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    for response in (
        counter.post(path, body=large),
        counter.post(path, body=None, input_stream=BytesIO(large), environ_base=chunked),
    ):
        assert problem(response)[:2] == (413, "body-too-large")
    assert counter.ledger.asked == []
    assert counter.post(path, body=large[1:]).status_code == 200


# ---- what comes back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [201, 409, 422])
@pytest.mark.parametrize("replayed", [True, False])
def test_an_answer_is_handed_back_as_it_is(counter: Counter, status: int, replayed: bool) -> None:
    ledger = counter.ledger
    ledger.status, ledger.body = status, b'{ "as":  "it is" }'
    ledger.headers = {"Content-Type": "application/problem+json"} | (
        {"Idempotent-Replayed": "true"} if replayed else {}
    )
    response = counter.post("/v1/users/alice/spends")
    assert (response.status_code, response.data) == (status, ledger.body)
    assert response.content_type == "application/problem+json"
    assert response.headers.get("Idempotent-Replayed") == ("true" if replayed else None)


@pytest.mark.parametrize("failure", [{"status": 503}, {"status": 500}, {"breaks": True}])
@pytest.mark.parametrize("route", ORDERS, ids=by_path)
def test_an_order_without_an_answer_is_to_be_sent_again_by_whoever_gave_it(
    counter: Counter, route: Route, failure: dict[str, Any]
) -> None:
    for name, value in failure.items():
        setattr(counter.ledger, name, value)
    response = counter.post(route.path.format_map(PARTS))
    status, code, detail = problem(response)
    assert (status, code) == (503, "temporarily-unavailable")
    assert "not known" in detail
    assert int(response.headers["Retry-After"]) > 0
    assert len(counter.ledger.asked) == 1


def test_a_question_without_an_answer_is_temporary(counter: Counter) -> None:
    counter.ledger.status = 500
    response = counter.get(f"/v1/refund-requests/{REQUEST}")
    assert problem(response)[:2] == (503, "temporarily-unavailable")


# ---- what the contract shows ------------------------------------------------------------------------------------


def test_every_order_has_examples_and_each_is_json_of_its_size() -> None:
    for route in ORDERS:
        assert route.examples, route.path
        for example in route.examples.values():
            assert len(json.dumps(example.value)) < ORDER_BYTES_MAX
