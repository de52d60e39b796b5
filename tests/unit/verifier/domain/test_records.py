"""What is on record of a store transaction, after statements in whatever order."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import StoreTransaction
from shared.ids import AppId, TransactionId, UserId
from verifier.domain import AppleTransaction, KnownTransaction, Revocation
from verifier.domain.records import Record, TransactionKey

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


def after(*statements: AppleTransaction, record: Record = NEW) -> Record:
    for statement in statements:
        record = record.stated(statement)
    return record


def told(*statements: AppleTransaction) -> list[int]:
    """How far it is refunded, each time that there is something new to tell."""
    record, news = NEW, []
    for statement in statements:
        before, record = record, record.stated(statement)
        news += [record.refunded_milli] if record.tells_of_refunds(before) else []
    return news


REFUNDS = (stated(1, 30_000), stated(2, 60_000), stated(3, reversed_=True), stated(4, WHOLE))


@pytest.mark.parametrize("count", range(1, len(REFUNDS) + 1))
def test_of_several_words_on_refunds_the_newest_is_on_record_in_whatever_order_they_come(count: int) -> None:
    ends = {after(*order) for order in itertools.permutations(REFUNDS[:count])}
    assert [(end.refunded_milli, end.revoked_signed_at) for end in ends] == [
        (REFUNDS[count - 1].refunded_milli, T0 + timedelta(seconds=count))
    ]


words = st.builds(stated, st.integers(0, 5), st.none() | st.sampled_from([0, 1, 30_000, 60_000, WHOLE])) | st.builds(
    stated, st.integers(0, 5), reversed_=st.just(True)
)


@given(happened=st.lists(words, max_size=8), data=st.data())
def test_any_order_of_any_statements_with_duplicates_ends_in_the_same_refund(
    happened: list[AppleTransaction], data: st.DataObject
) -> None:
    again = data.draw(st.lists(st.sampled_from(happened), max_size=4)) if happened else []
    record = after(*data.draw(st.permutations([*happened, *again])))
    dated = [(each.transaction.signed_at, each.refunded_milli) for each in happened if each.refunded_milli is not None]
    newest = max(dated, default=(None, 0))
    assert (record.revoked_signed_at, record.refunded_milli) == newest


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
    assert after(stated(1, milli)).known == KnownTransaction(owner=None, refunded=refunded)


def test_what_was_refunded_wholly_may_be_claimed_again_once_that_is_reversed() -> None:
    assert not after(stated(1, WHOLE), stated(2, reversed_=True)).known.refunded


def test_the_newest_statement_is_kept_and_the_first_owner() -> None:
    record = after(stated(5), stated(3)).claimed(UserId("alice")).claimed(UserId("bob"))
    assert record.signed_at == T0 + timedelta(seconds=5)
    assert (record.user_id, record.purchase_id) == ("alice", NEW.purchase_id_of(UserId("alice")))


def test_the_account_token_is_that_of_the_newest_statement_that_has_one_and_not_a_family_members() -> None:
    first, second = (replace(stated(n), app_account_token=UUID(int=n)) for n in (1, 2))
    shared = replace(stated(3), app_account_token=UUID(int=3), in_app_ownership_type="FAMILY_SHARED")
    for order in itertools.permutations([first, second, shared, stated(4)]):
        assert after(*order).token == ("game", UUID(int=2))
    assert after(stated(1)).token is None
