"""Who may make which call of the internal API, and how wallets are read by it."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from ledger.domain.books import WalletKey
from ledger.domain.statements import EntryPage
from shared.http import caller_header
from shared.ids import GrantId, PurchaseId, SpendId
from tests.support.ledger import ALICE, GAME
from tests.support.ledger_api import TOKEN, Ports, client_of, entry, headers

SPEND = "spd_" + "1" * 32
HOLD = "hld_" + "1" * 32
REQUEST = "rfr_" + "1" * 32
PURCHASE = "pur_" + "a" * 26
CALLS = {
    "GET /v1/users/alice/wallet": {"client", "read"},
    "GET /v1/users/alice/wallet/entries": {"client", "read"},
    "GET /v1/users/alice/subscriptions": {"client", "read"},
    "GET /v1/users/alice/entitlements": {"client", "read"},
    "POST /v1/users/alice/spends": {"spending client", "spend"},
    f"POST /v1/spends/{SPEND}/reverse": {"spend"},
    "POST /v1/users/alice/holds": {"spend"},
    f"POST /v1/holds/{HOLD}/capture": {"spend"},
    f"POST /v1/holds/{HOLD}/release": {"spend"},
    "POST /v1/users/alice/grants": {"grant"},
    f"POST /v1/purchases/{PURCHASE}/refund-requests": {"client", "admin"},
    f"GET /v1/refund-requests/{REQUEST}": {"client", "read"},
}
"""Every call that needs a right, with those who have it: a key by its scope, a client, one where clients spend."""
CALLERS = {
    "client": {"game client:alice"},
    "spending client": {"arcade client:alice"},
    "read": {"game server:reader", "game server:backend"},
    "spend": {"game server:spender", "game server:backend"},
    "grant": {"game server:granter", "game server:backend"},
    "admin": {"game server:admin", "game server:backend"},
}
OPEN = {"/healthz", "/readyz", "/metrics"}


@pytest.fixture
def ports() -> Ports:
    return Ports()


@pytest.fixture
def client(ports: Ports) -> FlaskClient:
    return client_of(ports)


def call(client: FlaskClient, name: str, sent: dict[str, str]) -> int:
    """The status of a call that says nothing in its body."""
    method, path = name.split(" ", 1)
    return client.open(path, method=method, headers=sent, json={} if method == "POST" else None).status_code


# ---- who may ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", sorted(set().union(*CALLERS.values())))
@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_for_whom_it_says_and_nobody_else(client: FlaskClient, ports: Ports, name: str, caller: str) -> None:
    app, _, who = caller.partition(" ")
    rights = {right for right, callers in CALLERS.items() if caller in callers}
    if who == "client:alice":
        rights.add("client")
    allowed = bool(CALLS[name] & rights)
    assert (call(client, name, headers(who, app=app)) != 403) == allowed
    assert allowed or ports.asked == []


def test_every_call_but_those_of_operators_needs_the_service_token_and_has_its_right_tested(
    client: FlaskClient,
) -> None:
    rules = {
        f"{method} {rule.rule}"
        for rule in client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    guarded = {name for name in CALLS if call(client, name, {}) == 401}
    assert guarded == set(CALLS)
    named = {
        "<user:user_id>": "alice",
        "<spend_id>": SPEND,
        "<hold_id>": HOLD,
        "<purchase_id>": PURCHASE,
        "<refund_request_id>": REQUEST,
    }
    for part, value in named.items():
        rules = {rule.replace(part, value) for rule in rules}
    assert rules - guarded == {f"GET {path}" for path in OPEN}
    assert all(client.get(path).status_code == 200 for path in OPEN)


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
        (headers("client:a%00b"), 404, "not-found"),
        (headers("server:nobody"), 403, "forbidden"),
    ],
)
@pytest.mark.parametrize("what", ["wallet", "wallet/entries", "subscriptions", "entitlements"])
def test_whoever_may_not_read_what_a_user_has_is_told_so_before_anything_is_read(
    client: FlaskClient, ports: Ports, what: str, sent: dict[str, str], status: int, code: str
) -> None:
    response = client.get(f"/v1/users/alice/{what}", headers=sent)
    assert (response.status_code, response.json and response.json["code"]) == (status, code)
    assert response.content_type == "application/problem+json"
    assert ports.asked == []


def test_a_server_key_of_the_app_reads_any_of_its_users_wallets(client: FlaskClient, ports: Ports) -> None:
    assert client.get("/v1/users/alice/wallet", headers=headers("server:backend")).status_code == 200
    assert ports.asked == [WalletKey(GAME, "production", ALICE)]


@pytest.mark.parametrize("user", ["a/b", "a//b", "/a", "a/", "/", "ü", "a b", "a/wallet", "wallet/entries", "%41"])
def test_a_user_id_may_be_anything_that_a_login_says(client: FlaskClient, ports: Ports, user: str) -> None:
    caller = caller_header(kind="client", name=user)
    path = f"/v1/users/{caller.removeprefix('client:')}/wallet"
    assert client.get(path, headers=headers(caller)).status_code == 200
    assert [key.user_id for key in ports.asked] == [user]


@pytest.mark.parametrize("user", ["a%00b", "me", ".", ".."])
@pytest.mark.parametrize("caller", ["client:{}", "server:backend"])
def test_a_user_id_that_no_user_can_have_is_not_found(
    client: FlaskClient, ports: Ports, user: str, caller: str
) -> None:
    # What is before a path's dots would be dropped by the test client, which normalizes URLs: so they are escaped.
    path = f"/v1/users/{user.replace('.', '%2E')}/wallet"
    assert client.get(path, headers=headers(caller.format(user))).status_code == 404
    assert ports.asked == []


# ---- wallets ----------------------------------------------------------------------------------------------------


def test_a_wallet_shows_balance_available_held_and_debt_of_each_currency(client: FlaskClient) -> None:
    response = client.get("/v1/users/alice/wallet", headers=headers())
    assert response.status_code == 200
    assert response.json == {
        "user_id": "alice",
        "environment": "production",
        "version": 3,
        "balances": {"gems": {"balance": -70, "available": 0, "held": 0, "debt": 70}},
    }


def test_an_entry_names_nothing_that_did_not_cause_it(client: FlaskClient) -> None:
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("purchase_id", PurchaseId("pur_1")),
        ("spend_id", SpendId("spd_1")),
        ("grant_id", GrantId("grt_1")),
        ("reference", "order-1"),
    ],
)
def test_an_entry_names_what_caused_it(client: FlaskClient, ports: Ports, name: str, value: str) -> None:
    ports.page = EntryPage([entry(**{name: value})], next_before=None)
    response = client.get("/v1/users/alice/wallet/entries", headers=headers())
    assert response.json is not None
    assert response.json["next"] is None
    assert {
        name: shown for name, shown in response.json["entries"][0].items() if "_id" in name or name == "reference"
    } == {name: value}


def test_environment_limit_and_after_reach_the_query(client: FlaskClient, ports: Ports) -> None:
    client.get("/v1/users/alice/wallet/entries?environment=sandbox&limit=7&after=12", headers=headers())
    assert ports.asked == [(WalletKey(GAME, "sandbox", ALICE), 12, 7)]


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


# ---- operators --------------------------------------------------------------------------------------------------


def test_readiness_is_the_databases_and_health_is_not(client: FlaskClient, ports: Ports) -> None:
    ports.away = True
    assert client.get("/healthz").status_code == 200
    response = client.get("/readyz")
    assert response.status_code == 503
    assert "Retry-After" in response.headers


def test_metrics_are_prometheus_text(client: FlaskClient) -> None:
    response = client.get("/metrics")
    assert response.data == b"purser_ledger_audit_problems 0\n"
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
