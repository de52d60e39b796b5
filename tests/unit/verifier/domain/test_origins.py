"""Who owns a subscription, and when the store is to be asked about it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import Period, Renewal, Revoked, StoreTransaction
from shared.ids import AppId, TransactionId, UserId
from verifier.domain.origins import LATE, Origin
from verifier.domain.records import OriginKey, Record, TransactionKey

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=30)
KEY = OriginKey(AppId("game"), "apple", "production", TransactionId("1"))
NEW = Origin(KEY)


def at(days: float) -> datetime:
    return T0 + timedelta(days=days)


def period(number: int = 0, *, signed: float | None = None, ends: float | None = None, milli: int = 0) -> Record:
    """The record of the `number`th month; dates in days, `milli` of it refunded."""
    starts_at = T0 + number * MONTH
    signed_at = starts_at if signed is None else at(signed)
    statement = StoreTransaction(
        store="apple",
        environment="production",
        transaction_id=TransactionId(f"1{number}"),
        original_transaction_id=TransactionId("1"),
        product_id="com.example.game.vip.monthly",
        product_type="auto_renewable",
        quantity=1,
        purchased_at=starts_at,
        signed_at=signed_at,
        period=Period(starts_at + MONTH if ends is None else at(ends)),
    )
    revoked = Revoked(signed_at, milli, signed_at) if milli else None
    key = TransactionKey.of(AppId("game"), statement)
    return Record(key, origin=KEY, statement=statement, signed_at=signed_at, revoked=revoked)


def renewal(signed: float, **said: Any) -> Renewal:
    return replace(Renewal(at(signed), auto_renew=True), **said)


def heard(*said: tuple[Record, Renewal | None], now: float = 0, origin: Origin = NEW, **ends: Any) -> Origin:
    for record, word in said:
        origin = origin.heard(record, word, now=at(now), **ends)
    return origin


RETRY = {"in_billing_retry": True, "expiration_reason": "billing_error"}


@pytest.mark.parametrize(
    ("said", "check_at"),
    [
        (None, at(30) + LATE),
        (renewal(0), at(30) + LATE),
        (renewal(0, auto_renew=False), at(30) + LATE),
        (renewal(30, auto_renew=False), None),
        (renewal(30, auto_renew=False, expiration_reason="customer_cancelled"), None),
        (renewal(30, expiration_reason="product_not_available"), None),
        (renewal(30, **RETRY), at(30) + LATE),
        (renewal(30, **RETRY, grace_period_expires_at=at(36)), at(36) + LATE),
        (renewal(30, **RETRY, grace_period_expires_at=at(29)), at(30) + LATE),
        (renewal(30, **RETRY, auto_renew=False), at(30) + LATE),
        (renewal(-1, auto_renew=False, expiration_reason="customer_cancelled"), at(30) + LATE),
    ],
)
def test_the_store_is_asked_when_nothing_was_heard_of_how_a_period_ended(
    said: Renewal | None, check_at: datetime | None
) -> None:
    """Also when it was said not to renew, which may be taken back; a word about an earlier period says nothing."""
    origin = heard((period(), said))
    assert (origin.check_at, origin.checks) == (check_at, 0)


def test_what_was_taken_back_is_not_asked_about_until_it_stands_again() -> None:
    assert heard((period(milli=40_000), None)).check_at is None
    assert heard((period(milli=40_000), None), (period(), None)).check_at == at(30) + LATE
    assert heard((period(1), None), (period(0, milli=100_000), None)).check_at == at(60) + LATE


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_newest_period_counts_in_whatever_order_they_come_and_of_it_what_was_said_last(
    order: tuple[int, ...],
) -> None:
    said = [
        (period(0), renewal(0)),
        (period(1), renewal(30)),
        (period(1, signed=31, ends=65), renewal(31, auto_renew=False)),
        (period(1, signed=32, ends=65), None),
    ]
    origin = heard(*(said[number] for number in order))
    assert (origin.period_at, origin.expires_at, origin.renewal) == (at(30), at(65), said[2][1])
    assert origin.check_at == at(65) + LATE


words = st.tuples(
    st.builds(period, st.integers(0, 2), signed=st.sampled_from([61.0, 62.0, 63.0])),
    st.none() | st.builds(renewal, st.sampled_from([0.0, 29.0, 61.0, 63.0])),
)


@given(said=st.lists(words, max_size=6), data=st.data())
def test_any_order_with_duplicates_ends_in_the_same_word(
    said: list[tuple[Record, Renewal | None]], data: st.DataObject
) -> None:
    again = data.draw(st.lists(st.sampled_from(said), max_size=3)) if said else []
    origin = heard(*said)
    other = heard(*data.draw(st.permutations([*said, *again])))
    assert replace(origin, check_at=None) == replace(other, check_at=None)
    assert origin.check_at == other.check_at


ASKED = replace(heard((period(), renewal(0))), check_at=at(40), checks=3)
"""Overdue, and asked about in vain: the next question is put off."""


def test_what_is_new_begins_the_waiting_anew() -> None:
    origin = heard((period(1), None), now=35, origin=ASKED)
    assert (origin.check_at, origin.checks) == (at(60) + LATE, 0)


def test_what_is_no_news_leaves_the_waiting_alone() -> None:
    assert heard((period(), renewal(0)), (period(0, signed=-1), None), now=35, origin=ASKED) == ASKED


def test_an_answer_does_not_lead_to_the_next_question_at_once() -> None:
    """What is overdue is asked about when it was to be asked about anyway."""
    origin = heard((period(0, signed=35), renewal(35, **RETRY)), now=35, origin=ASKED)
    assert (origin.check_at, origin.checks) == (at(40), 3)
    assert heard((period(0, signed=35), renewal(35, **RETRY)), now=41, origin=ASKED).checks == 0


def test_what_the_store_calls_over_is_not_asked_about_even_if_it_does_not_say_why() -> None:
    assert heard((period(0, signed=35), None), now=35, origin=ASKED, over=True).check_at is None
    newer = heard((period(1), None))
    assert heard((period(0, signed=35), renewal(36)), now=36, origin=newer, over=True).check_at == at(60) + LATE


def test_what_has_no_period_is_not_asked_about() -> None:
    record = period()
    assert record.statement is not None
    bare = replace(record, statement=replace(record.statement, period=None))
    assert heard((bare, None)) == NEW
    assert heard((Record(record.key), renewal(0))).check_at is None


@pytest.mark.parametrize(
    ("before", "now_said", "is_news"),
    [
        (None, None, False),
        (None, renewal(0), True),
        (renewal(1), renewal(2), False),
        (renewal(1), renewal(2, auto_renew=False), True),
        (renewal(1), renewal(0, auto_renew=False), False),
        (renewal(-1), renewal(1), True),
        (renewal(-2), renewal(-1), False),
    ],
)
def test_of_a_renewal_it_is_news_what_is_said_otherwise_or_of_the_newest_period_for_the_first_time(
    before: Renewal | None, now_said: Renewal | None, is_news: bool
) -> None:
    known = heard((period(), before))
    assert heard((period(), now_said), origin=known).tells_of_renewal(known) is is_news


def test_the_first_owner_is_the_owner_for_good() -> None:
    assert NEW.owned_by(UserId("alice")).owned_by(UserId("bob")).user_id == "alice"
