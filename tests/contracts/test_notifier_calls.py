"""What the notifier does and says of webhooks is what the gateway's contract says, and shows: both of them for real,
one behind the other, with a sender and two backends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.api import documents
from gateway.api.documents.parts import Example
from gateway.api.routes import ROUTES, Route
from shared.apps import load_apps
from shared.clock import rfc3339
from shared.events import WebhookEndpointDisabled, WebhookEndpointEnabled
from shared.ids import EventId, webhook_endpoint_subject
from tests.support.contract import limits, told
from tests.support.gateway import APP, Gateway
from tests.support.notifier import REJECTED, Notifier, credited, notifying
from tests.support.receiver import Receiver, Reply

ENDPOINTS, DELIVERIES, DELIVERY = (f"/v1/webhooks/{path}" for path in ("endpoints", "deliveries", "deliveries/{event}"))
RESEND = "/v1/webhooks/deliveries/{event}/resend"
REPLAY, TEST, ENABLE, DISABLE = (
    f"/v1/webhooks/endpoints/{{endpoint}}/{what}" for what in ("replay", "test", "enable", "disable")
)
OF_THEIR_TIME: Final = {"host", "event_id", "message_id", "message", "duration_ms"}
"""Members that are otherwise each time, beside the moments."""
ORDERS: Final = [route for route in ROUTES if route.order is not None and route.path.startswith("/v1/webhooks/")]
UNKNOWN: Final = "019aab00-5dc0-7000-8000-000000000001"


class Operator:
    """The app's backend, with a key that may do everything, and the notifier that it asks about."""

    def __init__(self, gateway: Gateway, notifier: Notifier) -> None:
        self.gateway = gateway
        self.notifier = notifier

    def asks(self, path: str, *, status: int = 200, query: Mapping[str, Any] | None = None, **parts: str) -> Any:
        """What a question is answered."""
        return self._told("GET", path, status, parts, {"query": dict(query)} if query else {})

    def says(self, path: str, body: Mapping[str, Any], *, status: int = 200, **parts: Any) -> Any:
        """What came of an order."""
        return self._told("POST", path, status, parts, {"body": dict(body)})

    def _told(self, method: str, path: str, status: int, parts: dict[str, str], more: dict[str, Any]) -> Any:
        named = {"path_parameters": parts} if parts else {}
        headers = self.gateway.as_server()
        return told(self.gateway, method, path, status=status, headers=headers, **named, **more)

    def endpoint(self, id: str) -> Any:
        """One endpoint, as it is listed."""
        (found,) = (each for each in self.asks(ENDPOINTS)["endpoints"] if each["id"] == id)
        return found


@pytest.fixture
def operator(gateway: Gateway, module_database: str, told_apps: Path) -> Iterator[Operator]:
    with notifying(module_database, load_apps(told_apps)) as notifier:
        yield Operator(gateway, notifier)


def timeless(value: Any) -> Any:
    """The document with what is otherwise each time left out, if it is there at all."""
    if isinstance(value, Mapping):
        return {
            name: (member is None, "some") if name in OF_THEIR_TIME or _is_moment(name) else timeless(member)
            for name, member in value.items()
        }
    return [timeless(member) for member in value] if isinstance(value, list | tuple) else value


def _is_moment(name: str) -> bool:
    return name == "at" or name.endswith(("_at", "_since"))


def shows(example: Example, answer: Any) -> None:
    """Fails unless the answer is what the example shows, but for when it was, and whose."""
    assert timeless(answer) == timeless(example.value)


# ---- what is shown ----------------------------------------------------------------------------------------------


