"""What is on record of a store transaction, after statements in whatever order."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import Offer, Period, StoreTransaction
from shared.ids import AppId, TransactionId, UserId
from verifier.domain import AppleTransaction, Revocation
from verifier.domain.records import OriginKey, Record, TransactionKey

WHOLE = 100_000
T0 = datetime(2026, 1, 1, tzinfo=UTC)
TRANSACTION = StoreTransaction(
    store="apple",
    environment="production",
    transaction_id=TransactionId("2000000277760217"),
    original_transaction_id=TransactionId("2000000277760217"),
    product_id="com.example.game.gems100",
    product_type="consumable",
    quantity=1,
    purchased_at=T0,
    signed_at=T0,
)
NEW = Record(TransactionKey.of(AppId("game"), TRANSACTION))


def stated(signed_s: int, refunded_milli: int | None = None, *, reversed_: bool = False) -> AppleTransaction:
    """A statement that was signed so many seconds after the purchase; `refunded_milli` None: it shows no refund."""
    taken_back = None if refunded_milli is None else Revocation(T0, "other", percentage_milli=refunded_milli)
    return AppleTransaction(
        transaction=replace(TRANSACTION, signed_at=T0 + timedelta(seconds=signed_s)),
        bundle_id="com.example.game",
        app_account_token=None,
        in_app_ownership_type="PURCHASED",
        revocation=taken_back,
        refund_reversed=reversed_,
    )


def of(statement: AppleTransaction, **changes: Any) -> AppleTransaction:
    return replace(statement, transaction=replace(statement.transaction, **changes))


def after(*statements: AppleTransaction, record: Record = NEW) -> Record:
    for statement in statements:
        record = record.stated(statement)
    return record


def told(*statements: AppleTransaction) -> list[int]:
    """How far it is refunded, each time that there is something new to tell."""
    record, news = NEW, []
    for statement in statements:
        before, record = record, record.stated(statement)
        news += [record.refunded_milli] if record.tells_of_refunds(before, statement) else []
    return news


REFUNDS = (stated(1, 30_000), stated(2, 60_000), stated(3, reversed_=True), stated(4, WHOLE))


@pytest.mark.parametrize("count", range(1, len(REFUNDS) + 1))
def test_of_several_words_on_refunds_the_newest_is_on_record_in_whatever_order_they_come(count: int) -> None:
    ends = {after(*order) for order in itertools.permutations(REFUNDS[:count])}
    assert {end.revoked for end in ends} == {REFUNDS[count - 1].revoked}


words = st.builds(stated, st.integers(0, 5), st.none() | st.sampled_from([0, 1, 30_000, 60_000, WHOLE])) | st.builds(
    stated, st.integers(0, 5), reversed_=st.just(True)
)


@given(happened=st.lists(words, max_size=8), data=st.data())
def test_any_order_of_any_statements_with_duplicates_ends_in_the_same_refund(
    happened: list[AppleTransaction], data: st.DataObject
) -> None:
    again = data.draw(st.lists(st.sampled_from(happened), max_size=4)) if happened else []
    record = after(*data.draw(st.permutations([*happened, *again])))
    dated = [(each.revoked.signed_at, each.revoked.percentage_milli) for each in happened if each.revoked]
    newest = max(dated, default=None)
    assert (record.revoked and (record.revoked.signed_at, record.revoked.percentage_milli)) == newest


@given(st.lists(words, max_size=10))
def test_what_is_told_ends_in_what_is_on_record_and_nothing_is_told_twice(happened: list[AppleTransaction]) -> None:
    news = told(*happened)
    assert after(*happened).refunded_milli == (news[-1] if news else 0)
    assert all(one != next_one for one, next_one in itertools.pairwise(news))


def test_a_statement_that_shows_no_refund_takes_none_back_however_new_it_is() -> None:
    assert after(stated(1, 40_000), stated(9)).refunded_milli == 40_000


def test_a_reversal_that_comes_before_its_refund_is_told_and_the_refund_is_not() -> None:
    reversal, once_more = stated(3, reversed_=True), stated(5, reversed_=True)
    assert told(reversal, stated(2, WHOLE), reversal, once_more) == [0]


def test_of_two_words_of_the_same_millisecond_that_which_takes_more_counts() -> None:
    for order in itertools.permutations([stated(1, 60_000), stated(1, reversed_=True), stated(1, 30_000)]):
        assert after(*order).refunded_milli == 60_000


@pytest.mark.parametrize(("milli", "refunded"), [(None, False), (99_999, False), (WHOLE, True)])
def test_what_is_refunded_in_part_may_still_be_claimed(milli: int | None, refunded: bool) -> None:
    assert after(stated(1, milli)).refunded == refunded


def test_what_was_refunded_wholly_may_be_claimed_again_once_that_is_reversed() -> None:
    assert not after(stated(1, WHOLE), stated(2, reversed_=True)).refunded


def test_a_promise_counts_less_than_the_account_token_and_an_owner_more() -> None:
    alice, bob = UserId("alice"), UserId("bob")
    promised = after(stated(1, WHOLE)).promised(bob)
    assert [promised.given_or_promised_to(holder) for holder in (None, bob, alice)] == [bob, bob, None]
    owned = promised.claimed(bob)
    assert [owned.given_or_promised_to(holder) for holder in (None, bob, alice)] == [bob] * 3
    assert owned.promised_to is None


def test_the_newest_statement_is_kept_and_the_first_owner() -> None:
    record = after(stated(5), stated(3)).claimed(UserId("alice")).claimed(UserId("bob"))
    assert record.signed_at == T0 + timedelta(seconds=5)
    assert (record.user_id, record.purchase_id) == ("alice", NEW.purchase_id_of(UserId("alice")))


def test_the_account_token_is_that_of_the_newest_statement_that_has_one_and_not_a_family_members() -> None:
    first, second = (replace(stated(n), app_account_token=UUID(int=n)) for n in (1, 2))
    shared = of(replace(stated(3), app_account_token=UUID(int=3)), family_shared=True)
    for order in itertools.permutations([first, second, shared, stated(4)]):
        assert after(*order).token == ("game", UUID(int=2))
    assert after(stated(1)).token is None


def test_that_nothing_is_refunded_takes_a_refund_back_and_is_no_news_without_one() -> None:
    stands = replace(stated(5), stands=True)
    assert told(stands, stated(4, WHOLE)) == []
    assert told(stated(4, WHOLE), stands) == [WHOLE, 0]
    assert after(stands, stated(4, WHOLE)) == after(stated(4, WHOLE), stands)


def test_a_refund_that_does_not_say_how_much_counts_less_than_one_that_does_however_new_it_is() -> None:
    """A receipt shows only that it was taken back; the notification of that refund says how far."""
    in_receipt = Revocation(T0 + timedelta(seconds=5), "other", says_how_much=False)
    shown, part = replace(stated(9), revocation=in_receipt), stated(5, 40_000)
    assert after(shown, part).refunded_milli == after(part, shown).refunded_milli == 40_000
    reversal = stated(7, reversed_=True)
    assert after(shown, reversal).refunded_milli == after(reversal, shown).refunded_milli == 0
    assert after(shown).refunded_milli == WHOLE


def test_of_two_words_of_the_same_millisecond_that_take_as_much_the_order_does_not_matter() -> None:
    said = stated(1, WHOLE)
    assert said.revocation is not None
    shared_no_more = replace(said, revocation=replace(said.revocation, type="FAMILY_REVOKE"))
    assert after(said, shared_no_more) == after(shared_no_more, said)


# ---- what only some statements say -------------------------------------------------------------------------------

ENDS = T0 + timedelta(days=30)
TRIAL = Offer("introductory", None, "free_trial", "P1W")
SIGNED = Period(ENDS, group="21", offer=TRIAL, price_milli=0, currency="USD")
IN_RECEIPT = Period(ENDS, offer=Offer("introductory"))


def period(signed_s: int, said: Period | None) -> AppleTransaction:
    return of(stated(signed_s), product_type="auto_renewable", period=said)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("newer", [SIGNED, IN_RECEIPT])
def test_what_a_receipt_leaves_out_is_kept_from_who_said_it(newer: Period, order: tuple[int, int]) -> None:
    both = period(1, SIGNED if newer is IN_RECEIPT else IN_RECEIPT), period(2, newer)
    record = after(*(both[number] for number in order))
    assert record.statement is not None
    assert (record.statement.period, record.statement.signed_at) == (SIGNED, T0 + timedelta(seconds=2))


def test_an_end_that_the_store_has_moved_is_the_newest() -> None:
    moved = replace(SIGNED, expires_at=ENDS + timedelta(days=5))
    for order in itertools.permutations([period(1, SIGNED), period(2, moved), period(3, moved)]):
        statement = after(*order).statement
        assert statement is not None
        assert statement.period == moved


def test_the_terms_of_an_offer_that_are_not_said_again_are_kept() -> None:
    named = replace(IN_RECEIPT, offer=Offer("promotional", "back"))
    record = after(period(1, SIGNED), period(2, named), period(3, Period(ENDS)))
    assert record.statement is not None
    assert record.statement.period == replace(SIGNED, offer=Offer("promotional", "back", "free_trial", "P1W"))


def test_the_type_of_a_product_is_kept_when_a_receipt_does_not_know_it() -> None:
    record = after(stated(1), of(stated(2), product_type=None))
    assert record.statement is not None
    assert record.statement.product_type == "consumable"


def test_what_it_was_first_charged_as_it_is_charged_as_for_good() -> None:
    """Others have granted it as that."""
    ids = [TransactionId(name) for name in ("1/77", "1@5")]
    for first, second in (ids, ids[::-1]):
        record = after(of(stated(2), charge_id=first), of(stated(1), charge_id=second), of(stated(3), charge_id=None))
        assert record.statement is not None
        assert record.statement.charge_id == first


@pytest.mark.parametrize(
    ("second", "is_more"),
    [
        (stated(2), False),
        (stated(0), False),
        (of(stated(2), product_id="com.example.game.gems550"), True),
        (of(stated(0), product_id="com.example.game.gems550"), False),
        (period(0, SIGNED), True),
        (stated(2, 40_000), True),
    ],
)
def test_it_tells_more_when_something_else_is_known_and_not_when_the_same_is_said_again(
    second: AppleTransaction, is_more: bool
) -> None:
    first = after(stated(1))
    assert first.tells_of_more(NEW)
    assert not NEW.tells_of_more(NEW)
    assert first.stated(second).tells_of_more(first) is is_more


@pytest.mark.parametrize(
    ("product_type", "has_origin"),
    [
        ("auto_renewable", True),
        ("non_consumable", True),
        (None, True),
        ("consumable", False),
        ("non_renewing", False),
    ],
)
def test_what_renews_or_can_be_restored_has_an_origin_and_keeps_it(product_type: Any, has_origin: bool) -> None:
    first = of(stated(1), product_type=product_type, original_transaction_id=TransactionId("1"))
    record = after(first)
    assert (record.origin is not None) is has_origin
    if has_origin:
        assert record.origin is not None
        assert record.origin.subscription_id.startswith("sub_")
        assert record.origin == OriginKey(AppId("game"), "apple", "production", TransactionId("1"))
        assert record.stated(stated(2)).origin == record.origin
