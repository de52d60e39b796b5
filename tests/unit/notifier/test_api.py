"""Who may make which call of the internal API, what is made of what comes in, and what goes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from notifier.api import BODY_BYTES_MAX, REPLAYED_MAX, ROUTES, read_place, routes, write_place
from notifier.domain.deliveries import AttemptNumber, DeliveryState
from notifier.domain.desk import (
    AttemptView,
    DeliveryHistory,
    DeliveryPage,
    DeliveryPlace,
    DeliveryView,
    EndpointView,
    Replayed,
    Told,
    Trial,
)
from notifier.handlers.desk import DeliveryUnknown, EndpointUnknown
from shared.apps import EndpointId
from shared.database import DatabaseUnavailable
from shared.http import install_conventions
from shared.ids import AppId, EventId
from tests.support.ledger_api import APPS, TOKEN, TRACE, headers
from tests.support.seeded import seeded_ids

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
EVENT = EventId(UUID("019aab00-5dc0-7000-8000-000000000001"))
BACKEND = EndpointId("backend")
ENDPOINT = EndpointView(
    id=BACKEND,
    host="backend.example.com",
    events=("wallet.*",),
    state="failing",
    disabled_at=None,
    reason=None,
    failing_since=NOON,
    failures=3,
    waiting=2,
    oldest_waiting_at=NOON,
    failed=1,
    delivered_at=None,
)
DELIVERY = DeliveryView(
    event_id=EVENT,
    endpoint=BACKEND,
    type="wallet.credited",
    state="waiting",
    attempts=1,
    created_at=NOON,
    due_at=NOON,
    settled_at=None,
    last_status=500,
    last_error="answered 500",
)
ATTEMPT = AttemptView(
    number=AttemptNumber(1),
    at=NOON,
    status=500,
    duration_ms=12,
    answer="not today",
    error="answered 500",
    retry_after_s=2.5,
)
TRIAL = Trial(message_id=EVENT, taken=False, status=None, duration_ms=5, answer="", error="no connection")
READS = {
    "GET /v1/webhooks/endpoints",
    "GET /v1/webhooks/deliveries",
    f"GET /v1/webhooks/deliveries/{EVENT}",
}
ORDERS = {
    "POST /v1/webhooks/endpoints/backend/replay",
    "POST /v1/webhooks/endpoints/backend/test",
    "POST /v1/webhooks/endpoints/backend/enable",
    "POST /v1/webhooks/endpoints/backend/disable",
    f"POST /v1/webhooks/deliveries/{EVENT}/resend",
}
BODIES = {"replay": {"since": "2026-11-22T12:00:00Z"}, "disable": {"reason": "it moves"}}


@dataclass
class ScriptedDesk:
    """Answers every call, and keeps what was asked; `fails` is raised instead."""

    asked: list[Any] = field(default_factory=list)
    fails: Exception | None = None
    following: DeliveryPlace | None = None
    next_since: datetime | None = None

    def endpoints(self, app: AppId) -> Sequence[EndpointView]:
        self._keep("endpoints", app)
        return [ENDPOINT]

    def deliveries(
        self,
        app: AppId,
        *,
        endpoint: EndpointId | None,
        state: DeliveryState | None,
        after: DeliveryPlace | None,
        limit: int,
    ) -> DeliveryPage:
        self._keep("deliveries", app, endpoint, state, after, limit)
        return DeliveryPage([DELIVERY], next_after=self.following)

    def delivery(self, app: AppId, event_id: EventId) -> Told:
        self._keep("delivery", app, event_id)
        return Told(event_id, {"type": "wallet.credited"}, [DeliveryHistory(DELIVERY, [ATTEMPT])])

    def resend(self, app: AppId, event_id: EventId, *, endpoint: EndpointId | None, actor: str) -> int:
        self._keep("resend", app, event_id, endpoint, actor)
        return 2

    def replay(
        self,
        app: AppId,
        endpoint: EndpointId,
        *,
        since: datetime,
        until: datetime | None,
        delivered: bool,
        actor: str,
        limit: int | None,
    ) -> Replayed:
        self._keep("replay", app, endpoint, since, until, delivered, actor, limit)
        return Replayed(7, 9, next_since=self.next_since)

    def test(self, app: AppId, endpoint: EndpointId) -> Trial:
        self._keep("test", app, endpoint)
        return TRIAL

    def enable(self, app: AppId, endpoint: EndpointId, *, actor: str, trace_id: str) -> EndpointView:
        self._keep("enable", app, endpoint, actor, trace_id)
        return ENDPOINT

    def disable(self, app: AppId, endpoint: EndpointId, *, reason: str, actor: str, trace_id: str) -> EndpointView:
        self._keep("disable", app, endpoint, reason, actor, trace_id)
        return replace(ENDPOINT, state="disabled", disabled_at=NOON, reason=reason)

    def ready(self) -> None:
        self._keep("ready")

    def _keep(self, *what: Any) -> None:
        if self.fails is not None:
            raise self.fails
        self.asked.append(what)


@pytest.fixture
def desk() -> ScriptedDesk:
    return ScriptedDesk()


@pytest.fixture
def client(desk: ScriptedDesk) -> FlaskClient:
    """The API on that desk, of the apps `game` and `arcade`, which have a key for each scope."""
    app = Flask(__name__, static_folder=None)
    install_conventions(app, ids=seeded_ids(1))
    app.register_blueprint(routes(desk=desk, apps=APPS, service_token=TOKEN))
    return app.test_client()


def call(client: FlaskClient, name: str, sent: dict[str, str] | None = None, **more: Any) -> TestResponse:
    """Makes a call of READS or ORDERS as it is to be made, but for what is said otherwise."""
    method, path = name.split(" ", 1)
    if method == "POST" and not more:
        more = {"json": BODIES.get(path.rpartition("/")[2], {})}
    return client.open(path, method=method, headers=headers("server:backend") if sent is None else sent, **more)


def problem(response: TestResponse) -> tuple[int, str, str]:
    document = response.json or {}
    return response.status_code, document["code"], document["detail"]


# ---- who may ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", ["client:alice", *(f"server:{key}" for key in ("reader", "spender", "granter"))])
@pytest.mark.parametrize("name", sorted(ORDERS))
def test_an_order_is_for_keys_with_the_scope_admin_alone(
    client: FlaskClient, desk: ScriptedDesk, name: str, caller: str
) -> None:
    assert problem(call(client, name, headers(caller)))[:2] == (403, "forbidden")
    assert desk.asked == []
    assert call(client, name, headers("server:admin")).status_code == 200


@pytest.mark.parametrize("caller", ["client:alice", *(f"server:{key}" for key in ("admin", "spender", "granter"))])
@pytest.mark.parametrize("name", sorted(READS))
def test_what_is_read_is_for_keys_with_the_scope_read_alone(
    client: FlaskClient, desk: ScriptedDesk, name: str, caller: str
) -> None:
    assert problem(call(client, name, headers(caller)))[:2] == (403, "forbidden")
    assert desk.asked == []
    assert call(client, name, headers("server:reader")).status_code == 200


@pytest.mark.parametrize("name", sorted(READS | ORDERS))
def test_nobody_is_let_in_without_the_service_token(client: FlaskClient, desk: ScriptedDesk, name: str) -> None:
    for sent in ({}, headers("server:backend", token="wrong")):
        assert problem(call(client, name, sent))[:2] == (401, "unauthorized")
    assert problem(call(client, name, headers("server:backend", app="gone")))[:2] == (400, "malformed-request")
    assert desk.asked == []


def test_every_call_but_those_of_machines_was_asked_about() -> None:
    paths = {f"{route.method} {route.path}" for route in ROUTES if route.needs is not None}
    for part, value in {"<endpoint_id>": "backend", "<event_id>": str(EVENT)}.items():
        paths = {path.replace(part, value) for path in paths}
    assert paths == READS | ORDERS
    assert {route.path for route in ROUTES if route.needs is None} == {"/healthz", "/readyz"}


@pytest.mark.parametrize("name", sorted(READS | ORDERS))
def test_whatever_is_asked_is_asked_of_the_callers_own_app(client: FlaskClient, desk: ScriptedDesk, name: str) -> None:
    assert call(client, name, headers("server:backend", app="arcade")).status_code == 200
    ((_, app, *_),) = desk.asked
    assert app == "arcade"


# ---- what goes out ----------------------------------------------------------------------------------------------


def test_an_endpoint_is_shown_by_its_host_and_how_it_does(client: FlaskClient) -> None:
    assert call(client, "GET /v1/webhooks/endpoints").json == {
        "endpoints": [
            {
                "id": "backend",
                "host": "backend.example.com",
                "events": ["wallet.*"],
                "state": "failing",
                "disabled_at": None,
                "reason": None,
                "failing_since": "2026-11-22T12:00:00.000Z",
                "failures": 3,
                "waiting": 2,
                "oldest_waiting_at": "2026-11-22T12:00:00.000Z",
                "failed": 1,
                "delivered_at": None,
            }
        ]
    }


SHOWN = {
    "event_id": str(EVENT),
    "endpoint": "backend",
    "type": "wallet.credited",
    "state": "waiting",
    "attempts": 1,
    "created_at": "2026-11-22T12:00:00.000Z",
    "due_at": "2026-11-22T12:00:00.000Z",
    "settled_at": None,
    "last_status": 500,
    "last_error": "answered 500",
}


def test_an_event_is_shown_with_its_message_and_each_attempt(client: FlaskClient) -> None:
    attempt = {
        "number": 1,
        "at": "2026-11-22T12:00:00.000Z",
        "status": 500,
        "duration_ms": 12,
        "answer": "not today",
        "error": "answered 500",
        "retry_after_s": 2.5,
    }
    assert call(client, f"GET /v1/webhooks/deliveries/{EVENT}").json == {
        "event_id": str(EVENT),
        "message": {"type": "wallet.credited"},
        "deliveries": [{**SHOWN, "attempt_list": [attempt]}],
    }


def test_deliveries_come_in_pages_each_of_which_says_where_the_next_begins(
    client: FlaskClient, desk: ScriptedDesk
) -> None:
    desk.following = DELIVERY.place
    first = call(client, "GET /v1/webhooks/deliveries").json or {}
    assert first == {"deliveries": [SHOWN], "next": "019aab005dc070008000000000000001.backend"}
    desk.following = None
    path = f"/v1/webhooks/deliveries?after={first['next']}&limit=3&state=exhausted&endpoint=backend"
    second = client.get(path, headers=headers("server:backend")).json or {}
    assert second["next"] is None
    assert desk.asked == [
        ("deliveries", "game", None, None, None, 50),
        ("deliveries", "game", "backend", "exhausted", DELIVERY.place, 3),
    ]


@pytest.mark.parametrize("endpoint", ["a", "b.2_x-Y", "a" * 64])
def test_a_place_is_read_as_it_was_written(endpoint: str) -> None:
    place = DeliveryPlace(EVENT, EndpointId(endpoint))
    assert read_place(write_place(place)) == place


def test_what_an_endpoint_made_of_a_test_is_told_whether_it_was_taken_or_not(client: FlaskClient) -> None:
    response = call(client, "POST /v1/webhooks/endpoints/backend/test")
    assert (response.status_code, response.json) == (
        200,
        {
            "message_id": str(EVENT),
            "taken": False,
            "status": None,
            "duration_ms": 5,
            "answer": "",
            "error": "no connection",
        },
    )


def test_a_replay_that_came_to_its_limit_says_where_to_go_on(client: FlaskClient, desk: ScriptedDesk) -> None:
    name = "POST /v1/webhooks/endpoints/backend/replay"
    assert call(client, name).json == {"queued": 7, "next_since": None}
    desk.next_since = NOON
    assert call(client, name).json == {"queued": 7, "next_since": "2026-11-22T12:00:00.000Z"}


# ---- what comes in ----------------------------------------------------------------------------------------------


def test_who_does_something_and_in_which_trace_is_handed_on(client: FlaskClient, desk: ScriptedDesk) -> None:
    for name in sorted(ORDERS):
        call(client, name)
    assert desk.asked == [
        ("resend", "game", EVENT, None, "server:backend"),
        ("disable", "game", "backend", "it moves", "server:backend", TRACE),
        ("enable", "game", "backend", "server:backend", TRACE),
        ("replay", "game", "backend", NOON, None, False, "server:backend", REPLAYED_MAX),
        ("test", "game", "backend"),
    ]


def test_a_disabled_endpoint_is_shown_with_its_reason(client: FlaskClient) -> None:
    shown = call(client, "POST /v1/webhooks/endpoints/backend/disable").json or {}
    assert (shown["state"], shown["reason"], shown["disabled_at"]) == (
        "disabled",
        "it moves",
        "2026-11-22T12:00:00.000Z",
    )


@pytest.mark.parametrize("name", sorted(name for name in ORDERS if not name.endswith(("replay", "disable"))))
def test_where_nothing_needs_to_be_said_the_body_may_be_left_out(client: FlaskClient, name: str) -> None:
    assert call(client, name, data=b"").status_code == 200
    assert problem(call(client, name, data=b"{"))[:2] == (400, "malformed-request")


def test_an_event_is_resent_to_one_endpoint_if_one_is_named(client: FlaskClient, desk: ScriptedDesk) -> None:
    name = f"POST /v1/webhooks/deliveries/{EVENT}/resend"
    assert call(client, name, json={"endpoint": "backend"}).json == {"queued": 2}
    assert desk.asked == [("resend", "game", EVENT, "backend", "server:backend")]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2026-11-22T12:00:00Z", NOON),
        ("2026-11-22t12:00:00.000z", NOON),
        ("2026-11-22T14:00:00.0000000+02:00", NOON),
        ("0001-01-01T00:00:00+23:59", datetime.fromisoformat("0001-01-01T00:00:00+23:59")),
        ("9999-12-31T23:59:59-23:59", datetime.fromisoformat("9999-12-31T23:59:59-23:59")),
    ],
)
def test_a_moment_is_what_rfc_3339_says(client: FlaskClient, desk: ScriptedDesk, said: str, meant: datetime) -> None:
    body = {"since": said, "until": "9999-12-31T23:59:59-23:59", "delivered": True}
    assert call(client, "POST /v1/webhooks/endpoints/backend/replay", json=body).status_code == 200
    ((_, _, _, since, until, delivered, *_),) = desk.asked
    assert (since, until.year, delivered) == (meant, 9999, True)


@pytest.mark.parametrize(
    ("what", "body", "field_named"),
    [
        ("replay", {}, "since"),
        ("replay", {"since": "2026-11-22T12:00:00"}, "since"),
        ("replay", {"since": "yesterday"}, "since"),
        ("replay", {"since": 1_795_000_000}, "since"),
        ("replay", {"since": "2026-11-22T12:00:00Z", "until": "2026-11-22T11:59:59Z"}, "until"),
        ("replay", {"since": "2026-11-22T12:00:00Z", "delivered": "yes"}, "delivered"),
        ("disable", {}, "reason"),
        ("disable", {"reason": ""}, "reason"),
        ("disable", {"reason": " \n"}, "reason"),
        ("disable", {"reason": "a\0b"}, "reason"),
        ("disable", {"reason": "x" * 501}, "reason"),
    ],
)
def test_what_makes_no_sense_is_malformed_and_the_answer_names_the_field(
    client: FlaskClient, desk: ScriptedDesk, what: str, body: dict[str, Any], field_named: str
) -> None:
    status, code, detail = problem(call(client, f"POST /v1/webhooks/endpoints/backend/{what}", json=body))
    assert (status, code) == (400, "malformed-request")
    assert detail.startswith(f"{field_named}: ")
    assert desk.asked == []


@pytest.mark.parametrize(
    "query",
    ["endpoint=a/b", "state=lost", "limit=0", "limit=201", "after=x", f"after={EVENT.hex}.", f"after={EVENT}.backend"],
)
def test_a_list_that_there_cannot_be_is_malformed(client: FlaskClient, desk: ScriptedDesk, query: str) -> None:
    response = client.get(f"/v1/webhooks/deliveries?{query}", headers=headers("server:backend"))
    status, code, detail = problem(response)
    assert (status, code) == (400, "malformed-request")
    assert detail.startswith(query.partition("=")[0])
    assert desk.asked == []


def test_a_body_that_says_more_than_any_call_takes_is_too_large(client: FlaskClient, desk: ScriptedDesk) -> None:
    large = b'{"reason": "' + b"x" * BODY_BYTES_MAX + b'"}'
    response = call(client, "POST /v1/webhooks/endpoints/backend/disable", data=large)
    assert problem(response)[:2] == (413, "body-too-large")
    assert desk.asked == []


# ---- what is not there ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", [".", "a%00", "a%0A", "%20a", "a" * 65])
@pytest.mark.parametrize("what", ["replay", "test", "enable", "disable"])
def test_what_cannot_be_the_id_of_an_endpoint_is_not_there(
    client: FlaskClient, desk: ScriptedDesk, endpoint: str, what: str
) -> None:
    path = f"/v1/webhooks/endpoints/{endpoint.replace('.', '%2E')}/{what}"
    assert problem(call(client, f"POST {path}"))[:2] == (404, "not-found")
    assert desk.asked == []


@pytest.mark.parametrize("event", ["1", EVENT.hex, str(EVENT).upper(), f"{{{EVENT}}}", f"urn:uuid:{EVENT}"])
def test_what_cannot_be_the_id_of_an_event_is_not_there(client: FlaskClient, desk: ScriptedDesk, event: str) -> None:
    for name in (f"GET /v1/webhooks/deliveries/{event}", f"POST /v1/webhooks/deliveries/{event}/resend"):
        assert problem(call(client, name))[:2] == (404, "not-found")
    assert desk.asked == []


@pytest.mark.parametrize("name", sorted(name for name in ORDERS if "/endpoints/" in name))
def test_an_endpoint_of_the_path_that_is_unknown_is_not_found(
    client: FlaskClient, desk: ScriptedDesk, name: str
) -> None:
    desk.fails = EndpointUnknown("app 'game' has no webhook 'backend'; there are: none")
    assert problem(call(client, name)) == (404, "not-found", str(desk.fails))


def test_an_event_that_is_unknown_is_not_found(client: FlaskClient, desk: ScriptedDesk) -> None:
    desk.fails = DeliveryUnknown("there is nothing to be told")
    for name in (f"GET /v1/webhooks/deliveries/{EVENT}", f"POST /v1/webhooks/deliveries/{EVENT}/resend"):
        assert problem(call(client, name)) == (404, "not-found", "there is nothing to be told")


def test_an_endpoint_that_is_named_beside_the_path_and_unknown_is_malformed(
    client: FlaskClient, desk: ScriptedDesk
) -> None:
    desk.fails = EndpointUnknown("app 'game' has no webhook 'x'")
    for name in ("GET /v1/webhooks/deliveries?endpoint=x", f"POST /v1/webhooks/deliveries/{EVENT}/resend"):
        refused = problem(call(client, name))
        assert refused == (400, "malformed-request", "endpoint: app 'game' has no webhook 'x'")


# ---- operators' machines ----------------------------------------------------------------------------------------


def test_readiness_is_the_databases_and_health_is_not(client: FlaskClient, desk: ScriptedDesk) -> None:
    assert (client.get("/healthz").status_code, client.get("/readyz").status_code) == (200, 200)
    desk.fails = DatabaseUnavailable("away")
    assert client.get("/healthz").status_code == 200
    response = client.get("/readyz")
    assert response.status_code == 503
    assert "Retry-After" in response.headers
