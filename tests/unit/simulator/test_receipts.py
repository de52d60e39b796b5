"""verifyReceipt answers as Apple does: shapes, strings, statuses, and what is in a receipt when."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from shared.clock import to_unix_ms
from shared.events import Environment
from simulator.certificates import Authority, create
from simulator.receipts import Receipt, ReceiptSeal
from simulator.state import whole_ms
from tests.support.shop import (
    ADFREE,
    APP_APPLE_ID,
    BUNDLE_ID,
    GEMS,
    MONTHLY,
    SEASON,
    SHARED_SECRET,
    START,
    Shop,
    open_shop,
)

A_MONTH_S = 32 * 86_400


def ask(
    shop: Shop,
    receipt: str | None,
    *,
    password: str | None = SHARED_SECRET,
    asked: Environment = "production",
    exclude_old: bool = False,
) -> dict[str, Any]:
    return shop.store.verify_receipt(receipt_data=receipt, password=password, exclude_old=exclude_old, asked=asked)


def ids_in_receipt(answer: dict[str, Any]) -> list[str]:
    return [row["transaction_id"] for row in answer["receipt"]["in_app"]]


def test_a_consumable_is_answered_in_apples_shape_with_strings(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS, quantity=2)
    answer = ask(shop, bought.receipt)
    now_ms = str(to_unix_ms(whole_ms(START)))
    assert answer["receipt"].pop("in_app") == [
        {
            "quantity": "2",
            "product_id": GEMS,
            "transaction_id": bought.transaction.transaction_id,
            "original_transaction_id": bought.transaction.transaction_id,
            "purchase_date": "2026-11-22 12:00:00 Etc/GMT",
            "purchase_date_ms": now_ms,
            "purchase_date_pst": "2026-11-22 04:00:00 America/Los_Angeles",
            "original_purchase_date": "2026-11-22 12:00:00 Etc/GMT",
            "original_purchase_date_ms": now_ms,
            "original_purchase_date_pst": "2026-11-22 04:00:00 America/Los_Angeles",
            "is_trial_period": "false",
            "in_app_ownership_type": "PURCHASED",
        }
    ]
    assert (answer["receipt"]["bundle_id"], answer["receipt"]["adam_id"]) == (BUNDLE_ID, APP_APPLE_ID)
    assert answer["receipt"]["receipt_type"] == "Production"
    assert answer.keys() == {"environment", "receipt", "status"}
    assert (answer["environment"], answer["status"]) == ("Production", 0)


def test_a_subscription_brings_the_latest_and_the_pending_fields(shop: Shop) -> None:
    bought = shop.store.buy(product_id=MONTHLY)
    answer = ask(shop, bought.receipt)
    (latest,) = answer["latest_receipt_info"]
    assert latest["subscription_group_identifier"] == "vip"
    assert latest["expires_date_ms"] == str(to_unix_ms(whole_ms(START).replace(month=12)))
    assert answer["pending_renewal_info"] == [
        {
            "auto_renew_product_id": MONTHLY,
            "product_id": MONTHLY,
            "original_transaction_id": bought.transaction.transaction_id,
            "auto_renew_status": "1",
        }
    ]
    assert ids_in_receipt(ask(shop, answer["latest_receipt"])) == [bought.transaction.transaction_id]


@pytest.mark.parametrize(
    ("bought_in", "asked", "status"),
    [("sandbox", "production", 21007), ("production", "sandbox", 21008), ("sandbox", "sandbox", 0)],
)
def test_a_receipt_is_sent_to_the_environment_it_belongs_to(
    shop: Shop, bought_in: Environment, asked: Environment, status: int
) -> None:
    bought = shop.store.buy(product_id=GEMS, environment=bought_in)
    assert ask(shop, bought.receipt, asked=asked)["status"] == status


def test_the_sandbox_names_no_app_id(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS, environment="sandbox")
    receipt = ask(shop, bought.receipt, asked="sandbox")["receipt"]
    assert (receipt["receipt_type"], receipt["adam_id"]) == ("ProductionSandbox", 0)


@pytest.mark.parametrize("garbage", [None, "", "not base64!", "é", base64.b64encode(b"something else").decode()])
def test_garbage_is_malformed(shop: Shop, garbage: str | None) -> None:
    assert ask(shop, garbage) == {"status": 21002}


def test_a_receipt_broken_into_lines_is_malformed(shop: Shop) -> None:
    receipt = shop.store.buy(product_id=GEMS).receipt
    assert ask(shop, receipt[:76] + "\r\n" + receipt[76:]) == {"status": 21002}


def test_a_receipt_that_was_tampered_with_is_not_authentic(shop: Shop) -> None:
    octets = base64.b64decode(shop.store.buy(product_id=GEMS).receipt)
    tampered = base64.b64encode(octets.replace(b'"quantity":1', b'"quantity":9')).decode()
    assert ask(shop, tampered) == {"status": 21003}


def test_another_stores_receipt_is_not_authentic(shop: Shop) -> None:
    stranger = open_shop(create(now=START))
    assert ask(shop, stranger.store.buy(product_id=GEMS).receipt) == {"status": 21003}


def test_a_receipt_that_another_version_sealed_is_malformed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.receipts.msgspec.json.encode", lambda _receipt: b'{"another":"shape"}')
    sealed = shop.seal.close(Receipt(shop.store.buy(product_id=GEMS).transaction.customer, START, ()))
    assert ask(shop, sealed) == {"status": 21002}


@pytest.mark.parametrize(
    ("product_id", "password", "status"),
    [(MONTHLY, "wrong", 21004), (MONTHLY, None, 21004), (MONTHLY, SHARED_SECRET, 0), (GEMS, "wrong", 0)],
)
def test_the_secret_is_asked_for_only_where_there_are_subscriptions(
    shop: Shop, product_id: str, password: str | None, status: int
) -> None:
    assert ask(shop, shop.store.buy(product_id=product_id).receipt, password=password)["status"] == status


def test_one_customers_receipt_holds_several_unfinished_consumables(shop: Shop) -> None:
    first, second = (shop.store.buy(product_id=GEMS, customer="ann") for _ in range(2))
    assert ids_in_receipt(ask(shop, second.receipt)) == [
        first.transaction.transaction_id,
        second.transaction.transaction_id,
    ]
    assert ids_in_receipt(ask(shop, first.receipt)) == [first.transaction.transaction_id]


@pytest.mark.parametrize("product_id", [ADFREE, MONTHLY, SEASON])
def test_finishing_takes_nothing_but_consumables_out_of_receipts(shop: Shop, product_id: str) -> None:
    lasting = shop.store.buy(product_id=product_id, customer="ann").transaction
    gems = shop.store.buy(product_id=GEMS, customer="ann")
    shop.store.finish(lasting.transaction_id)
    after = shop.store.finish(gems.transaction.transaction_id)
    for receipt in (gems.receipt, after.receipt):
        assert ids_in_receipt(ask(shop, receipt)) == [lasting.transaction_id]


def test_a_refunded_consumable_vanishes_and_comes_back_with_a_reversal(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS)
    refunded = shop.store.refund(bought.transaction.transaction_id)
    assert [ids_in_receipt(ask(shop, each.receipt)) for each in (bought, refunded)] == [[], []]
    shop.store.reverse_refund(bought.transaction.transaction_id)
    assert ids_in_receipt(ask(shop, bought.receipt)) == [bought.transaction.transaction_id]


@pytest.mark.parametrize("product_id", [ADFREE, MONTHLY, SEASON])
def test_anything_else_that_is_refunded_stays_with_its_cancellation(shop: Shop, product_id: str) -> None:
    bought = shop.store.buy(product_id=product_id)
    shop.store.refund(bought.transaction.transaction_id, reason=1)
    (row,) = ask(shop, bought.receipt)["receipt"]["in_app"]
    assert row["cancellation_reason"] == "1"
    assert row["cancellation_date_ms"] == str(to_unix_ms(whole_ms(START)) + 1)


def test_the_latest_of_a_subscription_can_be_asked_for_alone(shop: Shop) -> None:
    first = shop.store.buy(product_id=MONTHLY, customer="ann")
    shop.clock.advance(A_MONTH_S)
    second = shop.store.buy(product_id=MONTHLY, customer="ann")
    both, newest = (ask(shop, first.receipt, exclude_old=each)["latest_receipt_info"] for each in (False, True))
    ids = [each.transaction.transaction_id for each in (second, first)]
    assert [row["transaction_id"] for row in both] == ids
    assert [row["transaction_id"] for row in newest] == ids[:1]


def test_a_receipt_is_answered_after_a_restart_and_its_purchase_can_be_refunded(authority: Authority) -> None:
    bought = open_shop(authority).store.buy(product_id=GEMS)
    restarted = open_shop(authority)
    answer = ask(restarted, bought.receipt)
    assert ids_in_receipt(answer) == [bought.transaction.transaction_id]
    assert restarted.store.refund(bought.transaction.transaction_id).transaction.revocation is not None


def test_the_seal_opens_what_it_closed(shop: Shop, authority: Authority) -> None:
    bought = shop.store.buy(product_id=MONTHLY, customer="ann").transaction
    receipt = Receipt(bought.customer, START, (bought,))
    assert ReceiptSeal(authority).open(shop.seal.close(receipt)) == receipt
