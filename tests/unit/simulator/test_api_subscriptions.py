"""The control of subscriptions over HTTP: what each call takes, does and answers, and how bad input is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from simulator.api_subscriptions import COMMANDS
from simulator.app import Simulator, build, serve
from tests.support.notification_receiver import Receiver, receiver
from tests.support.seeded import seeded_ids
from tests.support.shop import MONTHLY, WEEKLY, YEARLY, apples_verifier, claims, example_apps, example_catalog
from tests.support.stack import wait_until


@pytest.fixture(name="hook")
def a_gateway() -> Iterator[Receiver]:
    with receiver() as hook:
        yield hook


@pytest.fixture
def simulator(tmp_path: Path, hook: Receiver) -> Iterator[Simulator]:
    made = build(
        data_dir=tmp_path, apps=example_apps(), catalog=example_catalog(), webhook_url=hook.url, ids=seeded_ids(5)
    )
    yield made
    made.close()


@pytest.fixture
def client(simulator: Simulator) -> FlaskClient:
    return serve(simulator).test_client()


def subscribe(client: FlaskClient, **wanted: Any) -> str:
    """A new subscription's path."""
    answer = client.post("/_sim/purchases", json={"product_id": MONTHLY, "notify": False, **wanted})
    assert answer.status_code == 201, answer.text
    return f"/_sim/subscriptions/{answer.get_json()['original_transaction_id']}"


def command(client: FlaskClient, path: str, action: str, **body: Any) -> dict[str, Any]:
    answer = client.post(f"{path}/{action}", json=body)
    assert answer.status_code == 200, answer.text
    done: dict[str, Any] = answer.get_json()
    return done


LIVES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "renew": [("renew", {})],
    "expire": [("expire", {"reason": "other"})],
    "fail-billing": [("fail-billing", {})],
    "enter-grace": [("enter-grace", {})],
    "end-grace": [("fail-billing", {"grace": True}), ("end-grace", {})],
    "recover": [("fail-billing", {"grace": True}), ("recover", {})],
    "cancel": [("cancel", {})],
    "resume": [("cancel", {}), ("resume", {})],
    "upgrade": [("upgrade", {"product_id": YEARLY})],
    "downgrade": [("downgrade", {"product_id": WEEKLY})],
    "revert-downgrade": [("downgrade", {"product_id": WEEKLY}), ("revert-downgrade", {})],
    "price-increase": [("price-increase", {"accepted": True})],
    "extend": [("extend", {"days": 3})],
    "redeem-offer": [("redeem-offer", {"type": "win_back", "discount": "pay_as_you_go", "period": "P2M"})],
    "resubscribe": [("expire", {}), ("resubscribe", {"product_id": YEARLY, "offer": {"type": "win_back"}})],
}
TOLD = {
    "renew": ("DID_RENEW", None, 1),
    "expire": ("EXPIRED", None, 2),
    "fail-billing": ("DID_FAIL_TO_RENEW", None, 3),
    "enter-grace": ("DID_FAIL_TO_RENEW", "GRACE_PERIOD", 4),
    "end-grace": ("GRACE_PERIOD_EXPIRED", None, 3),
    "recover": ("DID_RENEW", "BILLING_RECOVERY", 1),
    "cancel": ("DID_CHANGE_RENEWAL_STATUS", "AUTO_RENEW_DISABLED", 1),
    "resume": ("DID_CHANGE_RENEWAL_STATUS", "AUTO_RENEW_ENABLED", 1),
    "upgrade": ("DID_CHANGE_RENEWAL_PREF", "UPGRADE", 1),
    "downgrade": ("DID_CHANGE_RENEWAL_PREF", "DOWNGRADE", 1),
    "revert-downgrade": ("DID_CHANGE_RENEWAL_PREF", None, 1),
    "price-increase": ("PRICE_INCREASE", "ACCEPTED", 1),
    "extend": ("RENEWAL_EXTENDED", None, 1),
    "redeem-offer": ("OFFER_REDEEMED", None, 1),
    "resubscribe": ("SUBSCRIBED", "RESUBSCRIBE", 1),
}


@pytest.mark.parametrize("action", COMMANDS)
def test_each_command_tells_what_apple_tells_and_answers_what_an_app_would_hold(
    client: FlaskClient, hook: Receiver, simulator: Simulator, action: str
) -> None:
    path = subscribe(client)
    *before, last = LIVES[action]
    for earlier, body in before:
        command(client, path, earlier, notify=False, **body)
    done = command(client, path, last[0], **last[1])
    (payload,) = hook.wait_for_posts(1)
    kind, subtype, status = TOLD[action]
    assert (payload["notificationType"], payload.get("subtype"), payload["data"]["status"]) == (kind, subtype, status)
    assert (done["status"], done["notification_id"]) == (status, payload["notificationUUID"])
    assert done["signed_transaction"] == payload["data"]["signedTransactionInfo"]
    assert done["signed_renewal"] == payload["data"]["signedRenewalInfo"]
    apple = apples_verifier(simulator.authority.root_der)
    assert (
        apple.verify_and_decode_renewal_info(done["signed_renewal"]).autoRenewProductId == done["auto_renew_product_id"]
    )
    assert client.get(path).get_json()["status"] == status


def test_the_truth_has_every_period_with_what_was_paid_and_refunded(client: FlaskClient) -> None:
    path = subscribe(client, offer="free_trial", customer="ann")
    renewed = command(client, path, "renew")
    client.post(f"/_sim/transactions/{renewed['transaction_id']}/refund", json={"percent": 40})
    truth = client.get(path).get_json()
    trial, paid = truth["periods"]
    assert trial["offer"] == {"type": "introductory", "discount": "free_trial", "identifier": None, "period": "P1W"}
    assert [(each["paid"], each["refunded_percent_milli"]) for each in (trial, paid)] == [(False, 0), (True, 40_000)]
    assert (truth["status"], truth["access_until"], truth["customer"]) == (5, None, "ann")
    assert truth["original_transaction_id"] == trial["transaction_id"]


