"""The internal API as it is served, on books in a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine
from werkzeug.test import TestResponse

from ledger.app import create_api
from ledger.handlers.facts import apply_facts
from shared.apps import load_apps
from shared.catalog import load_catalog
from shared.clock import SystemClock
from shared.database import transact
from shared.events import Environment, Event
from shared.http import caller_header
from shared.ids import PurchaseId, UserId, system_ids
from tests.support.ledger import ALICE, NOW, refunded, transaction, verified
from tests.support.ledger_tables import tables_on

EXAMPLES = Path(__file__).parents[3] / "deploy" / "examples"
GEMS_100 = "com.example.game.gems100"
TOKEN = "a-service-token-of-the-test"
BACKEND = "server:backend"


@pytest.fixture
def client(module_database: str, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    for name, value in {
        "DATABASE_URL": module_database,
        "SERVICE_TOKEN": TOKEN,
        "APPS_FILE": str(EXAMPLES / "apps.toml"),
        "CATALOG_FILE": str(EXAMPLES / "catalog.toml"),
    }.items():
        monkeypatch.setenv(f"PURSER_{name}", value)
    return create_api().test_client()


def post(engine: Engine, *events: Event[Any]) -> None:
    transact(engine, partial(_apply, events=events))


def _apply(connection: Connection, events: Sequence[Event[Any]]) -> None:
    apply_facts(
        events,
        tables=tables_on(connection),
        catalog=load_catalog(EXAMPLES / "catalog.toml"),
        apps=load_apps(EXAMPLES / "apps.toml"),
        new_id=system_ids().event_id,
        now=NOW,
    )


def bought(number: int, *, user: UserId, environment: Environment = "production") -> Event[Any]:
    of = transaction(f"{user}-{number}", product=GEMS_100, environment=environment, product_type="consumable")
    return verified(of, user=user)


def headers(caller: str, key: str | None = None) -> dict[str, str]:
    sent = {"Authorization": f"Bearer {TOKEN}", "X-Purser-App": "game", "X-Purser-Caller": caller}
    return sent if key is None else {**sent, "Idempotency-Key": key}


def read(client: FlaskClient, path: str, *, user: str = "alice") -> Any:
    caller = caller_header(kind="client", name=user)
    response = client.get(f"/v1/users/{user}/{path}", headers=headers(caller))
    assert response.status_code == 200, response.text
    return response.json


def send(
    client: FlaskClient, path: str, body: dict[str, Any], *, key: str | None, caller: str = BACKEND
) -> TestResponse:
    return client.post(f"/v1/{path}", json=body, headers=headers(caller, key))


def done(client: FlaskClient, path: str, body: dict[str, Any], *, key: str | None = None) -> Any:
    """The document of what was done, with a key of its own."""
    response = send(client, path, body, key=key or str(system_ids().uuid()))
    assert response.status_code in {200, 201}, response.text
    return response.json


def give(client: FlaskClient, user: str, gems: int) -> None:
    done(client, f"users/{user}/grants", {"currency": "gems", "amount": gems, "reason": "for the test"})


def funds(balance: int, *, held: int = 0) -> dict[str, int]:
    return {"balance": balance, "available": balance - held, "held": held, "debt": 0}


# ---- wallets ----------------------------------------------------------------------------------------------------


def test_a_user_without_a_wallet_has_nothing_of_every_currency_and_no_entries(client: FlaskClient) -> None:
    nothing = {"balance": 0, "available": 0, "held": 0, "debt": 0}
    assert read(client, "wallet", user="nobody") == {
        "user_id": "nobody",
        "environment": "production",
        "version": 0,
        "balances": {"coins": nothing, "gems": nothing},
    }
    assert read(client, "wallet/entries", user="nobody") == {"entries": [], "next": None}


def test_a_purchase_and_its_refund_are_two_entries_newest_first(client: FlaskClient, engine: Engine) -> None:
    purchase = bought(1, user=ALICE)
    post(engine, purchase, refunded(purchase.payload.transaction, milli=25_000))
    wallet = read(client, "wallet")
    assert (wallet["version"], wallet["balances"]["gems"]["available"]) == (2, 75)
    refund, credit = read(client, "wallet/entries")["entries"]
    assert (refund["kind"], refund["amount"], refund["balance_after"], refund["version"]) == ("refund", -25, 75, 2)
    assert (credit["kind"], credit["amount"], credit["balance_after"], credit["version"]) == ("purchase", 100, 100, 1)
    assert {refund["purchase_id"], credit["purchase_id"]} == {purchase.payload.purchase_id}
    assert credit["created_at"] == "2026-11-22T12:00:00.000Z"


def test_the_entries_of_a_wallet_are_read_in_pages(client: FlaskClient, engine: Engine) -> None:
    post(engine, *(bought(number, user=UserId("pages")) for number in range(5)))
    seen: list[int] = []
    after = ""
    while True:
        page = read(client, f"wallet/entries?limit=2{after}", user="pages")
        seen += [entry["version"] for entry in page["entries"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == [5, 4, 3, 2, 1]


def test_a_sandbox_purchase_is_in_the_sandbox_wallet_alone(client: FlaskClient, engine: Engine) -> None:
    post(engine, bought(1, user=UserId("tester"), environment="sandbox"))
    assert read(client, "wallet", user="tester")["balances"]["gems"]["balance"] == 0
    assert read(client, "wallet?environment=sandbox", user="tester")["balances"]["gems"]["balance"] == 100
    assert read(client, "wallet/entries", user="tester")["entries"] == []


# ---- spends, holds, grants --------------------------------------------------------------------------------------


def test_a_spend_takes_from_the_wallet_and_its_entry_says_what_it_was(client: FlaskClient) -> None:
    give(client, "spender", 100)
    body = {"currency": "gems", "amount": 40, "reference": "order-1", "item": "sword"}
    spend = done(client, "users/spender/spends", body)
    assert (spend["amount"], spend["reversed"], spend["reference"], spend["item"]) == (40, 0, "order-1", "sword")
    assert spend["wallet"] == {"version": 2, "funds": funds(60)}
    entry, given = read(client, "wallet/entries", user="spender")["entries"]
    assert (entry["kind"], entry["amount"], entry["spend_id"], entry["reference"]) == (
        "spend",
        -40,
        spend["id"],
        "order-1",
    )
    assert (given["kind"], given["amount"]) == ("grant", 100)
    assert given["grant_id"].startswith("grt_")


def test_a_spend_is_given_back_in_parts_and_no_further(client: FlaskClient) -> None:
    give(client, "returner", 100)
    spend = done(client, "users/returner/spends", {"currency": "gems", "amount": 40})
    assert done(client, f"spends/{spend['id']}/reverse", {"amount": 15})["reversed"] == 15
    rest = done(client, f"spends/{spend['id']}/reverse", {})
    assert (rest["reversed"], rest["wallet"]["funds"]) == (40, funds(100))
    refused = send(client, f"spends/{spend['id']}/reverse", {}, key="once more")
    assert refused.json is not None
    assert (refused.status_code, refused.json["code"], refused.json["reversible"]) == (422, "spend-not-reversible", 0)


def test_a_hold_sets_aside_what_its_capture_spends_and_frees_the_rest(client: FlaskClient) -> None:
    give(client, "holder", 100)
    hold = done(client, "users/holder/holds", {"currency": "gems", "amount": 60, "expires_in_s": 60})
    assert (hold["state"], hold["wallet"]["funds"]) == ("open", funds(100, held=60))
    assert read(client, "wallet", user="holder")["balances"]["gems"] == funds(100, held=60)
    captured = send(client, f"holds/{hold['id']}/capture", {"amount": 25}, key=None)
    assert captured.json is not None
    assert (captured.status_code, captured.json["state"], captured.json["captured"]) == (200, "captured", 25)
    assert captured.json["spend_id"].startswith("spd_")
    assert captured.json["wallet"]["funds"] == funds(75)
    released = send(client, f"holds/{hold['id']}/release", {}, key=None)
    assert released.json is not None
    assert (released.status_code, released.json["code"], released.json["state"]) == (409, "hold-not-open", "captured")


def test_a_released_hold_takes_nothing(client: FlaskClient) -> None:
    give(client, "releaser", 100)
    hold = done(client, "users/releaser/holds", {"currency": "gems", "amount": 60})
    released = done(client, f"holds/{hold['id']}/release", {})
    assert (released["state"], released["captured"], released["spend_id"]) == ("released", 0, None)
    assert released["wallet"] == {"version": 1, "funds": funds(100)}


def test_goodwill_says_why_and_whose_key_gave_it(client: FlaskClient) -> None:
    body = {"currency": "coins", "amount": 5, "reason": "an outage", "environment": "sandbox"}
    grant = done(client, "users/unlucky/grants", body)
    assert (grant["reason"], grant["granted_by"], grant["environment"]) == ("an outage", BACKEND, "sandbox")
    assert read(client, "wallet?environment=sandbox", user="unlucky")["balances"]["coins"] == funds(5)
    assert read(client, "wallet", user="unlucky")["balances"]["coins"] == funds(0)


def test_what_is_not_there_cannot_be_given_back_captured_or_released(client: FlaskClient) -> None:
    nothing = "0" * 32
    for path in (f"spends/spd_{nothing}/reverse", f"holds/hld_{nothing}/capture", f"holds/hld_{nothing}/release"):
        response = send(client, path, {}, key="k")
        assert response.json is not None
        assert (response.status_code, response.json["code"]) == (404, "not-found")


def test_a_client_of_an_app_that_does_not_let_them_spends_nothing(client: FlaskClient) -> None:
    give(client, "device", 100)
    body = {"currency": "gems", "amount": 1}
    assert send(client, "users/device/spends", body, key="k", caller="client:device").status_code == 403
    assert read(client, "wallet", user="device")["balances"]["gems"] == funds(100)


# ---- keys -------------------------------------------------------------------------------------------------------


def test_a_repeat_is_told_the_first_answer_word_for_word_and_nothing_is_done_again(client: FlaskClient) -> None:
    give(client, "repeater", 100)
    body = {"currency": "gems", "amount": 40}
    first = send(client, "users/repeater/spends", body, key="k")
    assert (first.status_code, first.headers.get("Idempotent-Replayed")) == (201, None)
    give(client, "repeater", 1)
    again = send(client, "users/repeater/spends", body, key="k")
    assert (again.status_code, again.data, again.content_type) == (201, first.data, first.content_type)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert read(client, "wallet", user="repeater")["balances"]["gems"] == funds(61)


def test_a_refusal_is_repeated_too_even_if_it_would_not_be_refused_any_more(client: FlaskClient) -> None:
    body = {"currency": "gems", "amount": 40}
    give(client, "poor", 39)
    first = send(client, "users/poor/spends", body, key="k")
    assert first.json is not None
    assert (first.status_code, first.json["code"], first.json["available"]) == (422, "insufficient-funds", 39)
    give(client, "poor", 1)
    again = send(client, "users/poor/spends", body, key="k")
    assert (again.status_code, again.data, again.content_type) == (422, first.data, "application/problem+json")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert send(client, "users/poor/spends", body, key="another").status_code == 201


def test_a_key_that_comes_with_another_body_is_refused_and_stays_the_first_ones(client: FlaskClient) -> None:
    give(client, "changer", 100)
    path = "users/changer/spends"
    first = send(client, path, {"currency": "gems", "amount": 40}, key="k")
    other = send(client, path, {"currency": "gems", "amount": 41}, key="k")
    assert other.json is not None
    assert (other.status_code, other.json["code"]) == (409, "idempotency-key-reused")
    assert send(client, path, {"currency": "gems", "amount": 40}, key="k").data == first.data
    assert read(client, "wallet", user="changer")["balances"]["gems"] == funds(60)


def test_a_key_that_comes_with_another_environment_is_refused(client: FlaskClient) -> None:
    body = {"currency": "gems", "amount": 5, "reason": "for the test"}
    assert send(client, "users/mover/grants", body, key="k").status_code == 201
    assert send(client, "users/mover/grants", {**body, "environment": "sandbox"}, key="k").status_code == 409


def test_a_body_that_was_refused_as_malformed_does_not_use_up_its_key(client: FlaskClient) -> None:
    give(client, "typist", 100)
    assert send(client, "users/typist/spends", {"currency": "gems", "amount": "1"}, key="k").status_code == 400
    assert send(client, "users/typist/spends", {"currency": "gems", "amount": 1}, key="k").status_code == 201


def test_what_comes_many_times_at_once_with_one_key_is_done_once(client: FlaskClient) -> None:
    give(client, "hasty", 100)
    body = {"currency": "gems", "amount": 10}

    def spend(_number: int) -> TestResponse:
        return send(client.application.test_client(), "users/hasty/spends", body, key="k")

    with ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(spend, range(18)))
    assert {response.status_code for response in responses} == {201}
    assert len({response.data for response in responses}) == 1
    assert sum("Idempotent-Replayed" not in response.headers for response in responses) == 1
    assert read(client, "wallet", user="hasty")["balances"]["gems"] == funds(90)


# ---- requests for refunds ---------------------------------------------------------------------------------------


def test_a_user_asks_for_a_refund_once_and_what_is_left_of_the_purchase_is_held(
    client: FlaskClient, engine: Engine
) -> None:
    purchase = _bought_just_now(engine, "regretful")
    path = f"purchases/{purchase}/refund-requests"
    first = send(client, path, {"reason": "by mistake"}, key=None, caller="client:regretful")
    assert first.json is not None
    assert first.status_code == 201, first.text
    assert (first.json["status"], first.json["held"]) == ("open", [{"currency": "gems", "amount": 100}])
    assert first.json["advice"]["action"] == "present_refund_sheet"
    assert read(client, "wallet", user="regretful")["balances"]["gems"] == funds(100, held=100)
    again = send(client, path, {}, key=None)
    assert (again.status_code, again.data) == (200, first.data)
    shown = client.get(f"/v1/refund-requests/{first.json['id']}", headers=headers("client:regretful"))
    assert (shown.status_code, shown.data) == (200, first.data)


def test_another_users_purchase_and_request_are_not_there(client: FlaskClient, engine: Engine) -> None:
    purchase = _bought_just_now(engine, "owner")
    path = f"purchases/{purchase}/refund-requests"
    assert send(client, path, {}, key=None, caller="client:thief").status_code == 404
    request = send(client, path, {}, key=None)
    assert request.json is not None
    shown = f"/v1/refund-requests/{request.json['id']}"
    assert client.get(shown, headers=headers("client:thief")).status_code == 404
    assert client.get(shown, headers=headers(BACKEND)).status_code == 200
    assert client.get(f"/v1/refund-requests/rfr_{'0' * 32}", headers=headers(BACKEND)).status_code == 404


def test_a_purchase_that_is_refunded_is_not_eligible(client: FlaskClient, engine: Engine) -> None:
    event = bought(1, user=UserId("refunded"))
    post(engine, event, refunded(event.payload.transaction))
    response = send(client, f"purchases/{event.payload.purchase_id}/refund-requests", {}, key=None)
    assert response.json is not None
    assert (response.status_code, response.json["code"]) == (422, "refund-not-eligible")
    assert response.json["reason"] == "already_refunded"


def _bought_just_now(engine: Engine, user: str) -> PurchaseId:
    """The id of a purchase that the catalogue's window is still open for."""
    event = bought(1, user=UserId(user))
    transaction = replace(event.payload.transaction, purchased_at=SystemClock().now())
    event = replace(event, payload=replace(event.payload, transaction=transaction))
    post(engine, event)
    purchase: PurchaseId = event.payload.purchase_id
    return purchase


