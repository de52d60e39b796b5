"""Reading answers of verifyReceipt: the whole table of statuses, and what a valid receipt holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.apps import AppleApp
from shared.events import Environment, Offer, Period, ProductType, RejectionCode, Renewal, StoreTransaction
from shared.ids import TransactionId, UserId
from verifier.domain import (
    AppleTransaction,
    KnownTransaction,
    ReceiptAnswer,
    ReceiptRefused,
    ReceiptValid,
    Rejected,
    Revocation,
    StoreBusy,
    StoreMisconfigured,
    UseProduction,
    UseSandbox,
    Verified,
    check_app,
    decide_claim,
    read_receipt_answer,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CATALOGUE: dict[str, ProductType] = {
    "com.example.game.gems100": "consumable",
    "com.example.game.season": "non_renewing",
    "com.example.game.adfree": "non_consumable",
    "com.example.game.vip": "auto_renewable",
}
ROW: dict[str, Any] = {
    "quantity": "2",
    "product_id": "com.example.game.gems100",
    "transaction_id": "1000000001",
    "original_transaction_id": "1000000000",
    "purchase_date": "2026-01-01 00:00:00 Etc/GMT",
    "purchase_date_ms": "1767225600000",
    "original_purchase_date_ms": "1767225600000",
    "is_trial_period": "false",
    "in_app_ownership_type": "PURCHASED",
}


def row(transaction_id: Any = "1000000001", **changes: Any) -> dict[str, Any]:
    changed = {**ROW, "transaction_id": transaction_id, **changes}
    return {name: value for name, value in changed.items() if value is not ...}


def answer(*in_app: Any, receipt: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A valid answer of production, changed; `...` takes a field out."""
    content = {
        "bundle_id": "com.example.game",
        "adam_id": 1234567890,
        "request_date_ms": "1767225660000",
        "in_app": list(in_app),
        **(receipt or {}),
    }
    whole = {"status": 0, "environment": "Production", "receipt": content, **changes}
    return {name: value for name, value in whole.items() if value is not ...}


def read(body: Any, *, asked: Environment = "production") -> ReceiptAnswer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_receipt_answer(raw, asked=asked, answered_at=NOW, product_types=CATALOGUE.get)


def valid(body: Any, *, asked: Environment = "production") -> ReceiptValid:
    found = read(body, asked=asked)
    assert isinstance(found, ReceiptValid)
    return found


def ids(receipt: ReceiptValid) -> list[str]:
    return [each.transaction.transaction_id for each in receipt.transactions]


# ---- statuses ------------------------------------------------------------------------------------------------------


Class = Literal["valid", "other environment", "busy", "busy, then refused", "refused", "misconfigured"]

STATUSES: dict[int, tuple[Class, RejectionCode | None]] = {
    0: ("valid", None),
    21000: ("misconfigured", None),
    21001: ("busy, then refused", "store_refused"),  # "no longer sent"
    21002: ("busy, then refused", "receipt_malformed"),
    21003: ("refused", "receipt_unauthentic"),
    21004: ("misconfigured", None),
    21005: ("busy", None),
    21006: ("refused", "store_refused"),
    21007: ("other environment", None),
    21008: ("other environment", None),
    21009: ("busy", None),
    21010: ("refused", "store_refused"),
    **dict.fromkeys((21100, 21150, 21199), ("busy", None)),
    **dict.fromkeys((-1, 1, 20999, 21011, 21099, 21200, 2**31 - 1), ("busy, then refused", "store_refused")),
}
"""Apple's table (appstorereceipts/status) and what is not in it. A receipt that is busy is never refused for it."""


def class_of(found: ReceiptAnswer) -> tuple[Class, RejectionCode | None]:
    match found:
        case ReceiptValid():
            return "valid", None
        case UseSandbox() | UseProduction():
            return "other environment", None
        case StoreMisconfigured():
            return "misconfigured", None
        case ReceiptRefused(code=code):
            return "refused", code
        case StoreBusy(persisting=None):
            return "busy", None
        case StoreBusy(persisting=ReceiptRefused(code=code)):
            return "busy, then refused", code
    raise AssertionError(found)


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_is_of_its_class_and_is_told_as_the_stores_own(status: int) -> None:
    found = read(answer(row(), status=status))
    assert class_of(found) == STATUSES[status]
    if isinstance(found, ReceiptRefused | StoreMisconfigured | StoreBusy):
        assert found.status == status
    if isinstance(found, StoreBusy) and found.persisting is not None:
        assert found.persisting.status == status