def test_what_became_of_an_event_and_of_its_endpoints_is_as_the_contract_shows_it(
    operator: Operator, receivers: dict[str, Receiver]
) -> None:
    """An endpoint that is in trouble, and then answers 410; beside it one that takes everything."""
    notifier = operator.notifier
    refusal = Reply(503, headers={"Retry-After": "5"}, body=b"down for maintenance")
    receivers["analytics"].reply_next(refusal, Reply(410))
    with notifier.sending():
        (event_id,) = notifier.tell(credited())
        notifier.settled("delivered", 1)
        notifier.attempted(event_id, 1, endpoint_id="analytics")
        page = operator.asks(DELIVERIES)
        shows(documents.DELIVERIES_EXAMPLES["deliveries"], page)
        assert {each["event_id"] for each in page["deliveries"]} == {str(event_id)}
        record = operator.asks(DELIVERY, event=str(event_id))
        shows(documents.RECORD_EXAMPLES["record"], record)
        (received,) = receivers["backend"].received
        assert (record["event_id"], record["message"]) == (received.id, received.body)
        assert operator.endpoint("analytics")["state"] == "failing"
    operator.says(RESEND, {"endpoint": "analytics"}, event=str(event_id))  # it is due now
    with notifier.sending():
        notifier.wait(lambda: operator.endpoint("analytics")["state"] == "disabled", what="analytics disabled")
    endpoints = operator.asks(ENDPOINTS)
    shows(documents.ENDPOINTS_EXAMPLES["endpoints"], endpoints)
    assert {each["id"]: each["host"] for each in endpoints["endpoints"]} == {
        id: f"127.0.0.1:{receiver.port}" for id, receiver in receivers.items()
    }


@pytest.mark.parametrize(("reply", "example"), [(Reply(200), "taken"), (Reply(500, body=b"no such table"), "refused")])
def test_a_test_is_signed_and_answered_as_the_contract_shows_it(
    operator: Operator, receivers: dict[str, Receiver], reply: Reply, example: str
) -> None:
    before = len(receivers["backend"].received)
    receivers["backend"].reply_next(reply)
    tested = operator.says(TEST, {}, endpoint="backend")
    shows(documents.TESTED_EXAMPLES[example], tested)
    (received,) = receivers["backend"].received[before:]
    assert (received.genuine, received.id) == (True, tested["message_id"])
    assert (received.body["type"], received.body["data"]) == ("webhook.test", {"endpoint_id": "backend"})
    operator.asks(DELIVERY, event=tested["message_id"], status=404)


# ---- what is done -----------------------------------------------------------------------------------------------


def told_of(operator: Operator, versions: range) -> list[EventId]:
    """Events that the backend has taken."""
    with operator.notifier.sending():
        event_ids = operator.notifier.tell(*(credited(version) for version in versions))
        for event_id in event_ids:
            operator.notifier.attempted(event_id, 1)
    return event_ids


def test_an_event_is_sent_once_more_with_its_own_id(operator: Operator, receivers: dict[str, Receiver]) -> None:
    (event_id,) = told_of(operator, range(1, 2))
    assert operator.says(RESEND, {"endpoint": "backend"}, event=str(event_id)) == {"queued": 1}
    with operator.notifier.sending():
        operator.notifier.attempted(event_id, 2)
    ids = [received.id for received in receivers["backend"].received]
    assert ids.count(str(event_id)) == 2


def test_what_happened_in_a_time_is_sent_once_more_to_an_endpoint_that_has_not_taken_it(
    operator: Operator, receivers: dict[str, Receiver]
) -> None:
    since = operator.notifier.clock.now()
    event_ids = told_of(operator, range(1, 4))
    span = {"since": rfc3339(since)}
    assert operator.says(REPLAY, span, endpoint="backend") == {"queued": 0, "next_since": None}
    replayed = operator.says(REPLAY, {**span, "delivered": True}, endpoint="backend")
    assert replayed == {"queued": 3, "next_since": None}
    with operator.notifier.sending():
        for event_id in event_ids:
            operator.notifier.attempted(event_id, 2)
    operator.says(REPLAY, {"since": rfc3339(since), "until": "2000-01-01T00:00:00Z"}, endpoint="backend", status=400)


