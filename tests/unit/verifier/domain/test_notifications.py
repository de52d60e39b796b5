"""Reading a notification from the claims that the App Store signed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from appstoreserverlibrary.models.NotificationTypeV2 import NotificationTypeV2
from appstoreserverlibrary.models.Subtype import Subtype
from hypothesis import given
from hypothesis import strategies as st

from shared.events import Revoked
from verifier.domain import (
    Act,
    Action,
    AppleNotification,
    AppleRenewalInfo,
    AppleTransaction,
    Intent,
    RecordOnly,
    RecordUnknown,
    Rejected,
    as_notified,
    check_inner,
    intent_of,
    read_notification,
    read_renewal_info,
    read_transaction,
)
from verifier.domain.notifications import NOTIFICATION_TYPES

DATA: dict[str, Any] = {
    "appAppleId": 1234567890,
    "bundleId": "com.example.game",
    "bundleVersion": "1.0",
    "environment": "Production",
    "signedTransactionInfo": "a.b.c",
    "signedRenewalInfo": "d.e.f",
    "status": 1,
}
WITHOUT_TRANSACTION = {name: value for name, value in DATA.items() if not name.startswith("signed")}
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


def test_an_external_purchase_without_an_id_is_of_no_environment() -> None:
    token = {"bundleId": "com.example.game", "environment": "Sandbox"}
    assert read(data=..., externalPurchaseToken=token).environment is None


def test_the_id_of_an_external_purchase_says_nothing_anywhere_else() -> None:
    assert read(data={**DATA, "environment": "Xcode", "externalPurchaseId": "1"}).environment is None
    assert read(data={**DATA, "externalPurchaseId": "SANDBOX_1"}).environment == "production"


def test_an_empty_subtype_is_none() -> None:
    assert read(subtype="").subtype is None


def test_of_several_bodies_the_first_counts_as_in_apples_library() -> None:
    assert read(summary={"bundleId": "com.example.other"}).bundle_id == "com.example.game"


@pytest.mark.parametrize("changes", [{"data": ...}, {"data": None}, {"data": {}}, {"data": {"future": 1}}], ids=str)
def test_what_is_missing_is_none_and_no_error(changes: dict[str, Any]) -> None:
    found = read(**changes, subtype=..., signedDate=...)
    assert (found.environment, found.bundle_id, found.app_apple_id, found.subscription_status) == (None,) * 4
    assert (found.subtype, found.signed_at, found.signed_transaction, found.signed_renewal_info) == (None,) * 4


@pytest.mark.parametrize("environment", ["Xcode", "LocalTesting", "production", ""])
def test_only_production_and_sandbox_are_environments(environment: str) -> None:
    assert read(data={**DATA, "environment": environment}).environment is None


@pytest.mark.parametrize("name", ["data", "summary", "externalPurchaseToken", "appData"])
@pytest.mark.parametrize(
    "body",
    [
        "text",
        [],
        5,
        {"bundleId": 1},
        {"appAppleId": "1"},
        {"appAppleId": 1.5},
        {"appAppleId": 2**63},
        {"environment": ["Production"]},
        {"status": True},
        {"status": 2**31},
        {"externalPurchaseId": 1},
        {"signedTransactionInfo": 5},
        {"signedTransactionInfo": {"transactionId": "2000000277760217"}},
        {"signedRenewalInfo": ["d.e.f"]},
    ],
    ids=str,
)
def test_what_is_of_a_wrong_type_is_malformed_in_every_body(name: str, body: Any) -> None:
    rejected = read_notification(claims(**{name: body}))
    assert isinstance(rejected, Rejected)
    assert rejected.code == "receipt_malformed"


@pytest.mark.parametrize(
    "changes",
    [
        {"transactionId": "2000000277760217"},
        {"autoRenewStatus": 1},
        {"receiptType": "Production"},
        {"notificationType": ...},
        {"notificationType": 1},
        {"notificationType": ""},
        {"notificationType": "A\x00"},
        {"notificationUUID": ...},
        {"notificationUUID": None},
        {"notificationUUID": "x" * 129},
        {"notificationUUID": "x\n"},
        {"subtype": 5},
        {"signedDate": "now"},
        {"signedDate": 10**18},
    ],
    ids=str,
)
def test_what_is_no_notification_is_malformed(changes: dict[str, Any]) -> None:
    rejected = read_notification(claims(**changes))
    assert isinstance(rejected, Rejected)
    assert rejected.code == "receipt_malformed"
    assert len(rejected.detail) < 200


# ---- what is to be done --------------------------------------------------------------------------------------------

SUBTYPES_THAT_APPLES_LIBRARY_LACKS = {"CREATED", "ACTIVE_TOKEN_REMINDER"}

INTENTS: dict[str, tuple[Intent, set[str]]] = {
    "ONE_TIME_CHARGE": (Act("purchase"), set()),
    "REFUND": (Act("refund"), set()),
    "REFUND_REVERSED": (Act("reversed_refund"), set()),
    "REFUND_DECLINED": (Act("declined_refund"), set()),
    "CONSUMPTION_REQUEST": (RecordOnly("refund_request"), set()),
    "REVOKE": (Act("revocation"), set()),
    **dict.fromkeys(
        (
            "SUBSCRIBED",
            "DID_RENEW",
            "DID_CHANGE_RENEWAL_PREF",
            "DID_CHANGE_RENEWAL_STATUS",
            "OFFER_REDEEMED",
            "DID_FAIL_TO_RENEW",
            "GRACE_PERIOD_EXPIRED",
            "EXPIRED",
            "PRICE_INCREASE",
            "RENEWAL_EXTENDED",
        ),
        (Act("subscription"), set()),
    ),
    "RENEWAL_EXTENSION": (RecordOnly("extension"), {"SUMMARY", "FAILURE"}),
    "METADATA_UPDATE": (RecordOnly("commerce"), set()),
    "MIGRATION": (RecordOnly("commerce"), set()),
    "PRICE_CHANGE": (RecordOnly("commerce"), set()),
    "EXTERNAL_PURCHASE_TOKEN": (
        RecordOnly("external_purchase"),
        {"UNREPORTED", "CREATED", "ACTIVE_TOKEN_REMINDER"},
    ),
    "RESCIND_CONSENT": (RecordOnly("consent"), set()),
    "TEST": (RecordOnly("test"), set()),
}


def test_every_type_of_apples_library_has_a_row_and_no_row_is_of_another() -> None:
    """A type that a new version of Apple's library adds fails here until somebody has said what is done about it."""
    assert set(NOTIFICATION_TYPES) == {member.value for member in NotificationTypeV2}