def test_a_receipt_of_the_other_environment_is_sent_there() -> None:
    assert read({"status": 21007}) == UseSandbox()
    assert read({"status": 21008}) == UseProduction()


@pytest.mark.parametrize("status", [status for status in STATUSES if status])
def test_a_status_counts_whatever_else_is_in_the_answer(status: int) -> None:
    """Answers of iOS 6 style have a receipt of another shape, and errors have none."""
    bare = read({"status": status})
    others: list[dict[str, Any]] = [
        {"receipt": "text", "exception": "java.lang.Exception"},
        {"receipt": []},
        {"environment": 5},
        {"latest_receipt_info": {"quantity": "1"}},
    ]
    assert [read({"status": status, **other}) for other in others] == [bare] * len(others)


@pytest.mark.parametrize("name", ["is_retryable", "is-retryable"])
@pytest.mark.parametrize("status", [21100, 21150, 21199])
@pytest.mark.parametrize(
    ("value", "retryable"),
    [(True, True), (1, True), ("1", True), ("true", True), (False, False), (0, False), ("0", False), ("false", False)],
)
def test_an_internal_error_is_tried_again_unless_the_store_says_that_it_is_in_vain(
    name: str, status: int, value: object, retryable: bool
) -> None:
    found = read({"status": status, name: value})
    assert isinstance(found, StoreBusy if retryable else ReceiptRefused)
    assert found.status == status


def test_an_internal_error_of_which_the_store_says_no_more_is_tried_again() -> None:
    assert isinstance(read({"status": 21100}), StoreBusy)


@pytest.mark.parametrize("status", [status for status in STATUSES if not 21100 <= status <= 21199])
def test_outside_of_internal_errors_it_does_not_count_whether_the_store_calls_it_retryable(status: int) -> None:
    for name in ("is_retryable", "is-retryable"):
        for value in (True, "0", "perhaps"):
            said = answer(row(), status=status) | {name: value}
            assert class_of(read(said)) == STATUSES[status]


def test_an_internal_error_is_refused_if_either_spelling_says_that_trying_again_is_in_vain() -> None:
    assert isinstance(read({"status": 21100, "is_retryable": True, "is-retryable": "0"}), ReceiptRefused)
    assert isinstance(read({"status": 21100, "is_retryable": 0, "is-retryable": "1"}), ReceiptRefused)
    assert isinstance(read({"status": 21100, "is_retryable": None, "is-retryable": None}), StoreBusy)


def test_a_status_in_text_is_a_status() -> None:
    assert read({"status": "21007"}) == UseSandbox()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502 Bad Gateway</html>",
        b"[]",
        b"null",
        b"{}",
        b'{"status": 0',
        b'{"status": "busy"}',
        b'{"status": null}',
        b'{"status": true}',
        b'{"status": 0.5}',
        b'{"status": 1e999}',
        b'{"status": 21003}{"status": 0}',
        b'\xef\xbb\xbf{"status": 21003}',
        '{"status": 21003}'.encode("utf-16"),
        {"status": 2**31},
        {"status": 10**4000},
        {"status": [0]},
        {"status": 21100, "is_retryable": "perhaps"},
        json.dumps(answer(row())).encode()[:-1],
        json.dumps(answer(row())).encode()[:-200],
        b"\xff\xfe",
        b"[" * 100_000,
        answer(receipt={"bundle_id": None}),
        {"status": 0},
        {"status": 0, "receipt": None},
        answer(receipt={"in_app": None}),
        answer(receipt={"in_app": ["row"]}),
        answer({name: value for name, value in ROW.items() if name != "transaction_id"}),
        answer(row(product_id=...)),
        answer(row(purchase_date_ms=...)),
        answer(row(purchase_date_ms="soon")),
        answer(row(purchase_date_ms="nan")),
        answer(row(purchase_date_ms="inf")),
        answer(row(purchase_date_ms="-1")),
        answer(row(purchase_date_ms="1" + "0" * 5000)),
        answer(row(cancellation_date_ms="")),
        answer(row(cancellation_date=5)),
        answer(row(expires_date_ms="soon")),
        answer(row(is_trial_period="perhaps")),
        answer(row(web_order_line_item_id=77)),
        answer(row(subscription_group_identifier="a b")),
        answer(row(promotional_offer_id="\x00")),
        answer(row(quantity="many")),
        answer(row(quantity="")),
        answer(row(quantity="1.5")),
        answer(row(quantity="9" * 5000)),
        answer(row(quantity=2**31)),
        answer(row(quantity=True)),
        answer(row(transaction_id=1000000001)),
        answer(row(transaction_id="1\x00")),
        answer(row(transaction_id="1\n")),
        answer(row(transaction_id="")),
        answer(row(transaction_id="' OR 1=1")),
        answer(row(product_id="com.example.game.gems100\u202e")),
        answer(row(product_id={"$ne": None})),
        answer(row(), receipt={"bundle_id": "com.example.game\n"}),
        answer(row(), receipt={"adam_id": "9" * 5000}),
        answer(row(), receipt={"adam_id": 1.5}),
        answer(row(), receipt={"request_date_ms": "1e300"}),
        answer(row(), latest_receipt_info="none"),
        answer(row(), latest_receipt_info={"0": row()}),
        answer(row(), latest_receipt_info=[None]),
    ],
    ids=lambda body: repr(body)[:60] if isinstance(body, bytes) else None,
)
def test_what_is_no_answer_of_the_store_is_tried_again_and_never_held_against_the_receipt(body: Any) -> None:
    busy = read(body)
    assert isinstance(busy, StoreBusy)
    assert (busy.status, busy.persisting) == (None, None)
    assert len(busy.reason) < 200


