"""Which app a verified notification is for, and what is recorded of it."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest

from shared.apps import App, AppleApp, Apps
from shared.ids import AppId
from shared.notifications import (
    UNSTATED,
    NotificationInvalid,
    NotificationRejected,
    addressee,
    notification_of,
)

GAME = App(id=AppId("game"), name="Game", apple=AppleApp(bundle_id="com.example.game", app_apple_id=1))
QUIZ = App(id=AppId("quiz"), name="Quiz", apple=AppleApp(bundle_id="com.example.quiz"))
APPS = Apps.of((GAME, QUIZ))
PRODUCTION = {"bundleId": "com.example.game", "appAppleId": 1, "environment": "Production"}
SANDBOX = {"bundleId": "com.example.game", "environment": "Sandbox"}


def sealed(claims: dict[str, Any]) -> str:
    """A JWS that says so, whoever signed it."""
    header, payload = (
        urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({"alg": "ES256"}, claims)
    )
    return f"{header}.{payload}.c2ln"


@pytest.mark.parametrize(
    ("claims", "app"),
    [
        ({"data": PRODUCTION}, GAME),
        ({"data": SANDBOX}, GAME),
        ({"summary": PRODUCTION}, GAME),
        ({"appData": PRODUCTION}, GAME),
        ({"data": None, "summary": PRODUCTION}, GAME),
        ({"externalPurchaseToken": {**PRODUCTION, "externalPurchaseId": "1"}}, GAME),
        ({"externalPurchaseToken": {"bundleId": "com.example.game", "externalPurchaseId": "SANDBOX_1"}}, GAME),
        ({"externalPurchaseToken": {"appAppleId": 1, "externalPurchaseId": "1"}}, GAME),
        ({"externalPurchaseToken": {"appAppleId": 1, "externalPurchaseId": "SANDBOX_1", "bundleId": None}}, GAME),
        ({"data": {"bundleId": "com.example.quiz", "appAppleId": 77, "environment": "Production"}}, QUIZ),
    ],
)
def test_whatever_a_notification_carries_names_its_app(claims: dict[str, Any], app: App) -> None:
    assert addressee(claims, apps=APPS) == app


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"data": {}},
        {"data": {**PRODUCTION, "bundleId": "com.example.other"}},
        {"data": {**PRODUCTION, "bundleId": ["com.example.game"]}},
        {"data": {**PRODUCTION, "appAppleId": 2}},
        {"data": {**PRODUCTION, "appAppleId": 2, "externalPurchaseId": "SANDBOX_1"}},
        {"data": {"appAppleId": 2, "environment": "Production"}},
        {"data": {"appAppleId": True, "environment": "Production"}},
        {"data": {"appAppleId": None, "environment": "Sandbox"}},
        {"data": {**PRODUCTION, "bundleId": ""}},
        {"data": {**PRODUCTION, "appAppleId": "1"}},
        {"data": {**PRODUCTION, "appAppleId": True}},
        {"data": {"bundleId": "com.example.game", "environment": "Production"}},
        {"data": {"bundleId": "com.example.game", "environment": "Xcode"}},
        {"data": {"bundleId": "com.example.game"}},
        {"data": {**PRODUCTION, "bundleId": "com.example.other"}, "summary": PRODUCTION},
        {"externalPurchaseToken": {"bundleId": "com.example.game", "externalPurchaseId": "1"}},
    ],
)
def test_a_notification_for_no_app_of_ours_is_rejected(claims: dict[str, Any]) -> None:
    with pytest.raises(NotificationRejected):
        addressee(claims, apps=APPS)


@pytest.mark.parametrize("carrier", ["data", "summary", "externalPurchaseToken", "appData"])
def test_what_should_be_an_object_and_is_not_is_malformed(carrier: str) -> None:
    with pytest.raises(NotificationInvalid, match=carrier):
        addressee({carrier: "text"}, apps=APPS)


CLAIMS = {"notificationUUID": "002e14d5-51f5-4503-b5a8-c3a1af68eb20", "notificationType": "REFUND"}


@pytest.mark.parametrize("notification_type", ["REFUND", "SOMETHING_THAT_APPLE_ADDS_NEXT_YEAR", "new.kind-2", "новый"])
def test_any_type_is_recorded_known_or_not(notification_type: str) -> None:
    notification = notification_of({**CLAIMS, "notificationType": notification_type}, signed_payload="a.b.c")
    assert notification.notification_type == notification_type
    assert notification.notification_id == CLAIMS["notificationUUID"]
    assert notification.subtype is None
    assert notification.signed_payload == "a.b.c"


def test_a_subtype_is_recorded() -> None:
    assert notification_of({**CLAIMS, "subtype": "VOLUNTARY"}, signed_payload="").subtype == "VOLUNTARY"


UNFIT: list[object] = [None, "", 5, ["REFUND"], {}, True, "x" * 101, "a\x00b", "line\n", "\ud800"]


@pytest.mark.parametrize("value", UNFIT)
def test_a_type_or_subtype_that_cannot_be_kept_is_left_to_the_signed_text(value: object) -> None:
    notification = notification_of({**CLAIMS, "notificationType": value, "subtype": value}, signed_payload="a.b.c")
    assert (notification.notification_type, notification.subtype) == (UNSTATED, None)
    assert notification_of({"notificationUUID": "1"}, signed_payload="a.b.c").notification_type == UNSTATED


@pytest.mark.parametrize("value", [*UNFIT, "a b", "x" * 65])
def test_a_notification_without_an_id_is_told_by_what_was_signed(value: object) -> None:
    claims = {**CLAIMS, "notificationUUID": value}
    ids = [notification_of(claims, signed_payload=text).notification_id for text in ("a.b.c", "a.b.d", "a.x.c")]
    assert ids[0] == ids[1] != ids[2]
    assert len(ids[0]) == 64


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"signedTransactionInfo": sealed({"originalTransactionId": "2000000000000001"})}, "2000000000000001"),
        ({"signedTransactionInfo": sealed({"originalTransactionId": 2000000000000001})}, None),
        ({"signedTransactionInfo": sealed({"originalTransactionId": "x" * 65})}, None),
        ({"signedTransactionInfo": sealed({})}, None),
        ({"signedTransactionInfo": "no JWS"}, None),
        ({"signedTransactionInfo": 7}, None),
        ({}, None),
    ],
)
def test_it_names_the_first_transaction_of_what_it_is_about_where_one_can_be_read(
    data: dict[str, Any], found: str | None
) -> None:
    claims = {"notificationUUID": "n", "notificationType": "REFUND", "data": PRODUCTION | data}
    assert notification_of(claims, signed_payload="a.b.c").original_transaction_id == found
    assert notification_of({"summary": PRODUCTION}, signed_payload="a.b.c").original_transaction_id is None
