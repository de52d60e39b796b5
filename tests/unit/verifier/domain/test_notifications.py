"""Reading a notification from the claims that the App Store signed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.domain import AppleNotification, Rejected, read_notification

DATA: dict[str, Any] = {
    "appAppleId": 1234567890,
    "bundleId": "com.example.game",
    "bundleVersion": "1.0",
    "environment": "Production",
    "signedTransactionInfo": "a.b.c",
    "signedRenewalInfo": "d.e.f",
    "status": 1,
}
CLAIMS: dict[str, Any] = {
    "notificationType": "SUBSCRIBED",
    "subtype": "INITIAL_BUY",
    "notificationUUID": "002e14d5-51f5-4503-b5a8-c3a1af68eb20",
    "version": "2.0",
    "signedDate": 1767225601500,
    "data": DATA,
}


def claims(**changes: Any) -> dict[str, Any]:
    """The claims, changed; `...` takes one out."""
    return {name: value for name, value in {**CLAIMS, **changes}.items() if value is not ...}


def read(**changes: Any) -> AppleNotification:
    found = read_notification(claims(**changes))
    assert isinstance(found, AppleNotification)
    return found


def test_every_fact_of_a_notification_is_read() -> None:
    assert read() == AppleNotification(
        notification_id="002e14d5-51f5-4503-b5a8-c3a1af68eb20",
        notification_type="SUBSCRIBED",
        subtype="INITIAL_BUY",
        signed_at=datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC),
        environment="production",
        bundle_id="com.example.game",
        app_apple_id=1234567890,
        signed_transaction="a.b.c",
        signed_renewal_info="d.e.f",
        subscription_status=1,
    )


def test_a_test_notification_has_an_app_and_no_transaction() -> None:
    found = read(notificationType="TEST", subtype=..., version=..., data={"bundleId": "x", "environment": "Sandbox"})
    assert (found.bundle_id, found.environment) == ("x", "sandbox")
    assert (found.subtype, found.app_apple_id, found.signed_transaction) == (None, None, None)


def test_types_and_subtypes_of_the_future_are_kept() -> None:
    found = read(notificationType="FUTURE_TYPE", subtype="FUTURE_SUBTYPE")
    assert (found.notification_type, found.subtype) == ("FUTURE_TYPE", "FUTURE_SUBTYPE")


@pytest.mark.parametrize("name", ["summary", "appData"])
def test_a_notification_without_data_says_elsewhere_which_app_it_is_about(name: str) -> None:
    found = read(data=..., **{name: {"bundleId": "com.example.game", "appAppleId": 5, "environment": "Sandbox"}})
    assert (found.bundle_id, found.app_apple_id, found.environment) == ("com.example.game", 5, "sandbox")


@pytest.mark.parametrize(("token_id", "environment"), [("SANDBOX_1", "sandbox"), ("1", "production")])
def test_the_environment_of_an_external_purchase_is_in_its_id(token_id: str, environment: str) -> None:
    found = read(data=..., externalPurchaseToken={"externalPurchaseId": token_id, "bundleId": "com.example.game"})
    assert (found.bundle_id, found.environment) == ("com.example.game", environment)


def test_of_several_bodies_the_first_counts_as_in_apples_library() -> None:
    assert read(summary={"bundleId": "com.example.other"}).bundle_id == "com.example.game"


@pytest.mark.parametrize(
    "changes",
    [
        {"data": ...},
        {"data": "text"},
        {"data": []},
        {"data": {}},
        {"data": {"bundleId": 1, "appAppleId": "1", "environment": "Xcode", "status": True}},
    ],
    ids=str,
)
def test_what_is_missing_or_of_the_wrong_type_is_none_and_no_error(changes: dict[str, Any]) -> None:
    found = read(**changes, subtype=..., signedDate=...)
    assert (found.environment, found.bundle_id, found.app_apple_id, found.subscription_status) == (None,) * 4
    assert (found.subtype, found.signed_at, found.signed_transaction) == (None, None, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"transactionId": "2000000277760217"},
        {"notificationType": ...},
        {"notificationType": 1},
        {"notificationType": ""},
        {"notificationType": "A\x00"},
        {"notificationUUID": ...},
        {"notificationUUID": None},
        {"notificationUUID": "x" * 129},
    ],
    ids=str,
)
def test_what_is_no_notification_is_malformed(changes: dict[str, Any]) -> None:
    rejected = read_notification(claims(**changes))
    assert isinstance(rejected, Rejected)
    assert rejected.code == "receipt_malformed"


JSON = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers())


@given(
    outer=st.dictionaries(st.sampled_from([*CLAIMS, "summary"]), JSON),
    inner=st.dictionaries(st.sampled_from([*DATA, "externalPurchaseId"]), JSON),
)
def test_no_claims_at_all_raise_anything(outer: dict[str, Any], inner: dict[str, Any]) -> None:
    found = read_notification(claims(data=inner, **outer) if "data" not in outer else claims(**outer))
    assert isinstance(found, AppleNotification | Rejected)