# ---- valid receipts ------------------------------------------------------------------------------------------------


def test_every_fact_of_a_row_is_read() -> None:
    receipt = valid(answer(row(app_account_token="7E3FB204-2F53-4B1E-A29C-6B19CDFB0A1B")))
    assert (receipt.environment, receipt.bundle_id, receipt.app_apple_id) == (
        "production",
        "com.example.game",
        1234567890,
    )
    (statement,) = receipt.transactions
    transaction = statement.transaction
    assert (transaction.transaction_id, transaction.original_transaction_id) == ("1000000001", "1000000000")
    assert (transaction.product_id, transaction.product_type) == ("com.example.game.gems100", "consumable")
    assert (transaction.quantity, transaction.environment) == (2, "production")
    assert transaction.purchased_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert transaction.signed_at == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert statement.bundle_id == "com.example.game"
    assert statement.app_account_token == UUID("7e3fb204-2f53-4b1e-a29c-6b19cdfb0a1b")
    assert (statement.in_app_ownership_type, statement.revocation) == ("PURCHASED", None)


def test_what_a_row_may_leave_out_has_the_value_that_it_means() -> None:
    bare = row(quantity=..., original_transaction_id=..., in_app_ownership_type=...)
    (statement,) = valid(answer(bare)).transactions
    assert statement.transaction.original_transaction_id == statement.transaction.transaction_id
    assert statement.transaction.quantity == 1
    assert statement.in_app_ownership_type == "PURCHASED"


def test_an_answer_without_a_date_is_dated_by_when_it_came() -> None:
    (statement,) = valid(answer(row(), receipt={"request_date_ms": None})).transactions
    assert statement.transaction.signed_at == NOW


def test_numbers_may_come_as_numbers() -> None:
    (statement,) = valid(answer(row(quantity=3, purchase_date_ms=1767225600000))).transactions
    assert statement.transaction.quantity == 3


def test_a_receipt_without_purchases_is_valid_and_holds_none() -> None:
    assert valid(answer()).transactions == ()


def test_every_unfinished_consumable_is_there_in_any_order() -> None:
    assert ids(valid(answer(row("3"), row("1"), row("2")))) == ["3", "1", "2"]


def test_both_lists_are_read_and_a_transaction_in_both_is_there_once_with_what_the_second_adds() -> None:
    richer = row("1", app_account_token="7e3fb204-2f53-4b1e-a29c-6b19cdfb0a1b")
    receipt = valid(answer(row("1"), row("2"), latest_receipt_info=[richer, row("3")]))
    assert ids(receipt) == ["1", "2", "3"]
    assert receipt.transactions[0].app_account_token == UUID("7e3fb204-2f53-4b1e-a29c-6b19cdfb0a1b")


