"""The App Store's notifications come in: authentic and ours, or not at all."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from shared.ids import notification_subject
from tests.support.apple_pki import Certificate, Chain, malleated, sign_hs256
from tests.support.gateway import APP_APPLE_ID, BUNDLE_ID, Gateway, apps_file, gateway_on, notification_claims

OURS = {"bundleId": BUNDLE_ID, "appAppleId": APP_APPLE_ID, "environment": "Production"}


def subject_of(notification_id: str) -> str:
    return notification_subject(app="game", store="apple", notification_id=notification_id)


def post(gateway: Gateway, signed_payload: Any) -> TestResponse:
    return gateway.client().post("/webhooks/apple", json={"signedPayload": signed_payload})


def recorded(gateway: Gateway) -> int:
    return int(gateway.bus.execute("select count(*) from journal.event where type = 'notification.received'")[0][0])


def test_a_notification_is_in_the_journal_when_it_is_answered(gateway: Gateway) -> None:
    signed = gateway.signed_notification(notificationUUID="n-1", subtype="BILLING_RECOVERY")
    response = post(gateway, signed)
    assert (response.status_code, response.data) == (200, b"")
    payload = {
        "store": "apple",
        "notification_id": "n-1",
        "notification_type": "REFUND",
        "subtype": "BILLING_RECOVERY",
        "signed_payload": signed,
        "original_transaction_id": None,
    }
    assert gateway.events(subject_of("n-1")) == [("notification.received", payload)]


def test_a_repeat_is_answered_like_the_first_and_recorded_once(gateway: Gateway) -> None:
    signed = gateway.signed_notification(notificationUUID="n-2")
    with ThreadPoolExecutor(8) as pool:
        statuses = set(pool.map(lambda _: post(gateway, signed).status_code, range(20)))
    statuses.add(post(gateway, malleated(signed)).status_code)
    assert statuses == {200}
    assert len(gateway.events(subject_of("n-2"))) == 1


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (10, {"notificationType": "WHAT_APPLE_ADDS_NEXT_YEAR", "surprise": {"deep": [1]}}),
        (11, {"data": {"bundleId": BUNDLE_ID, "environment": "Sandbox"}}),
        (12, {"data": None, "summary": OURS}),
        (13, {"data": None, "appData": OURS}),
        (14, {"data": None, "externalPurchaseToken": {"bundleId": BUNDLE_ID, "externalPurchaseId": "SANDBOX_1"}}),
        (15, {"notificationType": "TEST", "subtype": None}),
        (16, {"notificationType": "REFUND", "subtype": 5}),
        (17, {"notificationType": "REFUND", "subtype": "a\x00b"}),
        (18, {"notificationType": "A new type, with words"}),
        (19, {"notificationType": None}),
        (20, {"notificationType": 5}),
        (21, {"surprise": "\x00", "data": {**OURS, "\x00": {"text": "\x00"}}}),
        (22, {"data": {**OURS, "environment": "Tomorrow"}}),
    ],
)
def test_whatever_the_store_tells_us_is_recorded(gateway: Gateway, number: int, changes: dict[str, Any]) -> None:
    response = post(gateway, gateway.signed_notification(notificationUUID=f"n-{number}", **changes))
    assert response.status_code == 200
    assert len(gateway.events(subject_of(f"n-{number}"))) == 1


OF_APPLE: list[tuple[str, str | None, dict[str, Any]]] = [
    ("TEST", None, {"data": OURS}),
    ("ONE_TIME_CHARGE", None, {"data": {**OURS, "signedTransactionInfo": "a.b.c"}}),
    ("SUBSCRIBED", "INITIAL_BUY", {"data": {**OURS, "signedTransactionInfo": "a.b.c", "status": 1}}),
    ("CONSUMPTION_REQUEST", None, {"data": {**OURS, "consumptionRequestReason": "OTHER"}}),
    ("RENEWAL_EXTENSION", "SUMMARY", {"summary": {**OURS, "succeededCount": 3, "failedCount": 0}}),
    ("EXTERNAL_PURCHASE_TOKEN", "UNREPORTED", {"externalPurchaseToken": {**OURS, "externalPurchaseId": "1"}}),
    ("EXTERNAL_PURCHASE_TOKEN", "CREATED", {"externalPurchaseToken": {"appAppleId": APP_APPLE_ID}}),
    ("RESCIND_CONSENT", None, {"appData": {**OURS, "signedAppTransactionInfo": "a.b.c"}}),
]
"""Each kind of thing that the App Store sends (responseBodyV2DecodedPayload), among them those without `data`."""


@pytest.mark.parametrize(("number", "told"), [*enumerate(OF_APPLE, start=30)])
def test_every_kind_of_notification_is_recorded_as_what_it_is(
    gateway: Gateway, number: int, told: tuple[str, str | None, dict[str, Any]]
) -> None:
    notification_type, subtype, carrier = told
    changes = {"notificationType": notification_type, "subtype": subtype, "data": None, **carrier}
    assert post(gateway, gateway.signed_notification(notificationUUID=f"n-{number}", **changes)).status_code == 200
    ((_, payload),) = gateway.events(subject_of(f"n-{number}"))
    assert (payload["notification_type"], payload["subtype"]) == (notification_type, subtype)


def test_a_notification_without_an_id_is_recorded_once(gateway: Gateway) -> None:
    before = recorded(gateway)
    signed = gateway.signed_notification(notificationUUID=None)
    for repeat in (signed, signed, malleated(signed)):
        assert post(gateway, repeat).status_code == 200
    assert recorded(gateway) == before + 1
    assert post(gateway, gateway.signed_notification(notificationUUID="a\x00b")).status_code == 200
    assert recorded(gateway) == before + 2


def test_an_app_that_takes_nothing_from_the_sandbox_is_told_of_it_all_the_same(
    module_database: str, tmp_path: Path
) -> None:
    strict = apps_file(tmp_path, api_key=False)
    strict.write_text(strict.read_text().replace('sandbox = "separate"', 'sandbox = "refuse"'))
    with gateway_on(module_database, tmp_path, changes={"apps_file": strict}) as refusing:
        signed = refusing.signed_notification(
            notificationUUID="n-50", data={"bundleId": BUNDLE_ID, "environment": "Sandbox"}
        )
        assert post(refusing, signed).status_code == 200
        assert len(refusing.events(subject_of("n-50"))) == 1


@pytest.mark.parametrize(
    "carrier",
    [
        {"data": {**OURS, "bundleId": "com.example.other"}},
        {"data": {"appAppleId": 1, "environment": "Production"}},
        {"data": {**OURS, "appAppleId": 1}},
        {"data": {"bundleId": BUNDLE_ID, "environment": "Production"}},
        {"data": None},
    ],
)
def test_what_the_store_tells_somebody_else_is_not_ours(gateway: Gateway, carrier: dict[str, Any]) -> None:
    before = recorded(gateway)
    response = post(gateway, gateway.signed_notification(**carrier))
    assert (response.status_code, (response.json or {})["code"]) == (401, "unauthorized")
    assert recorded(gateway) == before


def test_only_the_store_can_sign(gateway: Gateway) -> None:
    claims = notification_claims(now=gateway.clock.now())
    unmarked = Chain(leaf_recipe=Certificate("Developer", key="p256", ca=False, key_usage="sign_data"))
    leaf = gateway.chain.leaf
    before = recorded(gateway)
    for forged in (
        Chain().sign(claims),
        unmarked.sign(claims),
        sign_hs256(leaf.der, gateway.chain.header(alg="HS256"), claims),
        gateway.chain.sign(claims, alg="none"),
    ):
        response = post(gateway, forged)
        assert response.status_code in {400, 401}
        assert (response.json or {})["detail"].startswith("signedPayload: ")
    assert recorded(gateway) == before


def test_a_forged_chain_is_unauthorized_with_a_challenge(gateway: Gateway) -> None:
    response = post(gateway, Chain().sign(notification_claims(now=gateway.clock.now())))
    assert response.status_code == 401
    assert "WWW-Authenticate" in response.headers


@pytest.mark.parametrize("signed_payload", ["", "a.b.c", "x" * 1000, 5, None, ["a"], {}])
def test_what_is_no_jws_is_malformed(gateway: Gateway, signed_payload: Any) -> None:
    response = post(gateway, signed_payload)
    assert (response.status_code, (response.json or {})["code"]) == (400, "malformed-request")
    assert "signedPayload" in (response.json or {})["detail"]


def test_half_a_notification_is_malformed(gateway: Gateway) -> None:
    signed = gateway.signed_notification()
    assert post(gateway, signed[: len(signed) // 2]).status_code == 400


def test_a_signed_notification_that_does_not_say_whom_it_is_for_is_malformed(gateway: Gateway) -> None:
    before = recorded(gateway)
    response = post(gateway, gateway.signed_notification(data="text"))
    assert (response.status_code, "data" in (response.json or {})["detail"]) == (400, True)
    assert recorded(gateway) == before


def test_a_transaction_is_not_taken_for_a_notification(gateway: Gateway) -> None:
    assert post(gateway, gateway.signed_transaction()).status_code == 401


def test_more_than_a_notification_can_be_is_too_large(gateway: Gateway) -> None:
    body = json.dumps({"signedPayload": "x" * 256 * 1024})
    response = gateway.client().post("/webhooks/apple", data=body)
    assert (response.status_code, (response.json or {})["code"]) == (413, "body-too-large")
