"""Reading answers of verifyReceipt: the whole table of statuses, and what a valid receipt holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import Environment, ProductType
from shared.ids import TransactionId
from verifier.domain import (
    AppleTransaction,
    ReceiptAnswer,
    ReceiptRefused,
    ReceiptValid,
    Rejected,
    Revocation,
    StoreBusy,
    StoreMisconfigured,
    UseProduction,
    UseSandbox,
    read_receipt_answer,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CATALOGUE: dict[str, ProductType] = {
    "com.example.game.gems100": "consumable",
    "com.example.game.season": "non_renewing",
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


def row(transaction_id: str = "1000000001", **changes: Any) -> dict[str, Any]:
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


@pytest.mark.parametrize(
    ("status", "code"),
    [(21003, "receipt_unauthentic"), (21006, "store_refused"), (21010, "store_refused")],
)
def test_what_the_store_refuses_for_good_is_refused_with_its_status(status: int, code: str) -> None:
    refused = read({"status": status})
    assert isinstance(refused, ReceiptRefused)
    assert (refused.status, refused.code) == (status, code)


@pytest.mark.parametrize("status", [21005, 21009])
def test_what_the_store_says_is_temporary_is_never_held_against_the_receipt(status: int) -> None:
    busy = read({"status": status})
    assert isinstance(busy, StoreBusy)
    assert (busy.status, busy.persisting) == (status, None)


def test_21002_is_tried_again_and_means_a_malformed_receipt_if_it_persists() -> None:
    busy = read({"status": 21002})
    assert isinstance(busy, StoreBusy)
    assert busy.persisting is not None
    assert (busy.persisting.status, busy.persisting.code) == (21002, "receipt_malformed")


@pytest.mark.parametrize("status", [21000, 21004])
def test_what_is_wrong_on_our_side_is_no_fault_of_the_user(status: int) -> None:
    found = read({"status": status})
    assert isinstance(found, StoreMisconfigured)
    assert found.status == status


def test_a_receipt_of_the_other_environment_is_sent_there() -> None:
    assert read({"status": 21007}) == UseSandbox()
    assert read({"status": 21008}) == UseProduction()


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


@pytest.mark.parametrize("status", [-1, 1, 21001, 21011, 21099, 21200, 99999])
def test_an_unknown_status_is_tried_again_and_is_a_refusal_if_it_persists(status: int) -> None:
    busy = read({"status": status, "is-retryable": False})
    assert isinstance(busy, StoreBusy)
    assert busy.persisting is not None
    assert (busy.persisting.status, busy.persisting.code) == (status, "store_refused")


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
        answer(row(quantity="many")),
        answer(row(transaction_id="1\x00")),
        answer(row(), latest_receipt_info="none"),
    ],
    ids=lambda body: str(body)[:60],
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
    expected = Revocation(at=datetime(2026, 1, 2, tzinfo=UTC), reason="app_issue")
    for first, second in ((cancelled, row("1")), (row("1"), cancelled)):
        (statement,) = valid(answer(first, latest_receipt_info=[second])).transactions
        assert statement.revocation == expected


@pytest.mark.parametrize(
    ("product_id", "expires", "product_type"),
    [
        ("com.example.game.gems100", ..., "consumable"),
        ("com.example.game.season", ..., "non_renewing"),
        ("com.example.game.unknown", ..., None),
        ("com.example.game.unknown", "1769904000000", "auto_renewable"),
    ],
)
def test_the_type_of_a_product_is_the_catalogues_or_else_what_is_evident(
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


def test_the_claimed_transaction_is_found_or_it_is_not_in_the_receipt() -> None:
    receipt = valid(answer(row("1"), row("2")))
    found = receipt.find(TransactionId("2"))
    assert isinstance(found, AppleTransaction)
    assert found.transaction.transaction_id == "2"
    missing = receipt.find(TransactionId("3"))
    assert isinstance(missing, Rejected)
    assert missing.code == "transaction_not_found"


JSON = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers())


@given(
    outer=st.dictionaries(st.sampled_from(["status", "environment", "latest_receipt_info", "is_retryable"]), JSON),
    inner=st.dictionaries(st.sampled_from(["bundle_id", "adam_id", "request_date_ms", "in_app"]), JSON),
    columns=st.dictionaries(st.sampled_from([*ROW, "cancellation_date_ms", "app_account_token"]), JSON),
)
def test_no_answer_at_all_raises_anything(
    outer: dict[str, Any], inner: dict[str, Any], columns: dict[str, Any]
) -> None:
    assert isinstance(read(answer({**ROW, **columns}, receipt=inner, **outer)), ReceiptAnswer)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything(body: bytes) -> None:
    assert isinstance(read(body), ReceiptAnswer)
