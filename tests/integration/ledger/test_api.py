"""The internal API as it is served, on books in a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine

from ledger.app import create_api
from ledger.handlers import apply_facts
from ledger.store import PostgresBooks
from shared.apps import load_apps
from shared.catalog import load_catalog
from shared.database import transact
from shared.events import Environment, Event
from shared.ids import UserId, system_ids
from tests.support.ledger import ALICE, NOW, refunded, transaction, verified

EXAMPLES = Path(__file__).parents[3] / "deploy" / "examples"
GEMS_100 = "com.example.game.gems100"
TOKEN = "a-service-token-of-the-test"


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
        books=PostgresBooks(connection, shard=0),
        catalog=load_catalog(EXAMPLES / "catalog.toml"),
        apps=load_apps(EXAMPLES / "apps.toml"),
        new_id=system_ids().event_id,
        now=NOW,
    )


def bought(number: int, *, user: UserId, environment: Environment = "production") -> Event[Any]:
    of = transaction(f"{user}-{number}", product=GEMS_100, environment=environment, product_type="consumable")
    return verified(of, user=user)


def read(client: FlaskClient, path: str, *, user: str = "alice") -> Any:
    response = client.get(
        f"/v1/users/{user}/{path}",
        headers={
            "Authorization": f"Bearer {TOKEN}",
            "X-Purser-App": "game",
            "X-Purser-Caller": f"client:{user}",
        },
    )
    assert response.status_code == 200, response.text
    return response.json


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


def test_the_api_is_ready_when_its_database_answers(client: FlaskClient) -> None:
    assert client.get("/readyz").status_code == 200


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
