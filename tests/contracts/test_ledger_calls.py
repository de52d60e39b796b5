"""What the ledger does and says of wallets, spends, holds, grants, subscriptions, entitlements and requests for refunds
is what the gateway's contract says: both of them for real, one behind the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.api.routes import ROUTES, Route
from ledger.tables import tables_on
from ledger.tasks import postings
from shared.apps import load_apps
from shared.catalog import load_catalog
from shared.clock import SystemClock
from shared.database import transact
from shared.events import Event, Period, Renewal, SubscriptionChanged
from shared.ids import AppId, UserId, purchase_id, subscription_id, system_ids
from tests.support.contract import Limit, call, limits, told
from tests.support.gateway import APP, EXAMPLES, Gateway
from tests.support.ledger import event_of, transaction, verified

SPENDS, HOLDS, GRANTS = (f"/v1/users/{{user}}/{what}" for what in ("spends", "holds", "grants"))
REVERSE, CAPTURE, RELEASE = "/v1/spends/{spend}/reverse", "/v1/holds/{hold}/capture", "/v1/holds/{hold}/release"
ASK, ANSWERED = "/v1/purchases/{purchase}/refund-requests", "/v1/refund-requests/{refund_request}"
ORDERS = [route for route in ROUTES if route.order is not None and not route.path.startswith("/v1/webhooks/")]

numbers = itertools.count(1)


class Backend:
    """The app's backend, and one user of it."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.user = UserId(f"auth0|ä/漢 {next(numbers)}")
        self.whose = {"path_parameters": {"user": self.user}}

    def headers(self, key: str | None = None) -> dict[str, str]:
        return self.gateway.as_server() | {"Idempotency-Key": key or f"order {next(numbers)}"}

    def order(self, path: str, body: dict[str, Any], *, status: int, key: str | None = None, **parts: str) -> Any:
        named = parts or {"user": self.user}
        headers = self.headers(key)
        return told(self.gateway, "POST", path, status=status, headers=headers, body=body, path_parameters=named)

    def gives(self, amount: int) -> Any:
        return self.order(GRANTS, {"currency": "gems", "amount": amount, "reason": "a test"}, status=201)

    def buys(self, product: str) -> str:
        """The id of the purchase, which was completed just now."""
        number = str(next(numbers) + 900_000)
        bought = replace(
            transaction(number, product=product, product_type="consumable"),
            purchased_at=self.gateway.clock.now(),
            signed_at=self.gateway.clock.now(),
        )
        self.hears(verified(bought, user=self.user))
        return purchase_id(app=APP, store="apple", transaction_id=number, user_id=self.user)

    def subscribes(self, *, days_ago: int) -> str:
        """The id of the subscription, whose month began so many days ago."""
        number = str(next(numbers) + 900_000)
        began = self.gateway.clock.now() - timedelta(days=days_ago)
        bought = replace(
            transaction(number, product="com.example.game.vip.monthly", product_type="auto_renewable"),
            purchased_at=began,
            signed_at=began,
            period=Period(expires_at=began + timedelta(days=30), group="vip", price_milli=9_990, currency="USD"),
        )
        id = subscription_id(app=APP, store="apple", environment="production", original_transaction_id=number)
        renewal = Renewal(signed_at=began, auto_renew=True, product_id=bought.product_id)
        self.hears(event_of(AppId(APP), id, self.user, SubscriptionChanged(id, bought, renewal=renewal)))
        return id

    def hears(self, event: Event[Any]) -> None:
        """What the store says reaches the ledger."""
        handling = postings(
            tables_on=tables_on(system_ids()),
            catalog=load_catalog(EXAMPLES / "catalog.toml"),
            apps=load_apps(EXAMPLES / "apps.toml"),
            ids=system_ids(),
            clock=SystemClock(),
        )[event.type]
        known = replace(event, id=system_ids().event_id())
        transact(self.gateway.bus.engine, lambda connection: handling.apply(connection, [known]))

    def gems(self) -> Any:
        """Its gems, as its own device is told of them."""
        headers, me = self.gateway.as_user(self.user), {"user": "me"}
        wallet = told(self.gateway, "GET", "/v1/users/{user}/wallet", status=200, headers=headers, path_parameters=me)
        assert wallet["user_id"] == self.user
        return wallet["balances"]["gems"]


