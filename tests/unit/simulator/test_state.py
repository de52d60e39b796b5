"""What the store remembers, and the numbers it gives."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from shared.clock import ManualClock
from shared.ids import TransactionId
from simulator import state
from simulator.certificates import Authority
from simulator.domain import StateConflict, TransactionUnknown, refunded
from simulator.state import State, TransactionNumbers
from simulator.subscriptions import Step
from tests.support.shop import GEMS, START, Shop, open_shop


def test_numbers_look_like_apples() -> None:
    numbers = TransactionNumbers()
    assert re.fullmatch(r"2000\d{12}|200[1-9]\d{12}", numbers.next(environment="sandbox", now=START))
    assert re.fullmatch(r"3\d{14}", numbers.next(environment="production", now=START))


def test_numbers_given_at_one_moment_differ_and_rise() -> None:
    numbers = TransactionNumbers()
    given = [int(numbers.next(environment="production", now=START)) for _ in range(1000)]
    assert given == sorted(set(given))


def test_a_store_that_starts_anew_gives_no_number_twice() -> None:
    before, after = TransactionNumbers(), TransactionNumbers()
    given = {before.next(environment="production", now=START) for _ in range(1000)}
    assert after.next(environment="production", now=START + timedelta(seconds=1)) not in given


def test_a_clock_before_the_epoch_still_gives_numbers_that_rise() -> None:
    numbers = TransactionNumbers()
    early = START - timedelta(days=3650)
    first, second = (int(numbers.next(environment="production", now=early)) for _ in range(2))
    assert 300_000_000_000_000 <= first < second


def test_a_change_is_dated_after_every_signature_that_was_given_before(shop: Shop) -> None:
    """The clock stands still, so a look at the purchase, its refund and the reversal fall into one millisecond."""
    bought = shop.store.buy(product_id=GEMS)
    shop.clock.advance(0.005)
    looked_at = shop.store.transaction(bought.transaction.transaction_id)
    gone = shop.store.refund(bought.transaction.transaction_id)
    back = shop.store.reverse_refund(bought.transaction.transaction_id)
    looked_at_again = shop.store.transaction(bought.transaction.transaction_id)
    assert bought.signed_at < looked_at.signed_at < gone.signed_at < back.signed_at <= looked_at_again.signed_at


def test_a_change_that_is_refused_changes_nothing(shop: Shop) -> None:
    bought = shop.store.buy(product_id=GEMS).transaction
    shop.store.refund(bought.transaction_id)
    before = shop.state.get(bought.transaction_id)
    with pytest.raises(StateConflict):
        shop.state.change(
            bought.transaction_id,
            lambda each, _subscription, at: Step(refunded(each, percentage_milli=1, reason=0, now=at), None),
        )
    assert shop.state.get(bought.transaction_id) == before


def test_an_unknown_transaction_is_unknown() -> None:
    with pytest.raises(TransactionUnknown, match="12345"):
        State(ManualClock(START)).get(TransactionId("12345"))


def test_the_oldest_is_forgotten_first_and_its_customer_with_it(shop: Shop) -> None:
    sold = [shop.store.buy(product_id=GEMS).transaction for _ in range(3)]
    small = State(shop.clock, transactions_max=2)
    small.adopt(sold)
    assert small.of_customer(sold[0].customer) == ()
    assert [small.get(each.transaction_id) for each in sold[1:]] == sold[1:]
    with pytest.raises(TransactionUnknown):
        small.get(sold[0].transaction_id)


def test_what_is_adopted_late_stands_in_the_order_of_its_purchase(shop: Shop) -> None:
    first, second = (shop.store.buy(product_id=GEMS, customer="ann").transaction for _ in range(2))
    other = State(shop.clock)
    other.adopt([second])
    other.adopt([first])
    assert other.of_customer(first.customer) == (first, second)


def test_adopting_does_not_undo_what_is_known(authority: Authority) -> None:
    shop = open_shop(authority)
    bought = shop.store.buy(product_id=GEMS).transaction
    shop.store.refund(bought.transaction_id)
    shop.state.adopt([bought])
    assert shop.state.get(bought.transaction_id).revocation is not None


def test_a_customer_has_a_limited_number_of_transactions(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "CUSTOMER_TRANSACTIONS_MAX", 2)
    for _ in range(2):
        shop.store.buy(product_id=GEMS, customer="ann")
    with pytest.raises(StateConflict, match="at most 2"):
        shop.store.buy(product_id=GEMS, customer="ann")
