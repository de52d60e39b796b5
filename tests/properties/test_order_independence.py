"""The same facts in any order, split and repeated in any way, end in the same books."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from random import Random  # noqa: TID251 - Hypothesis gives the seeded ones
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from ledger.domain.books import WalletKey
from ledger.domain.commands import Command, Grant, Refused, Request, Spend
from tests.support.ledger import FLOOR_GAME, GAME, GEMS, NOW, faults
from tests.support.ledger_driver import Driver
from tests.support.ledger_facts import USERS, Fact, event_of, facts, tell
from tests.support.ledger_model import LedgerModel
from tests.support.ledger_state import balances_in, state_of, totals_of
from tests.support.seeded import seeded_ids

SAMPLED_ORDERS = 50
WITH_DATABASE = settings(deadline=None, suppress_health_check=list(HealthCheck))

FEW = st.lists(facts(numbers=st.integers(1, 2)), min_size=2, max_size=5, unique_by=lambda fact: fact.statement)
MANY = st.lists(facts(numbers=st.integers(1, 5)), min_size=6, max_size=14, unique_by=lambda fact: fact.statement)
OF_GAME = facts(numbers=st.integers(1, 6), places=[(GAME, "production")])


@pytest.fixture(scope="module")
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection


@pytest.mark.slow
@settings(WITH_DATABASE, max_examples=max(8, settings().max_examples // 12))
@given(told=FEW, random=st.randoms(use_true_random=False))
def test_every_order_of_a_few_facts_ends_in_the_same_books(
    connection: Connection, told: list[Fact], random: Random
) -> None:
    for order in itertools.permutations(told):
        assert _totals_after(connection, _repeated(order, random), random) == _totals_by_model(told)


@pytest.mark.slow
@settings(WITH_DATABASE, max_examples=max(8, settings().max_examples // 12))
@given(told=MANY, random=st.randoms(use_true_random=False))
def test_sampled_orders_of_many_facts_end_in_the_same_books(
    connection: Connection, told: list[Fact], random: Random
) -> None:
    for _ in range(SAMPLED_ORDERS):
        order = random.sample(told, len(told))
        assert _totals_after(connection, _repeated(order, random), random) == _totals_by_model(told)


def _totals_by_model(told: Sequence[Fact]) -> dict[str, Any]:
    model = LedgerModel({GAME: "negative", FLOOR_GAME: "floor"})
    tell(model, told)
    return totals_of(model.state())


def _totals_after(connection: Connection, order: Sequence[Fact], random: Random) -> dict[str, Any]:
    """What the books come to; nothing of it is kept."""
    try:
        _apply(connection, order, random)
        assert faults(connection) == []
        return totals_of(state_of(connection))
    finally:
        connection.rollback()


def _repeated(order: Sequence[Fact], random: Random) -> list[Fact]:
    """Some of them come again, at once or later."""
    repeated = list(order)
    for fact in random.sample(order, random.randint(0, len(order))):
        repeated.insert(random.randint(repeated.index(fact), len(repeated)), fact)
    return repeated


def _apply(connection: Connection, order: Sequence[Fact], random: Random) -> None:
    """In batches of random sizes. Some repetitions are the very event, some another one that says the same."""
    driver = Driver(connection, ids=seeded_ids(1))
    events = {fact: event_of(fact) for fact in order}
    rest = [events[fact] if random.random() < 0.5 else event_of(fact) for fact in order]
    while rest:
        size = random.randint(1, len(rest))
        batch, rest = rest[:size], rest[size:]
        assert not driver.apply(batch, now=NOW).parked


# ---- with something spent before ---------------------------------------------------------------------------------


@pytest.mark.slow
@settings(WITH_DATABASE, max_examples=max(6, settings().max_examples // 16))
@given(
    told=st.lists(OF_GAME, min_size=3, max_size=8, unique_by=lambda fact: fact.statement),
    random=st.randoms(use_true_random=False),
)
def test_what_users_have_and_owe_does_not_depend_on_the_order_after_they_spent(
    connection: Connection, told: list[Fact], random: Random
) -> None:
    """Which lots a refund finds does; the balances, what is available of them and what is owed do not."""
    outcomes = []
    for _ in range(SAMPLED_ORDERS // 2):
        try:
            _buy_and_spend(connection)
            _apply(connection, _repeated(random.sample(told, len(told)), random), random)
            assert faults(connection) == []
            outcomes.append(balances_in(state_of(connection)))
        finally:
            connection.rollback()
    assert outcomes == [outcomes[0]] * len(outcomes)


def _buy_and_spend(connection: Connection) -> None:
    """Everybody has bought some of the first four purchases and been given 30 gems; all but 5 of them are spent."""
    driver = Driver(connection, ids=seeded_ids(2))
    bought = [Fact(GAME, "production", number, "verified") for number in range(1, 5)]
    driver.apply([event_of(fact) for fact in bought], now=NOW)
    for user in USERS:
        wallet = WalletKey(GAME, "production", user)
        worth = sum(fact.due.get(GEMS, 0) for fact in bought if fact.user == user)
        requests: list[Request] = [
            Grant(wallet, GEMS, 30, "a lost level"),
            Spend(wallet, GEMS, 25),
            Spend(wallet, GEMS, worth),
        ]
        answers = driver.execute([Command(request, "server:backend", "0" * 32) for request in requests], now=NOW)
        assert not [answer for answer in answers if isinstance(driver.outcome(answer), Refused)]
