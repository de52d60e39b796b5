"""Random lives of subscriptions, told in any order, ever so often and in parts, end in what Apple's `status` says."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import reduce
from random import Random  # noqa: TID251 - Hypothesis gives the seeded ones
from typing import Final

from hypothesis import given, note, settings
from hypothesis import strategies as st

from ledger.domain.subscriptions import (
    KnownSubscription,
    Statement,
    Subscription,
    SubscriptionKey,
    due_at,
    heard,
    restated,
    state_at,
    status_at,
)
from shared.events import SubscriptionStatus
from shared.ids import AppId, TransactionId, UserId
from tests.support.subscriber_life import A_MOMENT, Life, Said
from tests.support.subscriber_lives import lives, makes_move

SAMPLED_ORDERS = 50
KEY = SubscriptionKey(AppId("game"), "apple", "production", TransactionId("1000"))
APPLE: Final[dict[SubscriptionStatus, int]] = {
    "active": 1,
    "expired": 2,
    "in_billing_retry": 3,
    "in_grace_period": 4,
    "revoked": 5,
    "refunded": 5,
}
RANDOM = st.randoms(use_true_random=False)


@settings(deadline=None)
@given(life=lives(moves=4))
def test_every_order_of_a_short_life_ends_in_the_same_subscription(life: Life) -> None:
    facts = [_whole(said) for said in life.said[:5]]
    ends = _told(facts)
    for order in itertools.permutations(facts):
        assert _told(order) == ends


@settings(deadline=None)
@given(life=lives(moves=25), random=RANDOM)
def test_a_long_life_in_any_order_repeated_and_in_parts_ends_in_the_same_subscription(
    life: Life, random: Random
) -> None:
    facts = [_whole(said) for said in life.said]
    ends = _told(facts)
    for _ in range(SAMPLED_ORDERS):
        told = facts + [_in_part(fact, random) for fact in facts if random.random() < 0.5]
        assert _told(random.sample(told, len(told))) == ends


@settings(deadline=None)
@given(data=st.data(), moves=st.integers(0, 25))
def test_after_every_step_of_a_life_it_stands_as_apple_says_until_the_next(data: st.DataObject, moves: int) -> None:
    life = data.draw(lives(moves=0))
    for _ in range(moves):
        subscription = _told(_whole(said) for said in life.said)
        for moment, status in _moments(life):
            assert _as_apple(subscription, moment) == status, moment
        note(makes_move(life, data.draw))
        _stands(life)


def _stands(life: Life) -> None:
    """At this moment, in which something may have been stated."""
    subscription = _told(_whole(said) for said in life.said)
    assert _as_apple(subscription, life.now) == life.status
    assert (status_at(subscription, life.now) == "revoked") == (life.family and life.status == 5)
    state = state_at(KEY, subscription, now=life.now, version=0)
    usable = state.access_until is not None and life.now < state.access_until
    assert (state.access_until if usable else None) == life.usable_until
    assert (state.product_id, state.trial) == (life.last.product, life.last.offer is not None)
    assert (state.auto_renew, state.renewal_product_id) == (life.auto_renew, life.next_product)
    assert state.expiration_reason == (life.reason if life.phase == "over" else None)


def _moments(life: Life) -> Iterator[tuple[datetime, int]]:
    """Moments that are still to come of which nothing more need be heard, and Apple's status then."""
    ahead = replace(life, periods=[replace(each) for each in life.periods], said=[])
    while ahead.due is not None and not ahead.due_is_paid:
        yield ahead.due - A_MOMENT, ahead.status
        due = ahead.due
        ahead.lets_due_happen()
        yield due, ahead.status
    yield (ahead.due or ahead.now + timedelta(days=100)) - A_MOMENT, ahead.status