def test_an_endpoint_is_disabled_and_enabled_by_a_key_whose_name_is_kept(
    operator: Operator, receivers: dict[str, Receiver]
) -> None:
    disabled = operator.says(DISABLE, {"reason": "it moves"}, endpoint="backend")
    assert (disabled["state"], disabled["reason"]) == ("disabled", "it moves")
    assert disabled == operator.endpoint("backend")
    enabled = operator.says(ENABLE, {}, endpoint="backend")
    assert (enabled["state"], enabled["disabled_at"], enabled["reason"]) == ("on", None, None)
    subject = webhook_endpoint_subject(app=APP, endpoint_id="backend")
    switched = [
        event.payload
        for kind in (WebhookEndpointDisabled, WebhookEndpointEnabled)
        for event in operator.notifier.events(kind)
        if event.subject == subject
    ]
    assert switched == [
        WebhookEndpointDisabled("backend", "it moves", "server:backend"),
        WebhookEndpointEnabled("backend", "server:backend"),
    ]


def test_deliveries_are_read_in_pages_the_newest_event_first(operator: Operator) -> None:
    told_of(operator, range(1, 6))
    operator.notifier.tell(REJECTED)
    seen: list[Any] = []
    after: dict[str, str] = {}
    while True:
        page = operator.asks(DELIVERIES, query={"limit": 2, "endpoint": "backend"} | after)
        seen += page["deliveries"]
        if page["next"] is None:
            break
        assert len(page["deliveries"]) == 2
        after = {"after": page["next"]}
    ids = [each["event_id"] for each in seen]
    assert ids == sorted(set(ids), reverse=True)
    assert (seen[0]["type"], seen[0]["state"]) == ("purchase.rejected", "waiting")
    waiting = operator.asks(DELIVERIES, query={"state": "waiting", "endpoint": "backend"})
    assert waiting["deliveries"] == seen[:1]


# ---- what is not there ------------------------------------------------------------------------------------------


def test_what_the_app_does_not_have_is_not_there(operator: Operator) -> None:
    for path, body in (
        (REPLAY, {"since": "2026-11-22T12:00:00Z"}),
        (TEST, {}),
        (ENABLE, {}),
        (DISABLE, {"reason": "a test"}),
    ):
        refused = operator.says(path, body, endpoint="nobody", status=404)
        assert "there are: analytics, backend" in refused["detail"]
    operator.asks(DELIVERY, event=UNKNOWN, status=404)
    operator.says(RESEND, {}, event=UNKNOWN, status=404)


def test_what_is_named_beside_the_path_and_is_not_there_is_malformed(operator: Operator) -> None:
    assert operator.asks(DELIVERIES, query={"endpoint": "nobody"}, status=400)["detail"].startswith("endpoint: ")
    assert operator.asks(DELIVERIES, query={"after": "nonsense"}, status=400)["detail"].startswith("after: ")
    refused = operator.says(RESEND, {"endpoint": "nobody"}, event=UNKNOWN, status=400)
    assert refused["detail"].startswith("endpoint: ")


# ---- the bodies: the contract says what the notifier holds them to -----------------------------------------------


@pytest.mark.parametrize("route", ORDERS, ids=lambda route: route.path)
def test_a_body_is_held_to_what_the_contract_says_of_it(operator: Operator, route: Route) -> None:
    path = route.path.format(endpoint="nobody", event=UNKNOWN)
    found = list(limits(route))
    assert found or not (route.body and route.body.model_fields)
    for name, within, beyond in found:
        good, bad = (
            operator.gateway.client().post(path, json=body, headers=operator.gateway.as_server())
            for body in (within, beyond)
        )
        assert good.status_code == 404, (name, within, good.text)
        assert bad.status_code == 400, (name, beyond)
        assert (bad.json or {})["detail"].startswith(name), (name, bad.text)


@pytest.mark.parametrize("route", ORDERS, ids=lambda route: route.path)
def test_each_example_does_what_it_says(operator: Operator, route: Route) -> None:
    (event_id,) = told_of(operator, range(1, 2))
    parts = {"endpoint": "backend", "event": str(event_id)}
    named: dict[str, Any] = {name: value for name, value in parts.items() if f"{{{name}}}" in route.path}
    for example in route.examples.values():
        operator.says(route.path, example.value, **named)
    operator.says(ENABLE, {}, endpoint="backend")