def test_of_two_rows_of_one_transaction_the_cancelled_one_counts_wherever_it_stands() -> None:
    cancelled = row("1", cancellation_date_ms="1767312000000", cancellation_reason="1")
    expected = Revocation(at=datetime(2026, 1, 2, tzinfo=UTC), reason="app_issue", says_how_much=False)
    for first, second in ((cancelled, row("1")), (row("1"), cancelled)):
        (statement,) = valid(answer(first, latest_receipt_info=[second])).transactions
        assert statement.revocation == expected


@pytest.mark.parametrize("changes", [{"product_id": "com.example.game.gems550"}, {"quantity": "10"}], ids=str)
@pytest.mark.parametrize("where", ["in_app", "latest_receipt_info"])
def test_two_rows_of_one_transaction_that_would_grant_different_things_are_no_answer(
    where: str, changes: dict[str, Any]
) -> None:
    if where == "in_app":
        body = answer(row("1"), row("2"), row("1", **changes))
    else:
        body = answer(row("1"), row("2"), latest_receipt_info=[row("1", **changes)])
    busy = read(body)
    assert isinstance(busy, StoreBusy)
    assert busy.persisting is None


def test_a_row_that_is_there_twice_is_one_transaction() -> None:
    assert ids(valid(answer(row("1"), row("1"), latest_receipt_info=[row("1")]))) == ["1"]


def test_a_cancellation_without_a_date_in_milliseconds_is_one_by_when_the_store_answered() -> None:
    cancelled = row(cancellation_date="2025-12-31 00:00:00 Etc/GMT", cancellation_reason="0")
    (statement,) = valid(answer(cancelled)).transactions
    taken_back = Revocation(at=datetime(2026, 1, 1, 0, 1, tzinfo=UTC), reason="other", says_how_much=False)
    assert statement.revocation == taken_back


def test_a_cancellation_counts_less_than_the_refunds_own_notification_which_says_how_much() -> None:
    """Whenever the receipt was asked for: what Apple signed of the refund, it signed when it refunded, or later."""
    (statement,) = valid(answer(row(cancellation_date_ms="1767222000000"))).transactions
    assert statement.revoked is not None
    assert statement.revoked.at == datetime(2025, 12, 31, 23, 0, tzinfo=UTC)
    assert statement.revoked.signed_at < statement.revoked.at < statement.transaction.signed_at


def test_an_upgrade_that_ends_a_period_is_no_refund_of_it_in_whichever_list_its_date_stands() -> None:
    """Apple dates both as cancellations, and only `latest_receipt_info` tells them apart."""
    ended = row("1", **VIP, cancellation_date_ms="1767312000000", cancellation_reason="0")
    for in_app in ([ended], []):
        (statement,) = valid(answer(*in_app, latest_receipt_info=[ended | {"is_upgraded": "true"}])).transactions
        assert statement.revocation is None
    (statement,) = valid(answer(latest_receipt_info=[ended | {"is_upgraded": "false"}])).transactions
    assert statement.revocation is not None


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_date_of_cancellation_is_none(nothing: object) -> None:
    (statement,) = valid(answer(row(cancellation_date=nothing))).transactions
    assert statement.revocation is None


@pytest.mark.parametrize("quantity", range(1, 11))
def test_a_quantity_is_read_from_its_text(quantity: int) -> None:
    (statement,) = valid(answer(row(quantity=str(quantity)))).transactions
    assert statement.transaction.quantity == quantity


@pytest.mark.parametrize("quantity", ["0", "-1", "11", "2147483647"])
def test_a_quantity_that_nobody_can_buy_makes_its_claim_malformed_and_spoils_no_other(quantity: str) -> None:
    receipt = valid(answer(row("1", quantity=quantity), row("2")))
    odd, even = (decided(receipt, TransactionId(claimed)) for claimed in ("1", "2"))
    assert isinstance(odd, Rejected)
    assert odd.code == "receipt_malformed"
    assert isinstance(even, Verified)


def decided(receipt: ReceiptValid, claimed: TransactionId) -> Verified | Rejected:
    statement = receipt.find(claimed)
    assert isinstance(statement, AppleTransaction)
    nobodys = KnownTransaction(owner=None, refunded=False)
    return decide_claim(
        transaction=statement.transaction,
        claimed_id=claimed,
        claimant=UserId("alice"),
        known=nobodys,
        token_holder=None,
        product=None,
    )