@settings(deadline=None)
@given(life=lives(moves=20), random=RANDOM)
def test_what_is_told_of_a_subscription_ends_alike_in_any_order_and_is_told_when_it_is_new(
    life: Life, random: Random
) -> None:
    facts = [_whole(said) for said in life.said]
    ends = _restated(facts, life.now)
    others = _restated(random.sample(facts * 2, 2 * len(facts)), life.now)
    assert ends.told is not None
    assert others.told == replace(ends.told, version=others.version)
    assert restated(KEY, others, now=life.now) is others
    assert others.version <= len(facts)


def _restated(facts: Iterable[Statement], now: datetime) -> KnownSubscription:
    known = KnownSubscription(user_id=UserId("alice"))
    for fact in facts:
        known = restated(KEY, replace(known, subscription=heard(known.subscription, fact)), now=now)
    return known


@settings(deadline=None)
@given(life=lives(moves=12))
def test_each_change_by_time_alone_is_known_beforehand(life: Life) -> None:
    """`due_at` is the first moment at which the status is another one."""
    subscription = _told(_whole(said) for said in life.said)
    due = due_at(subscription, life.now)
    stands = status_at(subscription, life.now)
    ends = due or life.now + timedelta(days=1000)
    assert status_at(subscription, ends - A_MOMENT) == stands
    assert (status_at(subscription, ends) != stands) == (due is not None)


@settings(deadline=None)
@given(life=lives(moves=20))
def test_how_one_period_ended_says_nothing_of_how_the_next_one_does(life: Life) -> None:
    """Told of by a client, which sends no more than the transaction, it is over when its time is, and no word why."""
    for number, said in enumerate(life.said):
        if said.kind is None or said.kind[0] not in {"SUBSCRIBED", "DID_RENEW"}:
            continue
        before = [_whole(each) for each in life.said[:number]]
        subscription = _told([*before, replace(_whole(said), renewal=None)])
        ends = subscription.period.expires_at
        state = state_at(KEY, subscription, now=ends, version=0)
        assert (state.status, state.access_until, state.expiration_reason) == ("expired", ends, None)


@settings(deadline=None)
@given(life=lives(moves=20), random=RANDOM)
def test_whatever_was_missed_what_apple_answers_when_asked_puts_it_right(life: Life, random: Random) -> None:
    """All that was heard is the status that somebody asked for, and any part of the rest, before or afterwards."""
    answer = life.answers()
    heard_of = [_whole(said) for said in life.said if random.random() < 0.5] + [_whole(answer)]
    random.shuffle(heard_of)
    assert _as_apple(_told(heard_of), life.now) == answer.status


@settings(deadline=None)
@given(life=lives(moves=20), random=RANDOM)
def test_a_restored_copy_of_a_period_is_that_period(life: Life, random: Random) -> None:
    """Apple shows one charge under several transaction ids."""
    facts = [_whole(said) for said in life.said]
    copies = [_restored(fact, number) for number, fact in enumerate(facts) if random.random() < 0.5]
    told = random.sample(facts + copies, len(facts) + len(copies))
    one, other = _told(told), _told(facts)
    assert _told(facts + copies) == one
    assert _as_apple(one, life.now) == life.status
    assert (one.revoked, one.renewal, one.period) == (other.revoked, other.renewal, other.period)


def _whole(said: Said) -> Statement:
    return Statement(said.transaction, said.revoked, said.renewal)


def _in_part(statement: Statement, random: Random) -> Statement:
    """The same again, or what a client sends of it: the transaction, which shows its refund."""
    return statement if random.random() < 0.5 else replace(statement, renewal=None)


def _restored(statement: Statement, number: int) -> Statement:
    copied = TransactionId(f"copy-{number}")
    return replace(statement, transaction=replace(statement.transaction, transaction_id=copied))


def _told(statements: Iterable[Statement]) -> Subscription:
    first, *rest = statements
    return reduce(heard, rest, heard(None, first))


def _as_apple(subscription: Subscription, moment: datetime) -> int:
    return APPLE[status_at(subscription, moment)]