@pytest.fixture
def backend(gateway: Gateway) -> Backend:
    return Backend(gateway)


def funds(balance: int, *, held: int = 0) -> dict[str, int]:
    return {"balance": balance, "available": balance - held, "held": held, "debt": 0}


# ---- what is done -----------------------------------------------------------------------------------------------


def test_what_was_bought_is_in_the_wallet_for_the_user_and_for_the_backend(backend: Backend) -> None:
    purchase = backend.buys("com.example.game.gems100")
    assert backend.gems() == funds(100)
    path = "/v1/users/{user}/wallet/entries"
    page = told(
        backend.gateway, "GET", path, status=200, headers=backend.headers(), query={"limit": 1}, **backend.whose
    )
    (entry,) = page["entries"]
    assert (entry["kind"], entry["amount"], entry["balance_after"]) == ("purchase", 100, 100)
    assert entry["purchase_id"] == purchase


def test_a_spend_is_taken_from_the_wallet_and_given_back(backend: Backend) -> None:
    given = backend.gives(100)
    assert given["wallet"]["funds"] == funds(100)
    assert (given["reason"], given["granted_by"]) == ("a test", "server:backend")
    body = {"currency": "gems", "amount": 40, "item": "sword", "reference": "order-1"}
    spend = backend.order(SPENDS, body, status=201)
    assert (spend["user_id"], spend["amount"], spend["reversed"], spend["hold_id"]) == (backend.user, 40, 0, None)
    assert (spend["item"], spend["reference"]) == ("sword", "order-1")
    assert spend["wallet"]["funds"] == backend.gems() == funds(60)
    assert spend["wallet"]["version"] == given["wallet"]["version"] + 1
    assert backend.order(REVERSE, {"amount": 15}, status=200, spend=spend["id"])["reversed"] == 15
    whole = backend.order(REVERSE, {}, status=200, spend=spend["id"])
    assert (whole["id"], whole["reversed"]) == (spend["id"], 40)
    assert whole["wallet"]["funds"] == backend.gems() == funds(100)


def test_a_hold_is_captured_in_part_and_another_released(backend: Backend) -> None:
    backend.gives(100)
    hold = backend.order(HOLDS, {"currency": "gems", "amount": 40, "expires_in_s": 60}, status=201)
    assert (hold["state"], hold["captured"], hold["spend_id"]) == ("open", 0, None)
    assert hold["created_at"] < hold["expires_at"]
    assert hold["wallet"]["funds"] == backend.gems() == funds(100, held=40)
    captured = backend.order(CAPTURE, {"amount": 30, "item": "painting"}, status=200, hold=hold["id"])
    assert (captured["state"], captured["captured"]) == ("captured", 30)
    assert captured["wallet"]["funds"] == backend.gems() == funds(70)
    assert backend.order(REVERSE, {}, status=200, spend=captured["spend_id"])["hold_id"] == hold["id"]
    other = backend.order(HOLDS, {"currency": "gems", "amount": 100}, status=201)
    assert backend.order(RELEASE, {}, status=200, hold=other["id"])["state"] == "released"
    assert backend.gems() == funds(100)


def test_every_kind_of_entry_is_one_that_the_contract_knows(backend: Backend) -> None:
    backend.buys("com.example.game.gems100")
    backend.gives(1)
    spend = backend.order(SPENDS, {"currency": "gems", "amount": 1, "reference": "order-2"}, status=201)
    backend.order(REVERSE, {}, status=200, spend=spend["id"])
    path = "/v1/users/{user}/wallet/entries"
    entries = told(backend.gateway, "GET", path, status=200, headers=backend.headers(), **backend.whose)["entries"]
    assert [entry["kind"] for entry in entries] == ["spend_reversal", "spend", "grant", "purchase"]
    assert (entries[1]["spend_id"], entries[1]["reference"]) == (spend["id"], "order-2")
    assert entries[2]["grant_id"].startswith("grt_")


