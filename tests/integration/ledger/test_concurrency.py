"""Many workers on the same wallets: none waits for another in a circle, and nothing that one did is lost to another."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random  # noqa: TID251 - seeded, below
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine

from ledger.domain.books import WalletKey
from ledger.domain.commands import (
    CaptureHold,
    Command,
    Grant,
    GrantDone,
    HoldDone,
    Outcome,
    PlaceHold,
    Refused,
    ReleaseHold,
    Request,
    ReverseSpend,
    Spend,
    SpendDone,
)
from shared.database import connect_engine
from shared.events import Event
from shared.ids import AppId, UserId, parse_public_id
from tests.support.ledger import FLOOR_GAME, GAME, GEMS, NOW, faults, refund_reversed, refunded, transaction, verified
from tests.support.ledger_driver import Driver
from tests.support.ledger_model import ALL_OF_IT
from tests.support.seeded import seeded_ids
from tests.support.stack import Servers

OPERATIONS = int(os.environ.get("PURSER_TEST_LEDGER_OPERATIONS", "4000"))  # noqa: TID251 - a test's own setting
SEED = int(os.environ.get("PURSER_TEST_SEED", "20261122"))  # noqa: TID251
WORKERS = 8
PRICE = 100
"""What each purchase gives, in gems."""

Owner = tuple[AppId, UserId]


@dataclass(frozen=True, slots=True)
class Bought:
    """One purchase, all that the store says of it, and how much of it is refunded when all is said."""

    owner: Owner
    facts: Sequence[Event[Any]]
    milli: int

    @property
    def stands(self) -> int:
        return PRICE - PRICE * self.milli // ALL_OF_IT


@dataclass
class Shared:
    """What all workers may follow up: spends and holds, whoever made them."""

    owners: Sequence[Owner]
    spends: list[tuple[AppId, UUID]] = field(default_factory=list)
    holds: list[tuple[AppId, UUID]] = field(default_factory=list)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("wallets", [50, 1])
def test_workers_on_the_same_wallets_lose_nothing_and_never_wait_in_a_circle(servers: Servers, wallets: int) -> None:
    """After 8 workers did thousands of things at once, balances are the sums of what was done, and the books sound."""
    url = servers.migrated_database()
    owners = [(GAME if number % 2 == 0 else FLOOR_GAME, UserId(f"user-{number}")) for number in range(wallets)]
    random = Random(SEED)
    bought = [_purchase(number, random.choice(owners), random) for number in range(OPERATIONS // 8)]
    won = _work_together(url, Shared(owners), _dealt(bought, random))
    engine = connect_engine(url, role="purser_ledger", pool_size=1, application_name="test-concurrency")
    with engine.connect() as connection:
        deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
        assert connection.exec_driver_sql(deadlocks).scalar_one() == 0
        assert faults(connection) == []
        assert _balances(connection) == _expected(bought, won, connection)
        while Driver(connection, ids=seeded_ids(SEED)).expire(now=NOW + timedelta(days=1)):
            connection.commit()
        assert connection.exec_driver_sql("select sum(held) from ledger.account").scalar_one() == 0
        assert faults(connection) == []
    engine.dispose()


def _purchase(number: int, owner: Owner, random: Random) -> Bought:
    """A third is not refunded, a third in one or two parts, a third wholly, of which half is reversed."""
    app, user = owner
    of = transaction(str(number))
    facts: list[Event[Any]] = [verified(of, user=user, app=app), verified(of, user=user, app=app)]
    kind, parts = number % 6, sorted(random.sample(range(1, 100), 2))
    milli = {0: [], 1: [], 2: parts, 3: parts[1:], 4: [100], 5: [100]}[kind]
    for moment, percent in enumerate(milli, start=1):
        facts.append(refunded(transaction(str(number), after_s=moment), milli=percent * 1000, app=app))
    if kind == 5:
        facts.append(refund_reversed(transaction(str(number), after_s=9), app=app))
    return Bought(owner, facts, 0 if kind == 5 else max(milli, default=0) * 1000)


def _dealt(bought: Sequence[Bought], random: Random) -> list[list[Event[Any]]]:
    """Each worker's share of all facts, in no order; a fifth of them comes to another worker too."""
    facts = [fact for purchase in bought for fact in purchase.facts]
    facts += random.sample(facts, len(facts) // 5)
    random.shuffle(facts)
    return [facts[worker::WORKERS] for worker in range(WORKERS)]


def _work_together(url: str, shared: Shared, shares: Sequence[Sequence[Event[Any]]]) -> Counter[Owner]:
    """What each wallet won and lost by what was asked for. Whatever a worker meets, a deadlock too, is raised."""
    engine = connect_engine(url, role="purser_ledger", pool_size=WORKERS, application_name="test-concurrency")
    with ThreadPoolExecutor(WORKERS) as pool:
        working = [pool.submit(Worker(number, engine, shared).work, share) for number, share in enumerate(shares)]
        won: Counter[Owner] = Counter()
        for future in working:
            won.update(future.result())
    engine.dispose()
    return won


class Worker:
    """One of those who do things at once: what the store says, what is asked for, and holds that have expired."""

    def __init__(self, number: int, engine: Engine, shared: Shared) -> None:
        self._random = Random(SEED + number)
        self._ids = seeded_ids(SEED + number)
        self._engine = engine
        self._shared = shared
        self._shard = number
        self._won: Counter[Owner] = Counter()

    def work(self, facts: Sequence[Event[Any]]) -> Counter[Owner]:
        """Handles its facts in batches, and does as many commands in between."""
        rest = list(facts)
        while rest:
            size = self._random.choice([1, 5, 20, 50])
            batch, rest = rest[:size], rest[size:]
            with self._driver() as driver:
                driver.apply(batch, now=NOW)
            for _ in range(0, len(batch), 5):
                self._ask(self._random.choice([1, 4, 10]))
            if self._random.random() < 0.2:
                with self._driver() as driver:
                    driver.expire(now=NOW + timedelta(seconds=self._random.randint(0, 30)))
        return self._won

    @contextlib.contextmanager
    def _driver(self) -> Iterator[Driver]:
        with self._engine.begin() as connection:
            yield Driver(connection, ids=self._ids, shard=self._shard)

    def _ask(self, count: int) -> None:
        """In one transaction; what came of it is known to all only once it is committed."""
        requests = [self._request() for _ in range(count)]
        with self._driver() as driver:
            commands = [Command(request, "server:backend", self._ids.trace_id()) for request in requests]
            outcomes = [driver.outcome(answer) for answer in driver.execute(commands, now=NOW)]
        for request, outcome in zip(requests, outcomes, strict=True):
            self._count(request, outcome)

    def _request(self) -> Request:
        app, user = self._random.choice(self._shared.owners)
        wallet, amount = WalletKey(app, "production", user), self._random.randint(1, 40)
        kind = self._random.random()
        if kind < 0.15:
            return Grant(wallet, GEMS, amount, "a lost level")
        if kind < 0.5:
            return Spend(wallet, GEMS, amount)
        if kind < 0.65 or not self._shared.holds or not self._shared.spends:
            return PlaceHold(wallet, GEMS, amount, self._random.randint(1, 60))
        if kind < 0.8:
            return ReverseSpend(*self._random.choice(self._shared.spends), amount)
        hold = self._random.choice(self._shared.holds)
        return CaptureHold(*hold) if kind < 0.9 else ReleaseHold(*hold)

    def _count(self, request: Request, outcome: Outcome) -> None:
        if isinstance(outcome, Refused):
            return
        app = request.wallet.app if isinstance(request, Grant | Spend | PlaceHold) else request.app
        owner = app, outcome.user_id
        match request, outcome:
            case Grant(), GrantDone():
                self._won[owner] += outcome.amount
            case Spend(), SpendDone():
                self._won[owner] -= outcome.amount
                self._shared.spends.append((app, _uuid(parse_public_id(outcome.id, prefix="spd"))))
            case ReverseSpend(amount=int(amount)), SpendDone():
                self._won[owner] += amount
            case PlaceHold(), HoldDone():
                self._shared.holds.append((app, _uuid(parse_public_id(outcome.id, prefix="hld"))))
            case CaptureHold() | ReleaseHold(), HoldDone():
                self._won[owner] -= outcome.captured


def _uuid(found: UUID | None) -> UUID:
    assert found is not None
    return found


def _balances(connection: Connection) -> dict[Owner, int]:
    """What each wallet has by the database."""
    rows = connection.exec_driver_sql(
        "select account.app, user_id, balance from ledger.account join ledger.wallet on wallet.id = wallet_id"
    )
    return {(row.app, row.user_id): row.balance for row in rows}


def _written_off(connection: Connection) -> dict[Owner, int]:
    """What each wallet was let off: by refunds (what they took of the house, and not of the wallet) and afterwards."""
    rows = connection.exec_driver_sql(
        "select wallet.app, wallet.user_id, sum(amount - returned - settled) as amount"
        "  from ledger.portion join ledger.account on account.id = account_id"
        "  join ledger.wallet on wallet.id = wallet_id where source = 'written_off' group by wallet.app, wallet.user_id"
    )
    return {(row.app, row.user_id): int(row.amount) for row in rows}


def _expected(bought: Sequence[Bought], won: Mapping[Owner, int], connection: Connection) -> dict[Owner, int]:
    """What each wallet has: what stands of its purchases, what it won by requests, and what it was let off."""
    expected: Counter[Owner] = Counter(won)
    for purchase in bought:
        expected[purchase.owner] += purchase.stands
    expected.update(_written_off(connection))
    return dict(expected)
