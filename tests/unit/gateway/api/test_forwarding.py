"""The calls that the ledger or the notifier answers: what is handed on to them, what is not, and what comes back; with
scripted ones.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from gateway.api.forwarding import ORDER_BYTES_MAX
from gateway.api.routes import ROUTES, Route
from gateway.settings import GatewaySettings
from tests.support.gateway import Gateway, apps_file, gateway_on
from tests.support.scripted_service import Asked, ScriptedService, scripted_service
from tests.support.stack import wait_until

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/nowhere"
SPEND, HOLD, REQUEST = "spd_" + "0" * 32, "hld_" + "1" * 32, "rfr_" + "2" * 32
PURCHASE = "pur_" + "a" * 26
EVENT = "019aab00-5dc0-7000-8000-000000000001"
PARTS = {
    "user": "alice",
    "purchase": PURCHASE,
    "spend": SPEND,
    "hold": HOLD,
    "refund_request": REQUEST,
    "endpoint": "backend",
    "event": EVENT,
}
ORDERS = [route for route in ROUTES if route.order is not None]
KEYED = [route for route in ORDERS if route.order and route.order.key == "required"]
KEYLESS = [route for route in ORDERS if route not in KEYED]


def by_path(route: Route) -> str:
    return route.path


@dataclass(frozen=True, slots=True)
class Counter:
    """A gateway without a database, and the services behind it."""

    gateway: Gateway
    ledger: ScriptedService
    notifier: ScriptedService

    @property
    def asked(self) -> list[Asked]:
        """What either was asked."""
        return [*self.ledger.asked, *self.notifier.asked]

    def behind(self, path: str) -> ScriptedService:
        """Whose call it is."""
        return self.notifier if path.startswith("/v1/webhooks/") else self.ledger

    def get(self, path: str, *, user: str | None = "alice") -> TestResponse:
        """Asks as a user's device, or as the app's backend."""
        headers = self.gateway.as_server() if user is None else self.gateway.as_user(user)
        return self.gateway.client().get(path, headers=headers)

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
    with scripted_service() as ledger, scripted_service() as notifier:
        changes = {"ledger_url": ledger.url, "notifier_url": notifier.url, "apps_file": apps}
        with gateway_on(NO_DATABASE, directory, changes=changes) as gateway:
            yield Counter(gateway, ledger, notifier)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    """One of an app whose clients may not spend by themselves."""
    with counter_in(tmp_path_factory.mktemp("strict"), client_may_spend=False) as running:
        yield running


@pytest.fixture
def counter(strict: Counter) -> Counter:
    strict.ledger.start_anew()
    strict.notifier.start_anew()
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
        *(
            (path, path)
            for path in (
                "/v1/webhooks/endpoints/backend/replay",
                "/v1/webhooks/endpoints/b.2_x-Y/test",
                "/v1/webhooks/endpoints/backend/enable",
                "/v1/webhooks/endpoints/backend/disable",
                f"/v1/webhooks/deliveries/{EVENT}/resend",
            )
        ),
    ],
)
def test_an_order_reaches_its_service_at_the_same_path_to_the_byte(counter: Counter, path: str, asked: str) -> None:
    body = b'{"amount":  5,\n "note": "nobody reads me here"'
    assert counter.post(path, body=body).status_code == 200
    assert len(counter.asked) == 1
    last = counter.behind(path).last
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


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/webhooks/endpoints", "/v1/webhooks/endpoints"),
        ("/v1/webhooks/deliveries", "/v1/webhooks/deliveries?limit=50"),
        (
            "/v1/webhooks/deliveries?after=a.b&state=exhausted&limit=2&endpoint=backend&other=1",
            "/v1/webhooks/deliveries?endpoint=backend&state=exhausted&limit=2&after=a.b",
        ),
        (f"/v1/webhooks/deliveries/{EVENT}", f"/v1/webhooks/deliveries/{EVENT}"),
    ],
)
def test_a_question_about_webhooks_reaches_the_notifier_and_not_the_ledger(
    counter: Counter, path: str, asked: str
) -> None:
    assert counter.get(path, user=None).status_code == 200
    (last,) = counter.notifier.asked
    assert (last.method, last.path, last.headers["x-purser-caller"]) == ("GET", asked, "server:backend")
    assert counter.ledger.asked == []


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
        "/v1/webhooks/endpoints/.hidden/test",
        "/v1/webhooks/endpoints/a%00/replay",
        "/v1/webhooks/endpoints/a%0A/enable",
        f"/v1/webhooks/endpoints/{'a' * 65}/disable",
        f"/v1/webhooks/deliveries/{EVENT.upper()}/resend",
        f"/v1/webhooks/deliveries/{EVENT.replace('-', '')}/resend",
        "/v1/webhooks/deliveries/1/resend",
    ],
)
def test_what_cannot_be_an_id_is_not_there(counter: Counter, path: str) -> None:
    assert problem(counter.post(path))[:2] == (404, "not-found")
    assert counter.asked == []


@pytest.mark.parametrize("path", [f"/v1/refund-requests/{HOLD}", f"/v1/webhooks/deliveries/{HOLD}"])
def test_what_cannot_be_the_id_of_what_is_asked_for_is_not_there(counter: Counter, path: str) -> None:
    assert counter.get(path, user=None).status_code == 404
    assert counter.asked == []


@pytest.mark.parametrize(
    "query", ["state=lost", "limit=0", "limit=201", "endpoint=a/b", "endpoint=", f"after={'a' * 98}"]
)
def test_a_list_of_deliveries_that_there_cannot_be_is_malformed(counter: Counter, query: str) -> None:
    status, code, detail = problem(counter.get(f"/v1/webhooks/deliveries?{query}", user=None))
    assert (status, code) == (400, "malformed-request")
    assert detail.startswith(query.partition("=")[0])
    assert counter.asked == []


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
    assert "idempotency-key" not in counter.behind(route.path).last.headers


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
    assert counter.asked == []
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
    service = counter.behind(route.path)
    for name, value in failure.items():
        setattr(service, name, value)
    response = counter.post(route.path.format_map(PARTS))
    status, code, detail = problem(response)
    assert (status, code) == (503, "temporarily-unavailable")
    assert "not known" in detail
    assert int(response.headers["Retry-After"]) > 0
    assert len(counter.asked) == 1


@pytest.mark.parametrize("path", [f"/v1/refund-requests/{REQUEST}", "/v1/webhooks/endpoints"])
def test_a_question_without_an_answer_is_temporary(counter: Counter, path: str) -> None:
    counter.behind(path).status = 500
    assert problem(counter.get(path, user=None))[:2] == (503, "temporarily-unavailable")


def test_a_notifier_that_is_away_takes_its_own_calls_with_it_and_no_other(counter: Counter) -> None:
    counter.notifier.breaks = True
    status, code, detail = problem(counter.get("/v1/webhooks/endpoints", user=None))
    assert (status, code, detail) == (503, "temporarily-unavailable", "the notifier is away")
    assert counter.get("/v1/users/me/wallet").status_code == 200


def test_a_notifier_that_hangs_keeps_a_quarter_of_the_threads_and_no_more(counter: Counter) -> None:
    quarter = GatewaySettings.model_fields["gateway_threads"].default // 4
    counter.notifier.hold = threading.Event()
    path = "/v1/webhooks/endpoints"
    with ThreadPoolExecutor(quarter) as threads:
        waiting = [threads.submit(counter.get, path, user=None) for _ in range(quarter)]
        wait_until(lambda: len(counter.notifier.asked) == quarter, what="as many as may waiting")
        assert problem(counter.get(path, user=None)) == (503, "temporarily-unavailable", "the notifier is busy")
        assert counter.get("/v1/users/me/wallet").status_code == 200
        counter.notifier.hold.set()
        assert {each.result().status_code for each in waiting} == {200}


# ---- what the contract shows ------------------------------------------------------------------------------------


def test_every_order_has_examples_and_each_is_json_of_its_size() -> None:
    for route in ORDERS:
        assert route.examples, route.path
        for example in route.examples.values():
            assert len(json.dumps(example.value)) < ORDER_BYTES_MAX