def test_every_subtype_of_apples_library_stands_beside_a_type_and_no_other_does() -> None:
    known = {subtype for row in NOTIFICATION_TYPES.values() for subtype in row.subtypes}
    assert known == {member.value for member in Subtype} | SUBTYPES_THAT_APPLES_LIBRARY_LACKS
    assert {member.value for member in Subtype}.isdisjoint(SUBTYPES_THAT_APPLES_LIBRARY_LACKS)


@pytest.mark.parametrize("notification_type", [member.value for member in NotificationTypeV2])
def test_each_type_under_each_of_its_subtypes_has_its_intent(notification_type: str) -> None:
    intent, subtypes = INTENTS[notification_type]
    bare = {"notificationType": notification_type, "data": WITHOUT_TRANSACTION}
    assert intent_of(read(subtype=..., **bare)) == intent
    every = [member.value for member in Subtype] + sorted(SUBTYPES_THAT_APPLES_LIBRARY_LACKS)
    under = {subtype: intent_of(read(subtype=subtype, **bare)) for subtype in every}
    if isinstance(intent, Act):
        assert set(under.values()) == {intent}
    else:
        assert under == {subtype: intent if subtype in subtypes else RecordUnknown() for subtype in every}


@pytest.mark.parametrize("notification_type", sorted(set(INTENTS)))
def test_whatever_is_known_to_be_about_a_subscription_is_acted_on_when_it_carries_its_transaction(
    notification_type: str,
) -> None:
    intent, _ = INTENTS[notification_type]
    about_subscriptions = {"RENEWAL_EXTENSION", "METADATA_UPDATE", "MIGRATION", "PRICE_CHANGE"}
    expected = Act("subscription") if notification_type in about_subscriptions else intent
    assert intent_of(read(notificationType=notification_type, subtype=...)) == expected


