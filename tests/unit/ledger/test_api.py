"""Who may read what by the internal API, and how it looks."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from ledger.api import Queries, routes
from ledger.domain.books import WalletKey
from ledger.domain.statements import EntryPage, Funds, WalletEntry, WalletStatement
from shared.database import DatabaseUnavailable
from shared.http import caller_header, install_conventions
from shared.money import CurrencyId
from tests.support.ledger import ALICE, APPS, GAME, GEMS, NOW
from tests.support.seeded import seeded_ids

TOKEN = "service-token"
ENTRY = WalletEntry("ent_1", "purchase", CurrencyId("gems"), 100, 100, 1, None, NOW)


class Recorder:
    """Answers every query, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.away = False

    def wallet(self, key: WalletKey) -> WalletStatement:
        self.asked.append(key)
        return WalletStatement(key.user_id, key.environment, 3, {GEMS: Funds.of(balance=-70)})

    def entries(self, key: WalletKey, *, before: int | None, limit: int) -> EntryPage:
        self.asked.append((key, before, limit))
        return EntryPage([ENTRY], next_before=1)

    def ready(self) -> None:
        if self.away:
            raise DatabaseUnavailable("away")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def client(recorder: Recorder) -> FlaskClient:
    app = Flask(__name__, static_folder=None)
    install_conventions(app, ids=seeded_ids(1))
    queries = Queries(wallet=recorder.wallet, entries=recorder.entries, ready=recorder.ready)
    app.register_blueprint(routes(queries=queries, apps=APPS, service_token=TOKEN))
    return app.test_client()


def headers(caller: str = "client:alice", *, token: str = TOKEN, app: str = "game") -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "X-Purser-App": app, "X-Purser-Caller": caller}


def test_a_wallet_shows_balance_available_held_and_debt_of_each_currency(client: FlaskClient) -> None:
    response = client.get("/v1/users/alice/wallet", headers=headers())
    assert response.status_code == 200
    assert response.json == {
        "user_id": "alice",
        "environment": "production",
        "version": 3,
        "balances": {"gems": {"balance": -70, "available": 0, "held": 0, "debt": 70}},
    }


def test_an_entry_without_a_purchase_has_no_purchase_id(client: FlaskClient) -> None:
    response = client.get("/v1/users/alice/wallet/entries", headers=headers())
    assert response.json == {
        "entries": [
            {
                "id": "ent_1",
                "kind": "purchase",
                "currency": "gems",
                "amount": 100,
                "balance_after": 100,
                "version": 1,
                "created_at": "2026-11-22T12:00:00.000Z",
            }
        ],
        "next": "1",
    }


def test_environment_limit_and_after_reach_the_query(client: FlaskClient, recorder: Recorder) -> None:
    client.get("/v1/users/alice/wallet/entries?environment=sandbox&limit=7&after=12", headers=headers())
    assert recorder.asked == [(WalletKey(GAME, "sandbox", ALICE), 12, 7)]


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({}, 401, "unauthorized"),
        (headers(token="wrong"), 401, "unauthorized"),
        (headers(token="ÿ"), 401, "unauthorized"),
        ({**headers(), "Authorization": f"Basic {TOKEN}"}, 401, "unauthorized"),
        (headers(app="gone"), 400, "malformed-request"),
        ({"Authorization": f"Bearer {TOKEN}", "X-Purser-App": "game"}, 400, "malformed-request"),
        (headers("root:alice"), 400, "malformed-request"),
        (headers("client:bob"), 404, "not-found"),
        (headers("server:nobody"), 403, "forbidden"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/users/alice/wallet", "/v1/users/alice/wallet/entries"])
def test_whoever_may_not_read_a_wallet_is_told_so_before_anything_is_read(
    client: FlaskClient, recorder: Recorder, path: str, sent: dict[str, str], status: int, code: str
) -> None:
    response = client.get(path, headers=sent)
    assert (response.status_code, response.json and response.json["code"]) == (status, code)
    assert response.content_type == "application/problem+json"
    assert recorder.asked == []


def test_a_server_key_of_the_app_reads_any_of_its_users_wallets(client: FlaskClient, recorder: Recorder) -> None:
    assert client.get("/v1/users/alice/wallet", headers=headers("server:backend")).status_code == 200
    assert recorder.asked == [WalletKey(GAME, "production", ALICE)]


@pytest.mark.parametrize("user", ["a/b", "a//b", "/a", "a/", "/", "ü", "a b", "a/wallet", "wallet/entries", "%41"])
def test_a_user_id_may_be_anything_that_a_login_says(client: FlaskClient, recorder: Recorder, user: str) -> None:
    caller = caller_header(kind="client", name=user)
    path = f"/v1/users/{caller.removeprefix('client:')}/wallet"
    assert client.get(path, headers=headers(caller)).status_code == 200
    assert [key.user_id for key in recorder.asked] == [user]


def test_a_user_id_that_no_database_can_hold_is_not_found(client: FlaskClient) -> None:
    assert client.get("/v1/users/a%00b/wallet", headers=headers("client:a%00b")).status_code == 404


@pytest.mark.parametrize(
    "query", ["environment=xcode", "limit=0", "limit=201", "limit=x", "after=-1", "after=x", f"after={'9' * 19}"]
)
def test_a_query_that_makes_no_sense_is_malformed_and_the_answer_names_the_field(
    client: FlaskClient, query: str
) -> None:
    response = client.get(f"/v1/users/alice/wallet/entries?{query}", headers=headers())
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["detail"].startswith(query.partition("=")[0])


def test_health_needs_no_token_and_readiness_is_the_databases(client: FlaskClient, recorder: Recorder) -> None:
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
    recorder.away = True
    assert client.get("/healthz").status_code == 200
    response = client.get("/readyz")
    assert response.status_code == 503
    assert "Retry-After" in response.headers


def test_every_call_but_the_health_checks_needs_the_service_token(client: FlaskClient) -> None:
    rules = {rule.rule for rule in client.application.url_map.iter_rules()}
    guarded = {rule for rule in rules if client.get(rule.replace("<path:user_id>", "alice")).status_code == 401}
    assert rules - guarded == {"/healthz", "/readyz"}
