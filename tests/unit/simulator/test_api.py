"""The HTTP contract: what each call answers, and how bad input is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.clock import SystemClock
from simulator.app import Simulator, build, serve
from simulator.notifications import NotificationSender
from simulator.transport import HUGE_BYTES
from tests.support.notification_receiver import Receiver, receiver
from tests.support.seeded import seeded_ids
from tests.support.shop import (
    ADFREE,
    GEMS,
    MONTHLY,
    SHARED_SECRET,
    apples_verifier,
    claims,
    example_apps,
    example_catalog,
)
from tests.support.stack import wait_until


@pytest.fixture(name="hook")
def a_gateway() -> Iterator[Receiver]:
    with receiver() as hook:
        yield hook


@pytest.fixture
def simulator(tmp_path: Path, hook: Receiver) -> Iterator[Simulator]:
    made = build(
        data_dir=tmp_path,
        apps=example_apps(),
        catalog=example_catalog(),
        webhook_url=hook.url,
        retry_compression=3_600_000,
        ids=seeded_ids(5),
    )
    yield made
    made.close()


@pytest.fixture
def client(simulator: Simulator) -> FlaskClient:
    return serve(simulator).test_client()


def buy(client: FlaskClient, **wanted: object) -> dict[str, Any]:
    answer = client.post("/_sim/purchases", json={"product_id": GEMS, "notify": False, **wanted})
    assert answer.status_code == 201, answer.text
    bought: dict[str, Any] = answer.get_json()
    return bought


def test_a_purchase_answers_all_that_an_app_would_hold(client: FlaskClient, simulator: Simulator) -> None:
    answer = client.post("/_sim/purchases", json={"product_id": GEMS, "quantity": 2, "customer": "ann"})
    bought = answer.get_json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/_sim/transactions/{bought['transaction_id']}")
    apple = apples_verifier(simulator.authority.root_der)
    assert apple.verify_and_decode_signed_transaction(bought["signed_transaction"]).quantity == 2
    assert client.post("/verifyReceipt", json={"receipt-data": bought["receipt"]}).get_json()["status"] == 0
    assert (bought["customer"], bought["environment"]) == ("ann", "production")


def test_a_purchase_notifies_the_gateway_unless_told_not_to(client: FlaskClient, hook: Receiver) -> None:
    buy(client)
    sold = buy(client, notify=True)
    (payload,) = hook.wait_for_posts(1)
    assert payload["notificationUUID"] == sold["notification_id"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "product_id"),
        ({"product_id": 7}, "product_id"),
        ({"product_id": "nothing"}, "product_id"),
        ({"product_id": GEMS, "app": "chess"}, "app"),
        ({"product_id": GEMS, "quantity": 11}, "quantity"),
        ({"product_id": GEMS, "quantity": "1"}, "quantity"),
        ({"product_id": GEMS, "quantity": True}, "quantity"),
        ({"product_id": GEMS, "environment": "Xcode"}, "environment"),
        ({"product_id": GEMS, "app_account_token": "alice"}, "app_account_token"),
        ({"product_id": GEMS, "family_shared": True}, "family_shared"),
        ({"product_id": GEMS, "customer": ""}, "customer"),
        ({"product_id": GEMS, "app_account_token": 7}, "app_account_token"),
    ],
)
def test_a_bad_field_is_a_problem_that_names_it(client: FlaskClient, body: object, field: str) -> None:
    answer = client.post("/_sim/purchases", json=body)
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    assert (answer.get_json()["code"], answer.get_json()["type"]) == (
        "malformed-request",
        "/problems/malformed-request",
    )
    assert answer.get_json()["detail"].startswith(f"{field}: ")
    assert answer.get_json()["trace_id"]
    assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    "body", [b"{", b"\xff", b'{"product_id":"gems100"', b"null", b"[]", b'{"product_id":"\\ud800"}', b"[" * 50_000]
)
def test_what_is_no_json_object_is_a_problem(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/_sim/purchases", data=body)
    assert (answer.status_code, answer.get_json()["code"]) == (400, "malformed-request")


def test_fields_that_nobody_knows_are_ignored(client: FlaskClient) -> None:
    assert buy(client, colour="blue")["product_id"] == GEMS


@pytest.mark.parametrize("action", ["refund", "reverse-refund", "decline-refund", "request-refund", "revoke", "finish"])
def test_an_unknown_transaction_is_404(client: FlaskClient, action: str) -> None:
    answer = client.post(f"/_sim/transactions/1/{action}")
    assert (answer.status_code, answer.get_json()["code"]) == (404, "not-found")


def test_a_refund_of_a_part_is_signed_and_told(client: FlaskClient, hook: Receiver) -> None:
    bought = buy(client)
    answer = client.post(f"/_sim/transactions/{bought['transaction_id']}/refund", json={"percent": 40, "reason": 1})
    assert claims(answer.get_json()["signed_transaction"])["revocationPercentage"] == 40_000
    (payload,) = hook.wait_for_posts(1)
    assert payload["notificationType"] == "REFUND"
    assert claims(payload["data"]["signedTransactionInfo"])["revocationType"] == "REFUND_PRORATED"


@pytest.mark.parametrize(
    ("body", "field"), [({"percent": 0}, "percent"), ({"percent": "all"}, "percent"), ({"reason": 2}, "reason")]
)
def test_a_bad_refund_names_its_field_and_refunds_nothing(
    client: FlaskClient, body: dict[str, object], field: str
) -> None:
    bought = buy(client)
    answer = client.post(f"/_sim/transactions/{bought['transaction_id']}/refund", json=body)
    assert (answer.status_code, answer.get_json()["detail"].split(":")[0]) == (400, field)
    assert client.get(f"/_sim/transactions/{bought['transaction_id']}").get_json()["revocation"] is None


def test_what_does_not_fit_what_happened_is_a_conflict(client: FlaskClient) -> None:
    path = f"/_sim/transactions/{buy(client)['transaction_id']}"
    assert client.post(f"{path}/reverse-refund").get_json()["code"] == "not-refunded"
    assert client.post(f"{path}/refund").status_code == 200
    again = client.post(f"{path}/refund")
    assert (again.status_code, again.get_json()["code"]) == (409, "already-revoked")


def test_a_refund_of_no_more_than_before_is_a_conflict_with_a_sentence(client: FlaskClient) -> None:
    path = f"/_sim/transactions/{buy(client)['transaction_id']}/refund"
    assert client.post(path, json={"percent": 33.333}).status_code == 200
    again = client.post(path, json={"percent": 20})
    assert (again.status_code, again.get_json()["code"]) == (409, "already-refunded")
    assert again.get_json()["detail"].startswith("33.333 % of it are refunded already")


@pytest.mark.parametrize(
    ("actions", "notification_type"),
    [
        (["refund", "reverse-refund"], "REFUND_REVERSED"),
        (["request-refund"], "CONSUMPTION_REQUEST"),
        (["request-refund", "decline-refund"], "REFUND_DECLINED"),
        (["revoke"], "REVOKE"),
    ],
)
def test_what_befalls_a_transaction_is_told_with_the_transaction_as_it_is_then(
    client: FlaskClient, hook: Receiver, actions: list[str], notification_type: str
) -> None:
    bought = buy(client, product_id=ADFREE, family_shared="revoke" in actions)
    path = f"/_sim/transactions/{bought['transaction_id']}"
    answers = [client.post(f"{path}/{action}", json={"notify": action == actions[-1]}) for action in actions]
    (payload,) = hook.wait_for_posts(1)
    assert payload["notificationType"] == notification_type
    assert payload["data"]["signedTransactionInfo"] == answers[-1].get_json()["signed_transaction"]


def test_a_transaction_is_shown_as_it_is_now(client: FlaskClient) -> None:
    path = f"/_sim/transactions/{buy(client)['transaction_id']}"
    client.post(f"{path}/refund", json={"notify": False})
    shown = client.get(path).get_json()
    assert shown["revocation"]["kind"] == "REFUND_FULL"
    assert claims(shown["signed_transaction"])["revocationType"] == "REFUND_FULL"


def test_a_finished_consumable_is_in_receipts_no_longer(client: FlaskClient) -> None:
    finished = client.post(f"/_sim/transactions/{buy(client)['transaction_id']}/finish").get_json()
    assert finished["finished"] is True
    assert (
        client.post("/verifyReceipt", json={"receipt-data": finished["receipt"]}).get_json()["receipt"]["in_app"] == []
    )


def test_the_two_addresses_send_each_others_receipts_away(client: FlaskClient) -> None:
    sandbox = {"receipt-data": buy(client, environment="sandbox")["receipt"]}
    production = {"receipt-data": buy(client)["receipt"]}
    assert client.post("/verifyReceipt", json=sandbox).get_json() == {"status": 21007}
    assert client.post("/sandbox/verifyReceipt", json=sandbox).get_json()["environment"] == "Sandbox"
    assert client.post("/sandbox/verifyReceipt", json=production).get_json() == {"status": 21008}


@pytest.mark.parametrize("body", [b"", b"{}", b"nonsense", b'{"receipt-data": 7}', b"[]"])
def test_verify_receipt_answers_nonsense_with_a_status_and_not_with_an_error(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/verifyReceipt", data=body)
    assert (answer.status_code, answer.json) == (200, {"status": 21002})


def test_verify_receipt_takes_posts_only(client: FlaskClient) -> None:
    assert client.get("/verifyReceipt").get_json() == {"status": 21000}


def test_the_secret_is_read_from_apples_field(client: FlaskClient) -> None:
    receipt = buy(client, product_id=MONTHLY)["receipt"]
    asked = {"receipt-data": receipt, "password": SHARED_SECRET, "exclude-old-transactions": True}
    assert client.post("/verifyReceipt", json=asked).get_json()["status"] == 0
    assert client.post("/verifyReceipt", json={"receipt-data": receipt, "password": "no"}).get_json() == {
        "status": 21004
    }


def test_faults_are_shown_as_they_are_in_force(client: FlaskClient) -> None:
    put = {"verify_receipt": {"statuses": [21005, 21009]}, "notifications": {"drop": True, "shuffle": 0.5}}
    assert client.put("/_sim/faults", json=put).get_json()["notifications"] == {
        "duplicate": 0.0,
        "shuffle": 0.5,
        "drop": 1.0,
        "delay_ms": 0,
    }
    assert client.post("/verifyReceipt").get_json() == {"status": 21005}
    assert client.get("/_sim/faults").get_json()["verify_receipt"]["statuses"] == [21009]


@pytest.mark.parametrize(
    ("fault", "status", "begins"),
    [
        ({"http_status": 503}, 503, b""),
        ({"not_json": True}, 200, b"<html>"),
        ({"cut": True}, 200, b'{"st'),
    ],
)
def test_the_transport_can_fail_in_each_way(
    client: FlaskClient, fault: dict[str, object], status: int, begins: bytes
) -> None:
    client.put("/_sim/faults", json={"verify_receipt": fault})
    answer = client.post("/verifyReceipt")
    assert answer.status_code == status
    assert answer.data.startswith(begins)
    assert not answer.data.endswith(b"}")


def test_each_call_can_fail_in_its_own_way(client: FlaskClient) -> None:
    mix = [21005, "http_503", "not_json", "cut", 0]
    client.put("/_sim/faults", json={"verify_receipt": {"statuses": mix}})
    answers = [client.post("/verifyReceipt") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200, 503, 200, 200, 200, 200]
    assert [answer.get_json(silent=True) for answer in answers] == [
        {"status": 21005},
        None,
        None,
        None,
        {"status": 21002},
        {"status": 21002},
    ]


@pytest.mark.parametrize("retryable", [True, False])
def test_an_internal_error_says_whether_to_ask_again(client: FlaskClient, retryable: bool) -> None:
    client.put("/_sim/faults", json={"verify_receipt": {"statuses": [21199], "retryable": retryable}})
    expected = {"environment": "Production", "is-retryable": retryable, "status": 21199}
    assert client.post("/verifyReceipt").get_json() == expected


def test_a_huge_answer_is_larger_than_anybody_should_read_and_good_json_in_the_end(client: FlaskClient) -> None:
    client.put("/_sim/faults", json={"verify_receipt": {"statuses": ["huge"]}})
    pieces = client.post("/verifyReceipt").iter_encoded()
    read, last = 0, b""
    for last in pieces:
        read += len(last)
    assert read > HUGE_BYTES - len(last)
    assert last == b'{"status":21002}'


def test_a_slow_store_answers_late_and_right(client: FlaskClient) -> None:
    clock = SystemClock()
    client.put("/_sim/faults", json={"verify_receipt": {"delay_ms": 60}})
    started = clock.monotonic()
    assert client.post("/verifyReceipt").get_json() == {"status": 21002}
    assert clock.monotonic() - started >= 0.06


@pytest.mark.parametrize(
    ("faults", "field"),
    [
        ({"verify_receipt": {"statuses": ["21005"]}}, "verify_receipt.statuses"),
        ({"verify_receipt": {"delay_ms": -1}}, "verify_receipt.delay_ms"),
        ({"verify_receipt": {"statuses": ["http_200"]}}, "verify_receipt.statuses"),
        ({"verify_receipt": {"statuses": [True]}}, "verify_receipt.statuses"),
        ({"api": {"statuses": [404, 42]}}, "api.statuses"),
        ({"api": {"error_code": 429}}, "api.error_code"),
        ({"api": {"rate_per_s": 0}}, "api.rate_per_s"),
        ({"ocsp": {"status": "bad"}}, "ocsp.status"),
        ({"notifications": {"drop": 1.5}}, "notifications.drop"),
    ],
)
def test_a_bad_fault_names_its_field_and_leaves_the_old_ones(
    client: FlaskClient, faults: dict[str, object], field: str
) -> None:
    client.put("/_sim/faults", json={"notifications": {"delay_ms": 7}})
    answer = client.put("/_sim/faults", json=faults)
    assert answer.status_code == 400
    assert answer.get_json()["detail"].startswith(field)
    assert client.get("/_sim/faults").get_json()["notifications"]["delay_ms"] == 7


def test_notifications_are_listed_page_by_page_with_their_answers(client: FlaskClient) -> None:
    sold = [buy(client, notify=True)["notification_id"] for _ in range(3)]
    wait_until(lambda: all(each["state"] == "delivered" for each in _list(client)["notifications"]))
    first = _list(client, limit=2)
    second = _list(client, limit=2, after=first["next"])
    assert [each["id"] for each in first["notifications"] + second["notifications"]] == sold[::-1]
    assert second["next"] is None
    assert first["notifications"][0]["attempts"][0]["http_status"] == 200


def _list(client: FlaskClient, **query: object) -> dict[str, Any]:
    listed: dict[str, Any] = client.get("/_sim/notifications", query_string=query).get_json()
    return listed


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"limit": "0"}, 400),
        ({"limit": "201"}, 400),
        ({"limit": "²"}, 400),
        ({"after": "x"}, 400),
        ({"after": "00000000-0000-4000-8000-000000000000"}, 404),
    ],
)
def test_a_bad_page_is_refused(client: FlaskClient, query: dict[str, str], status: int) -> None:
    assert client.get("/_sim/notifications", query_string=query).status_code == status


def test_a_notification_can_be_sent_again(client: FlaskClient, hook: Receiver) -> None:
    sold = buy(client, notify=True)
    hook.wait_for_posts(1)
    assert client.post(f"/_sim/notifications/{sold['notification_id']}/resend").status_code == 202
    first, second = hook.wait_for_posts(2)
    assert first == second
    assert client.post("/_sim/notifications/00000000-0000-4000-8000-000000000000/resend").status_code == 404


def test_without_room_for_notifications_the_answer_is_503_with_a_time_to_come_back(simulator: Simulator) -> None:
    full = NotificationSender(
        url="http://127.0.0.1:9/",
        clock=SystemClock(),
        faults=simulator.faults,
        retry_compression=1,
        pending_max=0,
        room_timeout_s=0.01,
    )
    with closing(full):
        answer = (
            serve(replace(simulator, sender=full))
            .test_client()
            .post("/_sim/notifications/00000000-0000-4000-8000-000000000000/resend")
        )
    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_test_notification_goes_to_the_app_that_was_named(client: FlaskClient, hook: Receiver) -> None:
    body = {"app": "quiz", "environment": "sandbox"}
    answer = client.post("/_sim/test-notifications", json=body)
    sent = answer.get_json()
    (payload,) = hook.wait_for_posts(1)
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/_sim/notifications/{sent['id']}")
    assert (payload["notificationType"], payload["notificationUUID"]) == ("TEST", sent["id"])
    assert payload["data"] == {"bundleId": "com.example.quiz", "bundleVersion": "1", "environment": "Sandbox"}
    wait_until(lambda: client.get(answer.headers["Location"]).get_json()["state"] == "delivered")
    assert client.post("/_sim/test-notifications", json={"app": "chess"}).status_code == 400


def test_the_root_is_served_as_it_is_trusted(client: FlaskClient, simulator: Simulator) -> None:
    assert client.get("/_sim/root.pem").data == simulator.authority.root_pem


def test_a_control_body_over_its_limit_is_413_and_a_receipt_may_be_larger(client: FlaskClient) -> None:
    large = {"product_id": "p" * 70_000, "receipt-data": "p" * 70_000}
    refused = client.post("/_sim/purchases", json=large)
    assert (refused.status_code, refused.mimetype) == (413, "application/problem+json")
    assert client.post("/verifyReceipt", json=large).get_json() == {"status": 21002}
    assert client.post("/verifyReceipt", data=b" " * (5 * 1024 * 1024)).status_code == 413


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/_sim/purchases", 405)])
def test_what_is_not_there_is_a_problem_too(client: FlaskClient, method: str, path: str, status: int) -> None:
    answer = client.open(path, method=method)
    assert (answer.status_code, answer.mimetype, answer.get_json()["status"]) == (
        status,
        "application/problem+json",
        status,
    )


def test_it_says_that_it_is_well(client: FlaskClient) -> None:
    assert client.get("/healthz").get_json() == {"status": "ok"}