def test_a_type_of_the_future_is_recorded_as_unknown() -> None:
    for notification_type in ("FUTURE_TYPE", "refund", "REVOKED", "CANCEL"):
        assert intent_of(read(notificationType=notification_type)) == RecordUnknown()


def test_a_subtype_of_the_future_keeps_nobody_from_what_is_acted_on_and_is_otherwise_unknown() -> None:
    assert intent_of(read(notificationType="REFUND", subtype="FUTURE")) == Act("refund")
    assert intent_of(read(notificationType="EXPIRED", subtype="FUTURE")) == Act("subscription")
    assert intent_of(read(notificationType="EXTERNAL_PURCHASE_TOKEN", subtype="FUTURE")) == RecordUnknown()


@pytest.mark.parametrize(
    ("notification_type", "subtype", "bodies"),
    [
        ("RENEWAL_EXTENSION", "SUMMARY", {"summary": {"bundleId": "com.example.game", "environment": "Sandbox"}}),
        ("EXTERNAL_PURCHASE_TOKEN", "CREATED", {"externalPurchaseToken": {"externalPurchaseId": "SANDBOX_1"}}),
        ("RESCIND_CONSENT", ..., {"appData": {"environment": "Sandbox", "signedAppTransactionInfo": "a.b.c"}}),
        ("TEST", ..., {"data": {"environment": "Sandbox"}}),
        ("FUTURE_TYPE", ..., {}),
    ],
)
def test_what_has_no_transaction_by_nature_is_recorded_and_nothing_is_missed_in_it(
    notification_type: str, subtype: object, bodies: dict[str, Any]
) -> None:
    found = read(notificationType=notification_type, subtype=subtype, **{"data": ..., **bodies})
    assert not isinstance(intent_of(found), Act)
    assert check_inner(found, None, None) is None


# ---- what is inside ------------------------------------------------------------------------------------------------


def transaction(**changes: Any) -> AppleTransaction:
    """One of the subscription and the app that CLAIMS are about."""
    claims = {
        "transactionId": "2000000277760217",
        "originalTransactionId": "2000000277760000",
        "bundleId": "com.example.game",
        "productId": "com.example.game.vip.monthly",
        "purchaseDate": 1767225600000,
        "expiresDate": 1769904000000,
        "type": "Auto-Renewable Subscription",
        "signedDate": 1767225601500,
        "environment": "Production",
    }
    found = read_transaction(claims | changes)
    assert isinstance(found, AppleTransaction)
    return found


def renewal_info(**changes: Any) -> AppleRenewalInfo:
    claims = {
        "originalTransactionId": "2000000277760000",
        "productId": "com.example.game.vip.monthly",
        "autoRenewStatus": 1,
        "signedDate": 1767225601500,
        "environment": "Production",
    }
    found = read_renewal_info(claims | changes)
    assert isinstance(found, AppleRenewalInfo)
    return found


@pytest.mark.parametrize("notification_type", ["SUBSCRIBED", "REFUND"])
def test_parts_that_belong_together_are_taken(notification_type: str) -> None:
    found = read(notificationType=notification_type)
    assert check_inner(found, transaction(), renewal_info()) is None
    assert check_inner(found, transaction(), None) is None


def test_a_renewal_info_may_be_of_another_product_of_the_same_subscription() -> None:
    assert check_inner(read(), transaction(), renewal_info(productId="com.example.game.vip.yearly")) is None


@pytest.mark.parametrize(
    ("notification_type", "word"),
    [
        ("ONE_TIME_CHARGE", "purchase"),
        ("DID_RENEW", "subscription"),
        ("REFUND", "refund"),
        ("REFUND_REVERSED", "reversed refund"),
        ("REFUND_DECLINED", "declined refund"),
        ("REVOKE", "revocation"),
    ],
)
def test_what_is_acted_on_has_to_carry_its_transaction(notification_type: str, word: str) -> None:
    rejected = check_inner(read(notificationType=notification_type), None, renewal_info())
    assert rejected == Rejected("receipt_malformed", f"a {word} is told without its signed transaction")