def test_a_repeat_gets_the_first_answer_to_the_byte(backend: Backend) -> None:
    backend.gives(100)
    body = {"currency": "gems", "amount": 60}
    first, repeat, refused, refused_again = (
        call(backend.gateway, "POST", SPENDS, status=status, headers=backend.headers(key), body=body, **backend.whose)
        for key, status in (("one", 201), ("one", 201), ("two", 422), ("two", 422))
    )
    assert (repeat.content, refused_again.content) == (first.content, refused.content)
    for answer, replayed in ((first, None), (repeat, ["true"]), (refused, None), (refused_again, ["true"])):
        assert answer.headers.get("idempotent-replayed") == replayed
    assert backend.gems() == funds(40)


def test_a_user_asks_for_a_refund_once_and_what_is_left_is_held(backend: Backend) -> None:
    purchase = backend.buys("com.example.game.gems100")
    backend.order(SPENDS, {"currency": "gems", "amount": 10}, status=201)
    user, named = backend.gateway.as_user(backend.user), {"path_parameters": {"purchase": purchase}}
    body = {"reason": "my child bought it"}
    opened = told(backend.gateway, "POST", ASK, status=201, headers=user, body=body, **named)
    assert (opened["purchase_id"], opened["status"], opened["reason"]) == (purchase, "open", "my child bought it")
    assert opened["held"] == [{"currency": "gems", "amount": 90}]
    assert opened["spent_percentage_milli"] == 10_000
    assert opened["advice"]["action"] == "present_refund_sheet"
    assert backend.gems() == funds(90, held=90)
    again = told(backend.gateway, "POST", ASK, status=200, headers=backend.headers(), body={}, **named)
    one = {"path_parameters": {"refund_request": opened["id"]}}
    for headers in (user, backend.headers()):
        assert told(backend.gateway, "GET", ANSWERED, status=200, headers=headers, **one) == again == opened


def test_subscriptions_are_read_in_pages_and_what_they_give_in_one(backend: Backend) -> None:
    ids = [backend.subscribes(days_ago=days) for days in (3, 1, 2)]
    path = "/v1/users/{user}/subscriptions"
    seen: list[Any] = []
    after: dict[str, str] = {}
    while True:
        page = told(
            backend.gateway,
            "GET",
            path,
            status=200,
            headers=backend.headers(),
            query={"limit": 2} | after,
            **backend.whose,
        )
        seen += page["subscriptions"]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert [each["id"] for each in seen] == [ids[1], ids[2], ids[0]]
    assert {each["status"] for each in seen} == {"active"}
    assert all(each["renewal"]["auto_renew"] for each in seen)
    user, me = backend.gateway.as_user(backend.user), {"path_parameters": {"user": "me"}}
    found = told(backend.gateway, "GET", "/v1/users/{user}/entitlements", status=200, headers=user, **me)
    (vip,) = found["entitlements"]
    assert (found["user_id"], vip["id"], vip["active"]) == (backend.user, "vip", True)
    assert (vip["source"], vip["until"]) == (ids[1], seen[0]["access_until"])


def test_a_page_of_subscriptions_that_there_cannot_be_is_malformed(backend: Backend) -> None:
    path, query = "/v1/users/{user}/subscriptions", {"after": "nonsense"}
    refused = told(backend.gateway, "GET", path, status=400, headers=backend.headers(), query=query, **backend.whose)
    assert refused["detail"].startswith("after: ")


# ---- what is refused --------------------------------------------------------------------------------------------