APP = AppleApp(bundle_id="com.example.game", app_apple_id=1234567890)


@pytest.mark.parametrize(
    ("receipt", "says", "code"),
    [
        ({}, "Production", None),
        ({"adam_id": "1234567890"}, "Production", None),
        ({"bundle_id": "com.example.other"}, "Production", "wrong_app"),
        ({"bundle_id": "COM.EXAMPLE.GAME"}, "Production", "wrong_app"),
        ({"adam_id": 1}, "Production", "wrong_app"),
        ({"adam_id": None}, "Production", "wrong_app"),
        ({"adam_id": 0}, "Sandbox", None),
        ({"bundle_id": "com.example.other"}, "Sandbox", "wrong_app"),
    ],
)
def test_a_valid_receipt_is_of_this_app_by_bundle_and_in_production_by_number(
    receipt: dict[str, Any], says: str, code: str | None
) -> None:
    asked: Environment = "production" if says == "Production" else "sandbox"
    rejected = check_app(valid(answer(row(), receipt=receipt, environment=says), asked=asked), app=APP)
    assert (rejected.code if rejected else None) == code


def test_an_app_that_takes_nothing_from_the_sandbox_takes_no_receipt_from_there() -> None:
    receipt = valid(answer(row(), environment="Sandbox"), asked="sandbox")
    rejected = check_app(receipt, app=APP.model_copy(update={"sandbox": "refuse"}))
    assert rejected is not None
    assert rejected.code == "wrong_environment"


@pytest.mark.parametrize(
    ("product_id", "expires", "product_type"),
    [
        ("com.example.game.gems100", ..., "consumable"),
        ("com.example.game.season", ..., "non_renewing"),
        ("com.example.game.unknown", ..., None),
        ("com.example.game.unknown", "1769904000000", "auto_renewable"),
        ("com.example.game.gems100", "1769904000000", "auto_renewable"),
    ],
)
def test_the_type_of_a_product_is_what_is_evident_or_else_the_catalogues(
    product_id: str, expires: object, product_type: str | None
) -> None:
    (statement,) = valid(answer(row(product_id=product_id, expires_date_ms=expires))).transactions
    assert statement.transaction.product_type == product_type


def test_the_environment_is_the_answers_own_or_else_that_of_the_address() -> None:
    assert valid(answer(row(), environment="Sandbox"), asked="sandbox").environment == "sandbox"
    receipt = valid(answer(row(), environment=...), asked="sandbox")
    assert receipt.environment == receipt.transactions[0].environment == "sandbox"


@pytest.mark.parametrize(("asked", "says"), [("sandbox", "Production"), ("production", "Sandbox")])
def test_a_store_that_answers_for_the_other_is_a_wrong_address(asked: Environment, says: str) -> None:
    assert isinstance(read(answer(row(), environment=says), asked=asked), StoreMisconfigured)


def test_a_receipt_of_xcode_is_refused() -> None:
    refused = read(answer(row(), environment="Xcode"))
    assert isinstance(refused, ReceiptRefused)
    assert refused.code == "wrong_environment"


# ---- subscriptions, and what can be restored ---------------------------------------------------------------------

VIP = {"product_id": "com.example.game.vip", "quantity": "1", "expires_date_ms": "1769904000000"}
ENDS = datetime(2026, 2, 1, tzinfo=UTC)


def stated(changed: dict[str, Any]) -> StoreTransaction:
    (statement,) = valid(answer(changed)).transactions
    return statement.transaction


def test_every_fact_of_a_period_is_read() -> None:
    transaction = stated(row(**VIP, web_order_line_item_id="77", subscription_group_identifier="21000000"))
    assert transaction.period == Period(expires_at=ENDS, group="21000000")
    assert (transaction.charge_id, transaction.family_shared) == ("1000000000/77", False)


