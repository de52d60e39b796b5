"""What can be read of purchases, of their timelines, of products and account tokens, and by whom."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from shared.events import (
    NotificationReceived,
    PurchaseCompleted,
    PurchaseRefunded,
    PurchaseRejected,
    PurchaseVerified,
    RefundReceived,
    StoreTransaction,
)
from shared.ids import EventId, PurchaseId, TransactionId, account_subject
from shared.money import Amount, CurrencyId
from tests.support.gateway import Gateway

NOW = datetime(2026, 11, 22, 12, 30, 15, 250_000, tzinfo=UTC)
NUMBERS = itertools.count(5000)
GEMS = Amount(CurrencyId("gems"), 100)


def transaction(transaction_id: str) -> StoreTransaction:
    return StoreTransaction(
        store="apple",
        environment="sandbox",
        transaction_id=TransactionId(transaction_id),
        original_transaction_id=TransactionId("4999"),
        product_id="com.example.game.gems100",
        product_type="consumable",
        quantity=1,
        purchased_at=NOW,
        signed_at=NOW,
    )


def bought(gateway: Gateway, user_id: str = "alice") -> tuple[str, PurchaseId]:
    """A purchase that was just submitted: its transaction and its id."""
    transaction_id = str(next(NUMBERS))
    document = gateway.submit(transaction_id, user_id=user_id).json or {}
    return transaction_id, PurchaseId(document["id"])


def read(gateway: Gateway, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    response = gateway.client().get(path, headers=gateway.as_user() if headers is None else headers)
    return response.status_code, response.json or {}


# ---- one purchase -----------------------------------------------------------------------------------------------


def test_a_purchase_that_was_just_taken_in(gateway: Gateway) -> None:
    transaction_id, purchase = bought(gateway)
    status, document = read(gateway, f"/v1/purchases/{purchase}")
    moments = {document.pop("created_at"), document.pop("updated_at")}
    assert status == 200
    assert document == {
        "id": purchase,
        "store": "apple",
        "environment": None,
        "status": "accepted",
        "transaction_id": transaction_id,
        "original_transaction_id": None,
        "product_id": None,
        "quantity": None,
        "user_id": "alice",
        "granted": [],
        "refunded": [],
        "rejection": None,
    }
    assert len(moments) == 1
    assert abs(datetime.fromisoformat(moments.pop()) - gateway.clock.now()).total_seconds() < 60


def test_a_purchase_goes_from_word_to_word(gateway: Gateway) -> None:
    transaction_id, purchase = bought(gateway)
    facts = transaction(transaction_id)
    seen = []

    def look() -> None:
        seen.append(read(gateway, f"/v1/purchases/{purchase}")[1]["status"])

    (event_id,) = event_ids(gateway, purchase)
    gateway.bus.set([event_id], "state = 'handed', handovers = 1")
    look()
    gateway.tell(purchase, PurchaseVerified(purchase_id=purchase, transaction=facts))
    look()
    gateway.tell(purchase, PurchaseCompleted(purchase_id=purchase, transaction=facts, granted=[GEMS]))
    look()
    back = PurchaseRefunded(
        purchase_id=purchase, transaction=facts, granted=[GEMS], refunded=[GEMS], percentage_milli=100_000
    )
    gateway.tell(purchase, back)
    look()
    assert seen == ["verifying", "verifying", "completed", "refunded"]
    _, document = read(gateway, f"/v1/purchases/{purchase}")
    assert document["environment"] == "sandbox"
    assert document["original_transaction_id"] == "4999"
    assert document["granted"] == document["refunded"] == [{"currency": "gems", "amount": 100}]
    assert document["created_at"] < document["updated_at"]


def test_a_purchase_that_nobody_can_verify_waits_for_an_operator(gateway: Gateway) -> None:
    _, purchase = bought(gateway)
    gateway.bus.set(event_ids(gateway, purchase), "state = 'dead', attempts = 20")
    assert read(gateway, f"/v1/purchases/{purchase}")[1]["status"] == "parked"


def test_another_users_purchase_is_not_there(gateway: Gateway) -> None:
    _, purchase = bought(gateway)
    status, document = read(gateway, f"/v1/purchases/{purchase}", gateway.as_user("mallory"))
    assert (status, document["code"]) == (404, "not-found")
    assert "alice" not in json.dumps(document)
    assert read(gateway, f"/v1/purchases/{purchase}", gateway.as_server())[0] == 200


@pytest.mark.parametrize("purchase", ["pur_" + "a" * 26, "pur_", "x", "%00", "pur_" + "a" * 25 + "%00"])
def test_a_purchase_that_does_not_exist_is_not_there(gateway: Gateway, purchase: str) -> None:
    for path in (f"/v1/purchases/{purchase}", f"/v1/purchases/{purchase}/timeline"):
        assert read(gateway, path, gateway.as_server())[0] == 404


# ---- a user's purchases -----------------------------------------------------------------------------------------


def test_a_users_purchases_come_newest_first_page_by_page(gateway: Gateway) -> None:
    purchases = [bought(gateway, "pager")[1] for _ in range(5)]
    seen: list[str] = []
    after, pages = "", 0
    while True:
        _, document = read(gateway, f"/v1/users/me/purchases?limit=2{after}", gateway.as_user("pager"))
        seen += [purchase["id"] for purchase in document["purchases"]]
        pages += 1
        if document["next"] is None:
            break
        after = f"&after={document['next']}"
    assert seen == purchases[::-1]
    assert pages == 3


def test_a_full_last_page_says_that_it_is_the_last(gateway: Gateway) -> None:
    purchases = [bought(gateway, "exact")[1] for _ in range(2)]
    _, document = read(gateway, "/v1/users/exact/purchases?limit=2", gateway.as_user("exact"))
    assert [purchase["id"] for purchase in document["purchases"]] == purchases[::-1]
    assert document["next"] is None


def test_a_user_without_purchases_has_an_empty_list(gateway: Gateway) -> None:
    assert read(gateway, "/v1/users/nobody/purchases", gateway.as_server()) == (200, {"purchases": [], "next": None})


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "after=x", "after=", "after=" + "g" * 32])
def test_a_page_that_cannot_be_is_refused_by_the_name_of_its_parameter(gateway: Gateway, query: str) -> None:
    status, document = read(gateway, f"/v1/users/me/purchases?{query}")
    assert (status, query.partition("=")[0] in document["detail"]) == (400, True)


@pytest.mark.parametrize("what", ["purchases", "account-token", "wallet", "wallet/entries", "events"])
def test_another_users_things_are_not_there_for_a_client(gateway: Gateway, what: str) -> None:
    assert read(gateway, f"/v1/users/bob/{what}")[0] == 404
    assert read(gateway, f"/v1/users/me/{what}", gateway.as_server())[0] == 400


def test_a_user_whose_id_has_slashes_and_signs_is_found_by_it(gateway: Gateway) -> None:
    _, purchase = bought(gateway, "a/b?漢")
    _, document = read(gateway, "/v1/users/a%2Fb%3F%E6%BC%A2/purchases", gateway.as_server())
    assert [known["id"] for known in document["purchases"]] == [purchase]


@pytest.mark.parametrize("user", [".", "..", "%2E%2E", "me", "%00"])
def test_a_user_that_cannot_be_is_refused_by_the_path(gateway: Gateway, user: str) -> None:
    status, document = read(gateway, f"/v1/users/{user}/account-token", gateway.as_server())
    assert (status, document["code"]) == (400, "malformed-request")
    assert "user" in document["detail"]


# ---- timelines --------------------------------------------------------------------------------------------------


def event_ids(gateway: Gateway, subject: str) -> list[EventId]:
    sql = "select id from journal.event where subject = %(subject)s order by id"
    return [row[0] for row in gateway.bus.execute(sql, subject=subject)]


def test_a_timeline_tells_what_followed_from_what_and_what_is_open(gateway: Gateway) -> None:
    transaction_id, purchase = bought(gateway)
    facts = transaction(transaction_id)
    (submitted,) = event_ids(gateway, purchase)
    verified = gateway.tell(purchase, PurchaseVerified(purchase_id=purchase, transaction=facts), cause=submitted)
    notification = NotificationReceived(
        store="apple", notification_id="n", notification_type="REFUND", subtype=None, signed_payload="secret-proof"
    )
    noticed = gateway.tell(f"ntf_{transaction_id}", notification)
    refund = RefundReceived(transaction=facts, revoked_at=NOW, reason="OTHER", purchase_id=purchase)
    refunded = gateway.tell(purchase, refund, cause=noticed)
    gateway.bus.set([refunded], "attempts = 3, error = 'the books are locked'")
    status, document = read(gateway, f"/v1/purchases/{purchase}/timeline", gateway.as_server())
    assert status == 200
    events = {event["id"]: event for event in document["events"]}
    assert list(events) == [str(event_id) for event_id in (submitted, verified, noticed, refunded)]
    assert events[str(submitted)]["led_to"] == [str(verified)]
    assert events[str(verified)]["caused_by"] == str(submitted)
    assert events[str(noticed)]["led_to"] == [str(refunded)]
    assert events[str(refunded)]["data"]["revoked_at"] == "2026-11-22T12:30:15.250Z"
    (open_delivery,) = events[str(refunded)]["deliveries"]
    assert (open_delivery["consumer"], open_delivery["attempts"]) == ("ledger", 3)
    assert open_delivery["error"] == "the books are locked"


def test_a_timeline_shows_no_proof(gateway: Gateway) -> None:
    transaction_id, purchase = bought(gateway)
    token = gateway.events(purchase)[0][1]["signed_transaction"]
    _, document = read(gateway, f"/v1/purchases/{purchase}/timeline", gateway.as_server())
    assert document["events"][0]["data"] == {"store": "apple", "transaction_id": transaction_id}
    assert token.rpartition(".")[2] not in json.dumps(document)


def test_a_timeline_tells_who_vouched(gateway: Gateway) -> None:
    body = {"store": "apple", "transaction_id": str(next(NUMBERS)), "user_id": "alice"}
    posted = gateway.client().post("/v1/purchases", json=body, headers=gateway.as_server()).json or {}
    _, document = read(gateway, f"/v1/purchases/{posted['id']}/timeline", gateway.as_server())
    (named,) = document["events"]
    assert (named["type"], named["data"]["vouched"]) == ("transaction_id.submitted", True)


def test_a_timeline_is_for_servers(gateway: Gateway) -> None:
    _, purchase = bought(gateway)
    status, document = read(gateway, f"/v1/purchases/{purchase}/timeline")
    assert (status, document["code"]) == (403, "forbidden")


def of_a_newer_release(gateway: Gateway, event_id: EventId, assignments: str) -> None:
    """Makes an event into one that this release does not know."""
    with gateway.bus.engine.begin() as connection:  # the journal refuses changes, so its trigger has to look away
        connection.exec_driver_sql("set local session_replication_role = replica")
        connection.exec_driver_sql(
            f"update journal.event set {assignments} where id = %(id)s",  # noqa: S608 - a test's own words
            {"id": event_id},
        )


@pytest.mark.parametrize(
    ("assignments", "shown_as"),
    [
        ("type = 'purchase.blessed'", "purchase.blessed"),
        ("version = 2", "purchase.rejected"),
        ("payload = payload - 'code'", "purchase.rejected"),
    ],
    ids=["type", "version", "payload"],
)
def test_an_event_of_a_newer_release_is_shown_as_what_it_is(gateway: Gateway, assignments: str, shown_as: str) -> None:
    transaction_id, purchase = bought(gateway)
    (submitted,) = event_ids(gateway, purchase)
    refused = PurchaseRejected(purchase, "apple", TransactionId(transaction_id), "wrong_app", "secret-proof")
    event_id = gateway.tell(purchase, refused, cause=submitted)
    of_a_newer_release(gateway, event_id, assignments)
    status, document = read(gateway, f"/v1/purchases/{purchase}/timeline", gateway.as_server())
    assert status == 200
    first, second = document["events"]
    assert first["led_to"] == [second["id"]] == [str(event_id)]
    assert (second["type"], second["caused_by"], second["user_id"]) == (shown_as, str(submitted), "alice")
    assert abs(datetime.fromisoformat(second["recorded_at"]) - gateway.clock.now()).total_seconds() < 60
    assert second["data"] == {}
    assert "secret-proof" not in json.dumps(document)


def test_a_cause_of_a_newer_release_is_shown_too(gateway: Gateway) -> None:
    transaction_id, purchase = bought(gateway)
    notification = NotificationReceived("apple", "n", "REFUND", None, "secret-proof")
    noticed = gateway.tell(f"ntf_{transaction_id}", notification)
    gateway.tell(purchase, PurchaseVerified(purchase, transaction(transaction_id)), cause=noticed)
    of_a_newer_release(gateway, noticed, "type = 'omen.received'")
    _, document = read(gateway, f"/v1/purchases/{purchase}/timeline", gateway.as_server())
    assert {event["id"]: event["type"] for event in document["events"]}[str(noticed)] == "omen.received"


def test_a_word_of_a_newer_release_is_for_a_process_that_knows_it(gateway: Gateway) -> None:
    transaction_id, purchase = bought(gateway, "early")
    refused = PurchaseRejected(purchase, "apple", TransactionId(transaction_id), "wrong_app", "another app's")
    of_a_newer_release(gateway, gateway.tell(purchase, refused), "type = 'purchase.blessed'")
    for path in (f"/v1/purchases/{purchase}", "/v1/users/early/purchases"):
        response = gateway.client().get(path, headers=gateway.as_server())
        assert (response.status_code, (response.json or {})["code"]) == (503, "temporarily-unavailable")
        assert int(response.headers["Retry-After"]) > 0


def test_a_rejection_is_told_with_its_reason(gateway: Gateway) -> None:
    transaction_id, purchase = bought(gateway)
    rejected = PurchaseRejected(
        purchase_id=purchase,
        store="apple",
        transaction_id=TransactionId(transaction_id),
        code="claimed_by_another_user",
        detail="another user has claimed it",
    )
    gateway.tell(purchase, rejected)
    _, document = read(gateway, f"/v1/purchases/{purchase}")
    assert document["status"] == "rejected"
    assert document["rejection"] == {"code": "claimed_by_another_user", "detail": "another user has claimed it"}


# ---- products, account tokens -----------------------------------------------------------------------------------


def test_the_catalogue_says_what_each_product_gives(gateway: Gateway) -> None:
    _, document = read(gateway, "/v1/products")
    products = {product["id"]: product for product in document["products"]}
    assert products["com.example.game.gems550"] == {
        "id": "com.example.game.gems550",
        "type": "consumable",
        "name": "550 gems, 50 coins",
        "group": None,
        "grants": [{"currency": "coins", "amount": 50}, {"currency": "gems", "amount": 550}],
        "entitlements": [],
        "days": None,
        "refund_requests": {"window_days": 30, "spent_percent_max": 10, "open_days": 14},
    }
    assert products["com.example.game.vip.monthly"]["group"] == "vip"
    season = products["com.example.game.season"]
    assert (season["type"], season["days"], season["entitlements"]) == ("non_renewing", 90, ["season"])
    assert products["com.example.game.vip.yearly"]["refund_requests"] is None


def test_a_users_account_token_is_made_once_whoever_asks(gateway: Gateway) -> None:
    def ask(number: int) -> str:
        headers = gateway.as_server() if number % 2 else gateway.as_user("tokenless")
        return str(read(gateway, "/v1/users/tokenless/account-token", headers)[1]["app_account_token"])

    with ThreadPoolExecutor(8) as pool:
        (token,) = set(pool.map(ask, range(16)))
    assert UUID(token).version == 4
    assert len(gateway.events(account_subject(app="game", user_id="tokenless"))) == 1
    assert read(gateway, "/v1/users/me/account-token", gateway.as_user("other"))[1]["app_account_token"] != token


def test_the_wallet_is_the_ledgers_and_its_absence_is_temporary(gateway: Gateway) -> None:
    response = gateway.client().get("/v1/users/me/wallet", headers=gateway.as_user())
    assert (response.status_code, (response.json or {})["code"]) == (503, "temporarily-unavailable")
    assert int(response.headers["Retry-After"]) > 0


def test_health_is_told_to_everybody(gateway: Gateway) -> None:
    assert read(gateway, "/healthz", {}) == (200, {"status": "ok"})
    assert read(gateway, "/readyz", {}) == (200, {"status": "ready"})


def test_the_page_to_read_names_every_call_and_needs_nothing_from_elsewhere(gateway: Gateway) -> None:
    page = gateway.client().get("/docs")
    document = gateway.client().get("/openapi.json").json or {}
    assert page.content_type == "text/html; charset=utf-8"
    for path in document["paths"]:
        assert path in page.text
    for name in document["components"]["schemas"]:
        assert f'id="{name}"' in page.text
    for example in document["paths"]["/v1/purchases"]["post"]["requestBody"]["content"]["application/json"]["examples"]:
        assert f"&#34;{example}&#34;: " in page.text
    assert "<script" not in page.text
    assert "src=" not in page.text
    assert "http://" not in page.text.replace("http://127.0.0.1", "")
