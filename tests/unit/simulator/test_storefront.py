"""The use-cases: who can buy what, what becomes of it, and who is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.events import ProductType
from shared.ids import TransactionId
from simulator.domain import FieldInvalid, StateConflict, TransactionUnknown
from simulator.notifications import SenderUnavailable
from simulator.storefront import AppStore
from simulator.telling import Statement
from tests.support.shop import ADFREE, GEMS, MONTHLY, SEASON, YEARLY, Shop, claims

A_MONTH_S = 32 * 86_400


def told(shop: Shop) -> list[tuple[str, str | None]]:
    return [(each.type, each.subtype) for each in shop.sender.sent]


@pytest.mark.parametrize(
    ("product_id", "notification"),
    [
        (GEMS, ("ONE_TIME_CHARGE", None)),
        (ADFREE, ("ONE_TIME_CHARGE", None)),
        (SEASON, ("ONE_TIME_CHARGE", None)),
        (MONTHLY, ("SUBSCRIBED", "INITIAL_BUY")),
    ],
)
def test_a_purchase_is_told_as_apple_tells_it(
    shop: Shop, product_id: str, notification: tuple[str, str | None]
) -> None:
    bought = shop.store.buy(product_id=product_id)
    assert told(shop) == [notification]
    assert bought.notification_id == shop.sender.sent[0].id


def test_nobody_is_told_when_notify_is_false(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS, notify=False)
    shop.store.refund(bought.transaction.transaction_id, notify=False)
    shop.store.request_refund(bought.transaction.transaction_id, notify=False)
    assert (told(shop), bought.notification_id) == ([], None)


@pytest.mark.parametrize(
    ("act", "notification_type"),
    [
        (AppStore.refund, "REFUND"),
        (AppStore.decline_refund, "REFUND_DECLINED"),
        (AppStore.request_refund, "CONSUMPTION_REQUEST"),
    ],
)
def test_what_befalls_a_transaction_is_told(
    shop: Shop, act: Callable[[AppStore, TransactionId], Statement], notification_type: str
) -> None:
    bought = shop.store.buy(product_id=GEMS, notify=False)
    act(shop.store, bought.transaction.transaction_id)
    assert told(shop) == [(notification_type, None)]


def test_a_request_for_a_refund_says_why_and_changes_nothing(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS)
    asked = shop.store.request_refund(bought.transaction.transaction_id, reason="FULFILLMENT_ISSUE")
    assert claims(shop.sender.sent[-1].signed_payload)["data"]["consumptionRequestReason"] == "FULFILLMENT_ISSUE"
    assert asked.transaction == bought.transaction


def test_every_notification_has_an_id_of_its_own(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS)
    for _ in range(3):
        shop.store.request_refund(bought.transaction.transaction_id)
    assert len({each.id for each in shop.sender.sent}) == 4


def test_a_refund_can_be_reversed_and_come_again_but_not_twice_in_a_row(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS).transaction
    shop.store.refund(bought.transaction_id)
    with pytest.raises(StateConflict):
        shop.store.refund(bought.transaction_id)
    shop.store.reverse_refund(bought.transaction_id)
    with pytest.raises(StateConflict):
        shop.store.reverse_refund(bought.transaction_id)
    shop.store.refund(bought.transaction_id, percent=50)
    assert [name for name, _ in told(shop)] == ["ONE_TIME_CHARGE", "REFUND", "REFUND_REVERSED", "REFUND"]


def test_a_further_refund_states_all_that_is_refunded_by_then_and_so_more_than_the_one_before(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS, notify=False).transaction
    for percent, kind in ((30, "REFUND_PRORATED"), (60.5, "REFUND_PRORATED"), (100, "REFUND_FULL")):
        stated = claims(shop.store.refund(bought.transaction_id, percent=percent).signed_transaction)
        assert (stated["revocationPercentage"], stated["revocationType"]) == (percent * 1000, kind)
        for no_more in (percent, percent - 1):
            with pytest.raises(StateConflict):
                shop.store.refund(bought.transaction_id, percent=no_more)
    assert told(shop) == [("REFUND", None)] * 3


def test_each_refund_and_reversal_is_signed_later_than_the_one_before(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS).transaction
    changes = [
        shop.store.refund(bought.transaction_id, percent=30),
        shop.store.refund(bought.transaction_id, percent=60),
        shop.store.reverse_refund(bought.transaction_id),
        shop.store.refund(bought.transaction_id),
    ]
    dates = [bought.stated_at, *(change.signed_at for change in changes)]
    assert dates == sorted(set(dates))


def test_only_what_is_shared_can_be_revoked_and_a_revocation_is_no_refund(shop: Shop) -> None:
    own, shared = (shop.store.buy(product_id=ADFREE, family_shared=each).transaction for each in (False, True))
    with pytest.raises(StateConflict, match="family-shared"):
        shop.store.revoke(own.transaction_id)
    shop.store.revoke(shared.transaction_id)
    assert told(shop)[-1] == ("REVOKE", None)
    with pytest.raises(StateConflict, match="no refund"):
        shop.store.reverse_refund(shared.transaction_id)


def test_a_customer_cannot_own_a_non_consumable_twice_until_it_is_refunded(shop: Shop) -> None:
    first = shop.store.buy(product_id=ADFREE, customer="ann").transaction
    with pytest.raises(StateConflict):
        shop.store.buy(product_id=ADFREE, customer="ann")
    shop.store.refund(first.transaction_id)
    shop.store.buy(product_id=ADFREE, customer="ann")


def test_a_customer_has_one_subscription_of_a_group_at_a_time(shop: Shop) -> None:
    shop.store.buy(product_id=MONTHLY, customer="ann")
    with pytest.raises(StateConflict):
        shop.store.buy(product_id=YEARLY, customer="ann")
    shop.store.buy(product_id=YEARLY, customer="bob")


def test_who_subscribes_again_keeps_the_original_transaction(shop: Shop) -> None:
    first = shop.store.buy(product_id=MONTHLY, customer="ann").transaction
    shop.clock.advance(A_MONTH_S)
    again = shop.store.buy(product_id=YEARLY, customer="ann").transaction
    assert told(shop)[-1] == ("SUBSCRIBED", "RESUBSCRIBE")
    assert again.original_transaction_id == first.transaction_id != again.transaction_id
    assert again.original_purchased_at == first.purchased_at


def test_the_same_name_is_another_customer_in_the_sandbox_and_in_another_app(shop: Shop) -> None:
    customers = {
        shop.store.buy(product_id=GEMS, customer="ann").transaction.customer,
        shop.store.buy(product_id=GEMS, customer="ann", environment="sandbox").transaction.customer,
        shop.store.buy(product_id="hint", app="quiz", customer="ann").transaction.customer,
    }
    assert len({customer.app_transaction_id for customer in customers}) == 3


def test_without_a_name_every_purchase_is_a_new_customers(shop: Shop) -> None:
    assert len({shop.store.buy(product_id=GEMS).transaction.customer for _ in range(10)}) == 10


@pytest.mark.parametrize(
    ("wanted", "field"),
    [({"product_id": "nothing"}, "product_id"), ({"product_id": GEMS, "app": "chess"}, "app")],
)
def test_what_is_not_on_sale_is_refused_by_field(shop: Shop, wanted: dict[str, str], field: str) -> None:
    with pytest.raises(FieldInvalid) as refused:
        shop.store.buy(product_id=wanted["product_id"], app=wanted.get("app"))
    assert refused.value.field == field


@pytest.mark.parametrize("kind", ["consumable", "auto_renewable"])
def test_a_product_outside_of_the_catalogue_is_sold_when_its_type_is_given(shop: Shop, kind: ProductType) -> None:
    sold = shop.store.buy(product_id="unheard.of", product_type=kind).transaction
    assert (sold.product_id, sold.type) == ("unheard.of", kind)


def test_a_full_queue_refuses_the_purchase_before_it_is_made(shop: Shop) -> None:
    shop.sender.has_room = False
    with pytest.raises(SenderUnavailable):
        shop.store.buy(product_id=ADFREE, customer="ann")
    shop.sender.has_room = True
    shop.store.buy(product_id=ADFREE, customer="ann")


def test_a_full_queue_refuses_the_refund_before_it_is_made(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS).transaction
    shop.sender.has_room = False
    with pytest.raises(SenderUnavailable):
        shop.store.refund(bought.transaction_id)
    assert shop.store.transaction(bought.transaction_id).transaction.revocation is None


@pytest.mark.parametrize(
    "act",
    [
        AppStore.transaction,
        AppStore.refund,
        AppStore.reverse_refund,
        AppStore.decline_refund,
        AppStore.request_refund,
        AppStore.revoke,
        AppStore.finish,
    ],
)
def test_nothing_can_be_done_with_a_transaction_that_is_not_known(
    shop: Shop, act: Callable[[AppStore, TransactionId], Statement]
) -> None:
    with pytest.raises(TransactionUnknown):
        act(shop.store, TransactionId("1"))
    assert shop.sender.sent == []