def test_the_truth_is_paged(client: FlaskClient) -> None:
    paths = [subscribe(client) for _ in range(3)]
    first = client.get("/_sim/subscriptions?limit=2").get_json()
    rest = client.get(f"/_sim/subscriptions?limit=2&after={first['next']}").get_json()
    found = [each["original_transaction_id"] for each in first["subscriptions"] + rest["subscriptions"]]
    assert [path.rpartition("/")[2] for path in paths] == found
    assert rest["next"] is None


def test_the_truth_is_narrowed_by_customer_and_status(client: FlaskClient) -> None:
    subscribe(client, customer="ann")
    command(client, subscribe(client, customer="bob"), "expire")
    found = [client.get(f"/_sim/subscriptions?{query}").get_json() for query in ("status=2", "customer=bob")]
    assert [[each["customer"] for each in answer["subscriptions"]] for answer in found] == [["bob"], ["bob"]]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("extend", {"days": 91}, "days"),
        ("extend", {}, "days"),
        ("upgrade", {}, "product_id"),
        ("upgrade", {"product_id": "nothing"}, "product_id"),
        ("expire", {"reason": "boredom"}, "reason"),
        ("redeem-offer", {"period": "a while"}, "period"),
        ("redeem-offer", {"effect": "sidegrade"}, "effect"),
        ("enter-grace", {"grace": False}, "grace"),
    ],
)
def test_a_bad_command_names_its_field(client: FlaskClient, path: str, body: dict[str, Any], field: str) -> None:
    answer = client.post(f"{subscribe(client)}/{path}", json=body)
    assert (answer.status_code, answer.get_json()["detail"].split(":")[0]) == (400, field)


def test_a_bad_offer_of_a_purchase_is_refused(client: FlaskClient) -> None:
    for offer in ("half", {"type": "x"}, {"discount": "free_trial", "period": "P0M"}):
        answer = client.post("/_sim/purchases", json={"product_id": MONTHLY, "offer": offer})
        assert (answer.status_code, answer.get_json()["detail"].startswith("offer")) == (400, True)


def test_what_makes_no_sense_is_a_conflict_with_a_sentence(client: FlaskClient) -> None:
    answer = client.post(f"{subscribe(client)}/resume")
    assert (answer.status_code, answer.get_json()["code"]) == (409, "renewing")
    assert answer.get_json()["detail"] == "it renews as it is"


def test_an_unknown_subscription_is_404(client: FlaskClient) -> None:
    assert client.post("/_sim/subscriptions/1/renew").status_code == 404
    assert client.get("/_sim/subscriptions/1").status_code == 404
    assert client.get("/_sim/subscriptions?after=1").status_code == 404


def test_all_who_subscribe_to_a_product_are_extended(client: FlaskClient) -> None:
    subscribe(client)
    answer = client.post("/_sim/extensions", json={"product_id": MONTHLY, "days": 3})
    assert (answer.status_code, answer.get_json()["succeeded"], answer.get_json()["failed"]) == (200, 1, 0)


def test_the_clock_is_set_in_parts(client: FlaskClient) -> None:
    assert client.get("/_sim/clock").get_json() == {"month_s": None, "running": False}
    assert client.put("/_sim/clock", json={"month_s": 60}).get_json() == {"month_s": 60, "running": False}
    assert client.put("/_sim/clock", json={"running": True}).get_json() == {"month_s": 60, "running": True}
    assert client.put("/_sim/clock", json={"month_s": None}).get_json() == {"month_s": None, "running": True}


@pytest.mark.parametrize("body", [{"month_s": 0}, {"month_s": "long"}, {"running": None}, {"speed": 2}])
def test_a_bad_clock_is_refused_and_the_one_in_force_stays(client: FlaskClient, body: dict[str, Any]) -> None:
    answer = client.put("/_sim/clock", json=body)
    assert (answer.status_code, client.get("/_sim/clock").get_json()["month_s"]) == (400, None)


def test_with_a_short_month_subscriptions_live_by_themselves(client: FlaskClient, hook: Receiver) -> None:
    client.put("/_sim/clock", json={"month_s": 0.5, "running": True})
    renewing, cancelled, unpaid = (subscribe(client) for _ in range(3))
    command(client, cancelled, "cancel", notify=False)
    command(client, unpaid, "fail-billing", grace=True, notify=False)

    def told() -> set[tuple[str, str, str | None]]:
        return {
            (
                claims(each["data"]["signedTransactionInfo"])["originalTransactionId"],
                each["notificationType"],
                each.get("subtype"),
            )
            for each in hook.wait_for_posts(0)
        }

    ids = [path.rpartition("/")[2] for path in (renewing, cancelled, unpaid)]
    expected = {
        (ids[0], "DID_RENEW", None),
        (ids[1], "EXPIRED", "VOLUNTARY"),
        (ids[2], "DID_FAIL_TO_RENEW", "GRACE_PERIOD"),
        (ids[2], "GRACE_PERIOD_EXPIRED", None),
        (ids[2], "EXPIRED", "BILLING_RETRY"),
    }
    wait_until(lambda: told() >= expected)
    client.put("/_sim/clock", json={"running": False})
    assert [client.get(each).get_json()["status"] for each in (cancelled, unpaid)] == [2, 2]
