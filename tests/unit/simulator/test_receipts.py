"""verifyReceipt answers as Apple does: shapes, strings, statuses, and what is in a receipt when."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from shared.clock import to_unix_ms
from shared.events import Environment
from simulator import choices, lives
from simulator.certificates import Authority, create
from simulator.domain import Offer
from simulator.lengths import WEEK
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
    YEARLY,
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
    ("offer", "fields"),
    [
        (Offer("introductory", "free_trial", WEEK), {"is_trial_period": "true"}),
        (Offer("introductory", "pay_as_you_go", WEEK), {"is_in_intro_offer_period": "true"}),
        (Offer("offer_code", "free_trial", WEEK, "x"), {"is_trial_period": "true", "offer_code_ref_name": "x"}),
        (Offer("win_back", "pay_up_front", WEEK, "x"), {"promotional_offer_id": "x"}),
    ],
)
def test_a_row_says_what_its_period_was_sold_under(shop: Shop, offer: Offer, fields: dict[str, str]) -> None:
    (row,) = ask(shop, shop.store.buy(product_id=MONTHLY, offer=offer).receipt)["latest_receipt_info"]
    nothing = {"is_trial_period": "false", "is_in_intro_offer_period": "false"}
    told = {name: row[name] for name in (*nothing, "offer_code_ref_name", "promotional_offer_id") if name in row}
    assert told == nothing | fields


def test_the_next_renewal_of_one_that_is_unpaid_is_pending_with_its_grace_period(shop: Shop) -> None:
    bought = shop.store.buy(product_id=MONTHLY)
    original = bought.transaction.original_transaction_id
    shop.subscribers.fail_billing(original, grace=True)
    (pending,) = ask(shop, bought.receipt)["pending_renewal_info"]
    assert (pending["is_in_billing_retry_period"], "expiration_intent" in pending) == ("1", False)
    grace_until = shop.state.subscription(original).grace_until
    assert grace_until is not None
    assert pending["grace_period_expires_date_ms"] == str(to_unix_ms(grace_until))
    shop.subscribers.befall(original, lives.end_grace)
    shop.subscribers.befall(original, lives.expire)
    (over,) = ask(shop, bought.receipt)["pending_renewal_info"]
    told = (over["auto_renew_status"], over["expiration_intent"], over["is_in_billing_retry_period"])
    assert told == ("0", "2", "0")


def test_a_price_increase_and_an_offer_of_the_next_renewal_are_pending(shop: Shop) -> None:
    bought = shop.store.buy(product_id=MONTHLY)
    original = bought.transaction.original_transaction_id
    shop.subscribers.befall(original, lambda it, moment: lives.increase_price(it, moment, accepted=False))
    (pending,) = ask(shop, bought.receipt)["pending_renewal_info"]
    assert (pending["price_consent_status"], pending["price_increase_status"]) == ("0", "0")
    code = Offer("offer_code", "pay_as_you_go", WEEK, "half")
    shop.subscribers.befall_with_product(
        original, lambda it, moment, *, to: choices.redeem_offer(it, moment, offer=code, to=to, effect=None)
    )
    (pending,) = ask(shop, bought.receipt)["pending_renewal_info"]
    assert pending["offer_code_ref_name"] == "half"


def test_what_was_left_for_something_better_says_so(shop: Shop) -> None:
    bought = shop.store.buy(product_id=MONTHLY)
    original = bought.transaction.original_transaction_id
    shop.subscribers.befall_with_product(original, choices.upgrade, product_id=YEARLY)
    rows = ask(shop, bought.receipt)["latest_receipt_info"]
    assert [(row["product_id"], row.get("is_upgraded")) for row in rows] == [(YEARLY, None), (MONTHLY, "true")]


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