# ---- the process ------------------------------------------------------------------------------------------------


def test_the_api_is_ready_when_its_database_answers(client: FlaskClient) -> None:
    assert client.get("/readyz").status_code == 200


def test_metrics_are_served_without_a_token(client: FlaskClient) -> None:
    response = client.get("/metrics")
    assert (response.status_code, response.mimetype) == (200, "text/plain")  # no audit yet, and nothing to be told


def test_a_body_of_more_than_16_kib_is_too_large(client: FlaskClient) -> None:
    body = {"currency": "gems", "amount": 1, "unknown": "x" * 16_384}
    assert send(client, "users/alice/spends", body, key="k").status_code == 413


def test_without_a_database_the_api_is_alive_and_not_ready(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURSER_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    client = create_api().test_client()
    assert client.get("/healthz").status_code == 200
    response = client.get("/readyz")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")


def test_production_refuses_the_examples_service_token(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PURSER_PRODUCTION", "1")
    monkeypatch.setenv("PURSER_SERVICE_TOKEN", "example-only-service-token-change-me")
    with pytest.raises(SystemExit):
        create_api()
    assert "PURSER_SERVICE_TOKEN holds an example's secret" in capsys.readouterr().err


@pytest.mark.parametrize("token", ["", "too short"])
def test_with_a_service_token_that_can_be_guessed_there_is_no_api(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], token: str
) -> None:
    monkeypatch.setenv("PURSER_SERVICE_TOKEN", token)
    with pytest.raises(SystemExit):
        create_api()
    assert "PURSER_SERVICE_TOKEN" in capsys.readouterr().err