@pytest.mark.parametrize(
    ("columns", "offer"),
    [
        ({}, None),
        ({"is_trial_period": "false", "is_in_intro_offer_period": "false"}, None),
        ({"is_trial_period": "true"}, Offer("introductory", discount_type="free_trial")),
        ({"is_in_intro_offer_period": "true"}, Offer("introductory")),
        ({"promotional_offer_id": "back"}, Offer("promotional", "back")),
        ({"promotional_offer_id": "back", "is_trial_period": "true"}, Offer("promotional", "back", "free_trial")),
        ({"offer_code_ref_name": "Spring"}, Offer("offer_code", "Spring")),
        ({"promotional_offer_id": "", "offer_code_ref_name": ""}, None),
    ],
    ids=str,
)
def test_an_offer_is_told_by_its_name_and_a_trial_as_such(columns: dict[str, Any], offer: Offer | None) -> None:
    period = stated(row(**VIP, **columns)).period
    assert period is not None
    assert period.offer == offer
    assert period.is_paid is (columns.get("is_trial_period") != "true")


def test_restored_copies_are_the_same_charge() -> None:
    order = {"web_order_line_item_id": "77"}
    assert stated(row("1", **VIP, **order)).charge == stated(row("2", **VIP, **order)).charge
    assert stated(row("1", **VIP)).charge == "1000000000@1767225600000"
    adfree = {"product_id": "com.example.game.adfree"}
    assert stated(row("1", **adfree)).charge == stated(row("1000000000", **adfree)).charge == "1000000000"
    assert stated(row("1")).charge == "1"


def test_a_subscription_that_does_not_say_when_it_ends_is_no_answer_of_the_store() -> None:
    busy = read(answer(row(product_id="com.example.game.vip")))
    assert isinstance(busy, StoreBusy)
    assert "com.example.game.vip" in busy.reason


def test_what_a_family_member_shares_is_told_from_what_was_bought_and_can_only_be_shared_no_more() -> None:
    shared = row(**VIP, in_app_ownership_type="FAMILY_SHARED", cancellation_date_ms="1767312000000")
    (statement,) = valid(answer(shared)).transactions
    assert statement.transaction.family_shared
    assert statement.revocation is not None
    assert statement.revocation.cause == "family_sharing_ended"


PENDING: dict[str, Any] = {
    "original_transaction_id": "1000000000",
    "product_id": "com.example.game.vip",
    "auto_renew_product_id": "com.example.game.vip.yearly",
    "auto_renew_status": "1",
}
THEN = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


def renewals(*rows: Any) -> dict[TransactionId, Renewal]:
    return dict(valid(answer(row(**VIP), pending_renewal_info=list(rows))).renewals)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, Renewal(THEN, auto_renew=True, product_id="com.example.game.vip.yearly")),
        ({"auto_renew_status": 0, "auto_renew_product_id": None}, Renewal(THEN, auto_renew=False)),
        (
            {
                "auto_renew_product_id": None,
                "is_in_billing_retry_period": "1",
                "grace_period_expires_date_ms": "1769904000000",
                "expiration_intent": "2",
            },
            Renewal(
                THEN,
                auto_renew=True,
                in_billing_retry=True,
                grace_period_expires_at=ENDS,
                expiration_reason="billing_error",
            ),
        ),
        (
            {"auto_renew_product_id": None, "price_consent_status": "0", "promotional_offer_id": "back"},
            Renewal(THEN, auto_renew=True, price_increase="pending", offer=Offer("promotional", "back")),
        ),
        (
            {"auto_renew_product_id": None, "price_consent_status": "0", "price_increase_status": "1"},
            Renewal(THEN, auto_renew=True, price_increase="accepted"),
        ),
    ],
)
def test_every_fact_of_a_pending_renewal_is_read(columns: dict[str, Any], said: Renewal) -> None:
    assert renewals(PENDING | columns) == {"1000000000": said}


@pytest.mark.parametrize(
    "odd",
    [
        None,
        5,
        "text",
        [],
        {},
        {"original_transaction_id": "1000000001"},
        PENDING | {"original_transaction_id": ""},
        PENDING | {"auto_renew_status": "perhaps"},
        PENDING | {"grace_period_expires_date_ms": "soon"},
    ],
    ids=str,
)
def test_an_odd_word_about_a_renewal_spoils_neither_the_others_nor_the_purchases(odd: Any) -> None:
    other = PENDING | {"original_transaction_id": "1000000007"}
    found = valid(answer(row(), pending_renewal_info=[odd, other]))
    assert (ids(found), set(found.renewals)) == (["1000000001"], {"1000000007"})