def test_each_refusal_says_what_there_is(backend: Backend) -> None:
    backend.gives(10)
    short = backend.order(SPENDS, {"currency": "gems", "amount": 11}, status=422)
    assert (short["code"], short["currency"], short["available"]) == ("insufficient-funds", "gems", 10)
    assert backend.order(HOLDS, {"currency": "gems", "amount": 11}, status=422)["code"] == "insufficient-funds"
    spend = backend.order(SPENDS, {"currency": "gems", "amount": 5}, status=201, key="taken")
    reused = backend.order(SPENDS, {"currency": "gems", "amount": 4}, status=409, key="taken")
    assert reused["code"] == "idempotency-key-reused"
    much = backend.order(REVERSE, {"amount": 6}, status=422, spend=spend["id"])
    assert (much["code"], much["reversible"]) == ("spend-not-reversible", 5)
    hold = backend.order(HOLDS, {"currency": "gems", "amount": 5}, status=201)
    small = backend.order(CAPTURE, {"amount": 6}, status=422, hold=hold["id"])
    assert (small["code"], small["amount"]) == ("hold-too-small", 5)
    backend.order(RELEASE, {}, status=200, hold=hold["id"])
    closed = backend.order(CAPTURE, {}, status=409, hold=hold["id"])
    assert (closed["code"], closed["state"]) == ("hold-not-open", "released")
    rich = backend.order(GRANTS, {"currency": "gems", "amount": 2**53 - 1, "reason": "a test"}, status=422)
    assert rich["code"] == "balance-out-of-range"


def test_a_refund_that_cannot_be_asked_for_says_why(backend: Backend) -> None:
    purchase = backend.buys("com.example.game.gems100")
    backend.order(SPENDS, {"currency": "gems", "amount": 50}, status=201)
    refused = backend.order(ASK, {}, status=422, purchase=purchase)
    assert (refused["code"], refused["reason"]) == ("refund-not-eligible", "spent_too_much")


def test_what_belongs_to_another_user_is_not_there(backend: Backend) -> None:
    purchase = backend.buys("com.example.game.gems100")
    opened = backend.order(ASK, {}, status=201, purchase=purchase)
    mallory = backend.gateway.as_user("mallory")
    for method, path, named in (
        ("POST", ASK, {"purchase": purchase}),
        ("GET", ANSWERED, {"refund_request": opened["id"]}),
    ):
        call(backend.gateway, method, path, status=404, headers=mallory, path_parameters=named)


@pytest.mark.parametrize("path", [SPENDS, HOLDS, GRANTS])
def test_a_currency_that_is_not_in_the_catalogue_is_malformed(backend: Backend, path: str) -> None:
    body = {"currency": "doubloons", "amount": 1, "reason": "a test"}
    assert backend.order(path, body, status=400)["detail"].startswith("currency: ")


# ---- the bodies: the contract says what the ledger holds them to -------------------------------------------------


@pytest.mark.parametrize("route", ORDERS, ids=lambda route: route.path)
def test_a_body_is_held_to_what_the_contract_says_of_it(backend: Backend, route: Route) -> None:
    parts = {"user": backend.user, "spend": "spd_" + "0" * 32, "hold": "hld_" + "0" * 32, "purchase": "pur_" + "a" * 26}
    named = {name: value for name, value in parts.items() if f"{{{name}}}" in route.path}
    found: Sequence[Limit] = list(limits(route))
    assert found or route.path == RELEASE
    for name, within, beyond in found:
        answers = [
            backend.gateway.client().post(
                route.path.format_map({part: value.replace("/", "%2F") for part, value in named.items()}),
                json=body,
                headers=backend.headers(),
            )
            for body in (within, beyond)
        ]
        assert answers[0].status_code in {201, 404, 422}, (name, within, answers[0].text)
        assert answers[1].status_code == 400, (name, beyond)
        assert (answers[1].json or {})["detail"].startswith(name), (name, answers[1].text)


@pytest.mark.parametrize("route", ORDERS, ids=lambda route: route.path)
def test_each_example_does_what_it_says(backend: Backend, route: Route) -> None:
    backend.gives(1000)
    for example in route.examples.values():
        spend = backend.order(SPENDS, {"currency": "gems", "amount": 40}, status=201)
        hold = backend.order(HOLDS, {"currency": "gems", "amount": 40}, status=201)
        purchase = backend.buys("com.example.game.gems100")
        parts = {"user": backend.user, "spend": spend["id"], "hold": hold["id"], "purchase": purchase}
        named = {name: value for name, value in parts.items() if f"{{{name}}}" in route.path}
        is_of_the_sandbox = example.value.get("environment") == "sandbox"  # where the user has nothing to spend
        done = next(iter(route.answers))
        backend.order(route.path, dict(example.value), status=422 if is_of_the_sandbox else done, **named)
