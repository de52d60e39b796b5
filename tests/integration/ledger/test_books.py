"""The books in a real PostgreSQL: many workers at once, and no table read from end to end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random  # noqa: TID251 - seeded, below
from typing import Any

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from ledger.domain.books import AccountKey
from ledger.handlers import apply_facts
from ledger.store import HOUSE_SHARDS, PostgresBooks, PostgresWallets
from shared.database import transact
from shared.events import Event
from shared.ids import UserId, system_ids
from tests.support.ledger import (
    APPS,
    BOB,
    CATALOG,
    GAME,
    GEMS,
    NOW,
    balances_of,
    faults,
    refunded,
    transaction,
    verified,
)

ids = system_ids()


def apply(connection: Connection, events: Sequence[Event[Any]], *, shard: int = 0) -> None:
    books = PostgresBooks(connection, shard=shard)
    apply_facts(events, books=books, catalog=CATALOG, apps=APPS, new_id=ids.event_id, now=NOW)


# ---- many workers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_workers_with_the_same_facts_in_other_orders_end_in_one_set_of_books(engine: Engine, seed: int) -> None:
    """No deadlock, no lost update, nothing twice: each of 6 workers is given every fact, in an order of its own."""
    users = [UserId(f"user-{seed}-{number}") for number in range(5)]
    facts, expected = _facts(users, prefix=f"t{seed}", random=Random(seed))

    def work(worker: int) -> None:
        random = Random(seed * 100 + worker)
        mine = random.sample(facts, len(facts))
        for batch in _batches(mine, random):
            shard = random.randrange(HOUSE_SHARDS)
            transact(engine, partial(apply, events=batch, shard=shard))

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(work, worker) for worker in range(6)]:
            future.result(timeout=120)
    with engine.connect() as connection:
        assert faults(connection) == []
        assert {user: balances_of(connection, user).get(GEMS, 0) for user in users} == expected


def _facts(users: Sequence[UserId], *, prefix: str, random: Random) -> tuple[list[Event[Any]], dict[UserId, int]]:
    """120 purchases of 100 gems, a third of them refunded in parts, and what that leaves each user."""
    facts: list[Event[Any]] = []
    left: Counter[UserId] = Counter(dict.fromkeys(users, 0))
    for number in range(120):
        of, user = transaction(f"{prefix}-{number}"), random.choice(users)
        parts = sorted(random.sample(range(1, 101), 2)) if number % 3 == 0 else []
        facts += [verified(of, user=user), *(refunded(of, milli=part * 1000) for part in parts)]
        left[user] += 100 - max(parts, default=0)
    return facts, dict(left)


def _batches(facts: Sequence[Event[Any]], random: Random) -> list[Sequence[Event[Any]]]:
    size = random.choice([7, 20, 50])
    return [facts[start : start + size] for start in range(0, len(facts), size)]


def test_workers_that_use_other_shards_of_the_house_do_not_wait_for_each_other(engine: Engine) -> None:
    with engine.begin() as one, engine.begin() as other:
        apply(one, [verified(transaction("shard-1"), user=UserId("shard-1"))], shard=1)
        other.exec_driver_sql("set local lock_timeout = '300ms'")
        apply(other, [verified(transaction("shard-2"), user=UserId("shard-2"))], shard=2)


def test_workers_that_use_the_same_shard_of_the_house_take_turns(engine: Engine) -> None:
    with engine.begin() as one, engine.connect() as other:
        apply(one, [verified(transaction("turn-1"), user=UserId("turn-1"))], shard=1)
        other.exec_driver_sql("set lock_timeout = '300ms'")
        with pytest.raises(OperationalError, match="lock timeout"):
            apply(other, [verified(transaction("turn-2"), user=UserId("turn-2"))], shard=1)


def test_what_is_not_committed_leaves_nothing(engine: Engine) -> None:
    with engine.connect() as connection:
        apply(connection, [verified(transaction("rolled-back"), user=UserId("rolled-back"))])
        connection.rollback()
        assert balances_of(connection, UserId("rolled-back")) == {}
        assert faults(connection) == []


# ---- nothing scans ----------------------------------------------------------------------------------------------


def test_reading_and_locking_find_their_rows_by_index(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no statistics at all, and sequential scans as expensive as they are in large tables."""
    plans: list[str] = []

    def explained(connection: Connection, statement: str, parameters: dict[str, Any]) -> Any:
        plan = original(connection, "explain " + statement, parameters).scalars().all()
        plans.append("\n".join(plan))
        return original(connection, statement, parameters)

    original = Connection.exec_driver_sql
    with engine.connect() as connection:
        connection.exec_driver_sql("set local enable_seqscan = off")
        monkeypatch.setattr(Connection, "exec_driver_sql", explained)
        of = transaction("explained")
        apply(connection, [verified(of)])
        apply(connection, [refunded(of)])
        wallets = PostgresWallets(connection)
        key = AccountKey("wallet", GAME, "production", GEMS, BOB).wallet
        assert key is not None
        wallets.wallet(key)
        wallets.entries(key, before=None, limit=10)
        monkeypatch.undo()
    assert len(plans) > 15
    assert not [plan for plan in plans if "Seq Scan" in plan]