@pytest.mark.parametrize("odd", [None, 5, "text", {"0": PENDING}, True], ids=str)
def test_what_is_no_list_of_renewals_is_none(odd: Any) -> None:
    assert valid(answer(row(), pending_renewal_info=odd)).renewals == {}


def test_the_claimed_transaction_is_found_or_it_is_not_in_the_receipt() -> None:
    receipt = valid(answer(row("1"), row("2")))
    found = receipt.find(TransactionId("2"))
    assert isinstance(found, AppleTransaction)
    assert found.transaction.transaction_id == "2"
    missing = receipt.find(TransactionId("3"))
    assert isinstance(missing, Rejected)
    assert missing.code == "transaction_not_found"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NUMBERS = st.sampled_from(["nan", "-inf", "1e308", "0x1", "1_0", " 1", "٣", "1" * 4301, "-0", "", 10**4000, 2**63])
"""Numbers in text that one parser or another takes for something."""

COLUMNS = (
    *ROW,
    *("expires_date_ms", "web_order_line_item_id", "is_in_intro_offer_period", "promotional_offer_id"),
    *("cancellation_date", "cancellation_date_ms", "cancellation_reason", "is_upgraded"),
)


@given(
    outer=st.dictionaries(
        st.sampled_from(["status", "environment", "latest_receipt_info", "pending_renewal_info", "is_retryable"]), JSON
    ),
    inner=st.dictionaries(st.sampled_from(["bundle_id", "adam_id", "request_date_ms", "in_app"]), JSON | NUMBERS),
    columns=st.dictionaries(st.sampled_from([*COLUMNS, "app_account_token"]), JSON | NUMBERS),
)
def test_no_answer_at_all_raises_anything(
    outer: dict[str, Any], inner: dict[str, Any], columns: dict[str, Any]
) -> None:
    assert isinstance(read(answer({**ROW, **columns}, receipt=inner, **outer)), ReceiptAnswer)


@given(JSON)
def test_no_json_at_all_raises_anything_or_is_a_valid_receipt(body: Any) -> None:
    found = read(body)
    assert isinstance(found, ReceiptAnswer)
    assert not isinstance(found, ReceiptValid)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything(body: bytes) -> None:
    assert isinstance(read(body), ReceiptAnswer)


@given(cut=st.integers(0, 2000), damage=st.binary(max_size=3), skip=st.integers(0, 3))
def test_an_answer_that_was_cut_or_damaged_raises_nothing(cut: int, damage: bytes, skip: int) -> None:
    whole = json.dumps(answer(row("1"), row("2"))).encode()
    at = cut % len(whole)
    assert isinstance(read(whole[:at]), StoreBusy)
    assert isinstance(read(whole[:at] + damage + whole[at + skip :]), ReceiptAnswer)


ROWS = [
    row("1", quantity="1", product_id="com.example.game.gems100"),
    row("2", quantity="2", product_id="com.example.game.gems550"),
    row("3", quantity="3", product_id="com.example.game.season"),
]


def bought(receipt: ReceiptValid) -> dict[str, tuple[str, int]]:
    return {
        each.transaction.transaction_id: (each.transaction.product_id, each.transaction.quantity)
        for each in receipt.transactions
    }


@given(
    which=st.integers(0, 2),
    column=st.sampled_from(COLUMNS),
    value=JSON | NUMBERS | st.sampled_from([value for each in ROWS for value in each.values()]),
    also_latest=st.booleans(),
)
def test_an_answer_in_which_one_field_is_another_grants_nothing_of_another_row(
    which: int, column: str, value: Any, also_latest: bool
) -> None:
    """Whatever becomes of one row, the others grant what they did; and it grants what it says itself, or nothing."""
    changed = {**ROWS[which], column: value}
    rows = [*ROWS[:which], changed, *ROWS[which + 1 :]]
    found = read(answer(*rows, latest_receipt_info=ROWS if also_latest else ...))
    if not isinstance(found, ReceiptValid):
        assert isinstance(found, StoreBusy)
        return
    others = {
        each["transaction_id"]: (each["product_id"], int(each["quantity"])) for each in ROWS if each != ROWS[which]
    }
    own = {changed["transaction_id"]: (changed["product_id"], int(changed["quantity"]))}
    twice = {ROWS[which]["transaction_id"]: (ROWS[which]["product_id"], which + 1)} if also_latest else {}
    assert bought(found) == others | own | twice