@pytest.mark.parametrize(
    ("part", "renewal", "code"),
    [
        (transaction(bundleId="com.example.other"), None, "wrong_app"),
        (transaction(environment="Sandbox"), None, "wrong_environment"),
        (transaction(environment="Sandbox"), renewal_info(environment="Sandbox"), "wrong_environment"),
        (transaction(), renewal_info(environment="Sandbox"), "wrong_environment"),
        (transaction(), renewal_info(originalTransactionId="2000000277760217"), "receipt_malformed"),
    ],
)
def test_a_part_that_belongs_elsewhere_is_refused(
    part: AppleTransaction, renewal: AppleRenewalInfo | None, code: str
) -> None:
    for notification_type in ("DID_RENEW", "FUTURE_TYPE"):
        rejected = check_inner(read(notificationType=notification_type), part, renewal)
        assert isinstance(rejected, Rejected)
        assert rejected.code == code


def test_a_renewal_info_alone_belongs_to_its_notification_too() -> None:
    elsewhere = renewal_info(environment="Sandbox")
    rejected = check_inner(read(notificationType="FUTURE_TYPE"), None, elsewhere)
    assert isinstance(rejected, Rejected)
    assert rejected.code == "wrong_environment"


@pytest.mark.parametrize("data", [{**DATA, "environment": "Xcode"}, {"bundleId": "com.example.game"}], ids=str)
def test_parts_in_a_notification_of_no_environment_are_refused(data: dict[str, Any]) -> None:
    rejected = check_inner(read(data=data), transaction(), None)
    assert isinstance(rejected, Rejected)
    assert rejected.code == "wrong_environment"


# ---- what it says of refunds -------------------------------------------------------------------------------------

AT = datetime(2026, 1, 3, tzinfo=UTC)
SHOWN = {"revocationDate": 1767312000000, "revocationReason": 1, "revocationPercentage": 40_000}
"""What a transaction shows that was refunded in part."""


@pytest.mark.parametrize("shown", [{}, SHOWN], ids=["no fields", "the refund's fields"])
def test_a_reversed_refund_is_none_whatever_fields_its_transaction_has_left(shown: dict[str, Any]) -> None:
    told = as_notified(transaction(**shown), action="reversed_refund", at=AT)
    assert (told.revocation, told.refund_reversed) == (None, True)
    assert told.revoked == Revoked(told.transaction.signed_at, 0, at=told.transaction.signed_at)


def test_a_refund_is_what_its_transaction_shows() -> None:
    refunded = transaction(**SHOWN)
    assert as_notified(refunded, action="refund", at=AT) == refunded


@pytest.mark.parametrize(("action", "cause"), [("refund", "refund"), ("revocation", "family_sharing_ended")])
def test_what_is_taken_back_without_a_word_how_far_is_taken_back_wholly(action: Action, cause: str) -> None:
    told = as_notified(transaction(), action=action, at=AT)
    assert told.revocation is not None
    assert (told.revocation.at, told.revocation.reason, told.revocation.cause) == (AT, "unstated", cause)
    assert told.revoked is not None
    assert told.revoked.percentage_milli == 100_000


def test_what_a_family_member_lost_is_no_refund_whatever_its_transaction_calls_it() -> None:
    told = as_notified(transaction(**SHOWN, revocationType="REFUND_FULL"), action="revocation", at=AT)
    assert told.revocation is not None
    assert (told.revocation.cause, told.revocation.reason) == ("family_sharing_ended", "app_issue")


@pytest.mark.parametrize("action", ["purchase", "subscription", "declined_refund"])
@pytest.mark.parametrize("shown", [{}, SHOWN], ids=["nothing", "a refund"])
def test_any_other_notification_says_no_more_than_its_transaction(action: Action, shown: dict[str, Any]) -> None:
    assert as_notified(transaction(**shown), action=action, at=AT) == transaction(**shown)


JSON = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers())


@given(
    outer=st.dictionaries(st.sampled_from([*CLAIMS, "summary"]), JSON),
    inner=st.dictionaries(st.sampled_from([*DATA, "externalPurchaseId"]), JSON),
)
def test_no_claims_at_all_raise_anything(outer: dict[str, Any], inner: dict[str, Any]) -> None:
    found = read_notification(claims(data=inner, **outer) if "data" not in outer else claims(**outer))
    assert isinstance(found, AppleNotification | Rejected)
