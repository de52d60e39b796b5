"""One purchase, end to end: bought, credited once, told, refunded, debited once."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import pytest
import requests

from deploy.processes import PROCESSES
from shared.clock import SystemClock
from tests.support.stack import wait_until
from tests.support.system import System, at_once, client

pytestmark = [pytest.mark.slow]


def test_a_purchase_is_credited_once_and_its_refund_debited_once(system: System) -> None:
    bought = system.buy()
    response = system.post("road", {"signed_transaction": bought["signed_transaction"]}, Prefer="wait=20")
    assert response.status_code == 200
    purchase = response.json()
    assert purchase["status"] == "completed"
    assert purchase["granted"] == [{"currency": "gems", "amount": 100}]
    assert system.gems("road") == 100

    system.refund(bought["transaction_id"])
    refunded = system.purchase(purchase["id"], user_id="road", status="refunded")
    assert refunded["refunded"] == [{"currency": "gems", "amount": 100}]
    assert system.gems("road") == 0
    entries = system.get("/v1/users/me/wallet/entries", user_id="road").json()["entries"]
    assert [(entry["amount"], entry["balance_after"], entry["version"]) for entry in entries] == [
        (-100, 0, 2),
        (100, 100, 1),
    ]
    _told(system, purchase["id"], {"purchase.completed", "purchase.refunded", "wallet.credited", "wallet.debited"})


def test_whoever_waits_for_a_credit_is_told_of_it_within_a_second(system: System) -> None:
    delays_s = []
    for _ in range(3):  # the machine may be busy with something else once
        after = system.get("/v1/users/me/events?after=latest", user_id="watcher").json()["next"]
        system.post("watcher", {"signed_transaction": system.buy()["signed_transaction"]})
        credited = _credit_behind(system, after, user_id="watcher")
        delays_s.append((SystemClock().now() - datetime.fromisoformat(credited["timestamp"])).total_seconds())
        assert credited["data"]["balance_after"] == system.gems("watcher") == 100 * len(delays_s)
    assert min(delays_s) < 1


def test_a_receipt_is_verified_by_the_store(system: System) -> None:
    bought = system.buy()
    body = {"transaction_id": bought["transaction_id"], "receipt": bought["receipt"]}
    purchase = system.post("receipt", body, Prefer="wait=20").json()
    assert purchase["status"] == "completed"
    assert system.gems("receipt") == 100


def test_a_sandbox_receipt_fills_the_sandbox_wallet_only(system: System) -> None:
    bought = system.buy(environment="sandbox")
    body = {"transaction_id": bought["transaction_id"], "receipt": bought["receipt"]}
    purchase = system.post("tester", body, Prefer="wait=20").json()
    assert (purchase["status"], purchase["environment"]) == ("completed", "sandbox")
    assert (system.gems("tester"), system.gems("tester", environment="sandbox")) == (0, 100)


def test_what_the_store_calls_temporary_is_retried(system: System) -> None:
    # More than the tries within one run, so that Celery's own retry is needed too.
    bought = system.buy()
    system.faults(verify_receipt={"statuses": [21005, 21009, 21002, 21005]})
    body = {"transaction_id": bought["transaction_id"], "receipt": bought["receipt"]}
    accepted = system.post("patient", body).json()
    assert system.purchase(accepted["id"], user_id="patient")["status"] == "completed"
    assert system.gems("patient") == 100


def test_a_transaction_id_alone_is_looked_up_and_goes_to_the_user_of_its_account_token(system: System) -> None:
    token = system.get("/v1/users/me/account-token", user_id="brief").json()["app_account_token"]
    named = {"transaction_id": system.buy(app_account_token=token)["transaction_id"]}
    assert system.post("passer-by", named, Prefer="wait=20").json()["rejection"]["code"] == "account_token_mismatch"
    assert system.post("brief", named, Prefer="wait=20").json()["status"] == "completed"
    assert (system.gems("brief"), system.gems("passer-by")) == (100, 0)


def test_the_sandboxs_transaction_ids_are_found_too(system: System) -> None:
    token = system.get("/v1/users/me/account-token", user_id="reviewer").json()["app_account_token"]
    named = {"transaction_id": system.buy(environment="sandbox", app_account_token=token)["transaction_id"]}
    purchase = system.post("reviewer", named, Prefer="wait=20").json()
    assert (purchase["status"], purchase["environment"]) == ("completed", "sandbox")


def test_an_id_that_the_store_does_not_know_is_rejected(system: System) -> None:
    purchase = system.post("dreamer", {"transaction_id": "2999999999999990"}, Prefer="wait=20").json()
    assert purchase["rejection"]["code"] == "transaction_not_found"


def test_a_consumable_that_the_app_finished_too_early_is_credited_all_the_same(system: System) -> None:
    token = system.get("/v1/users/me/account-token", user_id="hasty").json()["app_account_token"]
    bought = system.buy(app_account_token=token)
    system.finish(bought["transaction_id"])
    body = {"transaction_id": bought["transaction_id"], "receipt": bought["receipt"]}
    assert system.post("hasty", body, Prefer="wait=20").json()["status"] == "completed"
    assert system.gems("hasty") == 100


def test_what_the_server_api_calls_temporary_is_retried(system: System) -> None:
    token = system.get("/v1/users/me/account-token", user_id="unlucky").json()["app_account_token"]
    named = {"transaction_id": system.buy(app_account_token=token)["transaction_id"]}
    system.faults(api={"statuses": [4290000, 5000001, 4040002, 503, "cut", "not_json"], "retry_after_ms": 700})
    accepted = system.post("unlucky", named).json()
    assert system.purchase(accepted["id"], user_id="unlucky")["status"] == "completed"
    assert system.gems("unlucky") == 100


def test_one_purchase_posted_fifty_times_by_every_road_is_credited_once(system: System) -> None:
    token = system.get("/v1/users/me/account-token", user_id="eager").json()["app_account_token"]
    bought = system.buy(notify=True, app_account_token=token)
    signed = {"signed_transaction": bought["signed_transaction"]}
    receipt = {"transaction_id": bought["transaction_id"], "receipt": bought["receipt"]}
    responses = at_once(lambda body: system.post("eager", body), [signed, receipt] * 25, threads=50)
    assert Counter(response.status_code for response in responses).keys() <= {200, 202}
    (purchase_id,) = {response.json()["id"] for response in responses}
    assert system.purchase(purchase_id, user_id="eager")["status"] == "completed"
    _settled(system)
    assert system.gems("eager") == 100
    assert len(system.get("/v1/users/me/wallet/entries", user_id="eager").json()["entries"]) == 1


def test_a_charge_that_only_the_store_reports_is_credited_to_its_account(system: System) -> None:
    token = system.get("/v1/users/me/account-token", user_id="silent").json()["app_account_token"]
    system.buy(notify=True, app_account_token=token)
    wait_until(lambda: system.gems("silent") == 100, what="the credit")
    (purchase,) = system.get("/v1/users/me/purchases", user_id="silent").json()["purchases"]
    assert purchase["status"] == "completed"


def test_a_second_user_is_rejected_and_learns_nothing_of_the_first(system: System) -> None:
    body = {"signed_transaction": system.buy()["signed_transaction"]}
    assert system.post("owner-of-it", body, Prefer="wait=20").json()["status"] == "completed"
    second = system.post("thief", body, Prefer="wait=20")
    purchase = second.json()
    assert purchase["status"] == "rejected"
    assert purchase["rejection"]["code"] == "claimed_by_another_user"
    assert "owner-of-it" not in second.text
    timeline = system.get(f"/v1/purchases/{purchase['id']}/timeline")
    assert timeline.status_code == 200
    assert "owner-of-it" not in timeline.text
    assert system.gems("thief") == 0


def test_a_refund_that_comes_first_leaves_nothing_to_grant(system: System) -> None:
    bought = system.buy()
    system.refund(bought["transaction_id"])
    wait_until(
        lambda: (
            system.scalar(
                "select count(*) from ledger.store_transaction where transaction_id = %(id)s",
                id=bought["transaction_id"],
            )
            == 1
        ),
        what="the refund in the books",
    )
    body = {"signed_transaction": bought["signed_transaction"]}
    purchase = system.post("late", body, Prefer="wait=20").json()
    assert purchase["status"] in {"rejected", "refunded"}
    assert system.gems("late") == 0


@pytest.mark.parametrize(
    ("product_id", "gems"),
    [
        ("com.example.game.gems550", 550),
        ("com.example.game.adfree", 0),
        ("com.example.game.vip.monthly", 300),
    ],
)
def test_every_type_of_product_completes(system: System, product_id: str, gems: int) -> None:
    bought = system.buy(product_id)
    user_id = f"buyer-of-{product_id}"
    purchase = system.post(user_id, {"signed_transaction": bought["signed_transaction"]}, Prefer="wait=20").json()
    assert purchase["status"] == "completed"
    assert system.gems(user_id) == gems


def test_a_quantity_multiplies_the_grant(system: System) -> None:
    bought = system.buy(quantity=3)
    purchase = system.post("three", {"signed_transaction": bought["signed_transaction"]}, Prefer="wait=20").json()
    assert purchase["granted"] == [{"currency": "gems", "amount": 300}]


def test_flower_shows_each_services_worker_and_each_task_by_its_events_name(system: System) -> None:
    bought = system.buy()
    system.post("watched", {"signed_transaction": bought["signed_transaction"]}, Prefer="wait=20")
    addresses = system.stack.addresses

    def tasks() -> dict[str, Any]:
        answer: dict[str, Any] = requests.get(
            f"{addresses.flower}/api/tasks", auth=addresses.flower_login, params={"limit": 1000}, timeout=10
        ).json()
        return answer

    def shown() -> set[tuple[str, str]]:
        return {(task["name"], task["worker"].split("@")[0]) for task in tasks().values() if task["worker"]}

    wanted = {("transaction.submitted", "verifier"), ("purchase.verified", "ledger"), ("wallet.credited", "notifier")}
    wait_until(lambda: wanted <= shown(), what="the tasks in Flower")
    text = requests.get(
        f"{addresses.flower}/api/tasks", auth=addresses.flower_login, params={"limit": 1000}, timeout=10
    ).text
    assert "watched" not in text
    assert bought["transaction_id"] not in text
    assert bought["signed_transaction"][:40] not in text
    assert requests.get(f"{addresses.flower}/api/tasks", timeout=10).status_code == 401


def test_every_process_is_ready_when_the_stack_has_started(system: System) -> None:
    states = {status.name: status.state for status in system.stack.status()}
    servers = [name for name, own in (("postgres", system.stack.postgres), ("redis", system.stack.redis)) if own]
    assert states == dict.fromkeys((*servers, *PROCESSES), "ready")


def test_health_and_documents_are_there(system: System) -> None:
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert requests.get(system.gateway + path, timeout=10).status_code == 200, path


def test_the_ledgers_api_is_closed_without_the_service_token(system: System) -> None:
    url = f"{system.stack.addresses.ledger}/v1/users/road/wallet"
    for headers in ({}, client("road"), {"Authorization": "Bearer wrong"}):
        assert requests.get(url, headers=headers, timeout=10).status_code == 401


def _told(system: System, purchase_id: str, types: set[str]) -> None:
    """The app's backend has heard of all of these, of this purchase, each signed, each once."""

    def heard() -> Counter[str]:
        return Counter(
            got.body["type"]
            for got in system.receiver.received
            if got.genuine and purchase_id in (got.body["data"].get("id"), got.body["data"].get("purchase_id"))
        )

    wait_until(lambda: types <= heard().keys(), what="the webhooks")
    assert set(heard().values()) == {1}


def _credit_behind(system: System, after: str, *, user_id: str) -> dict[str, Any]:
    """The credit that the user's device is told of behind a place; it waits for no event longer than allowed."""
    while True:
        page = system.get(f"/v1/users/me/events?wait=20&after={after}", user_id=user_id).json()
        assert page["events"], "nothing came"
        for event in page["events"]:
            if event["type"] == "wallet.credited":
                return dict(event)
        after = page["next"]


def _settled(system: System) -> None:
    """Nothing is left to be delivered, but what waits for a later time."""
    wait_until(
        lambda: system.scalar("select count(*) from journal.delivery where state in ('waiting', 'handed')") == 0,
        within_s=30,
        what="an empty delivery table",
    )
