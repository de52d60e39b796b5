"""Holds whose time is over release themselves, on a real database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine

from ledger.app import expire_holds_on
from ledger.domain.books import WalletKey
from ledger.domain.commands import CaptureHold, Command, Grant, HoldDone, PlaceHold, ReleaseHold, Request
from ledger.domain.statements import Funds
from ledger.handlers.expiring import Expired, expire_holds
from ledger.store import PostgresBooks, PostgresCommissions, PostgresWallets
from shared.clock import ManualClock
from shared.database import transact
from shared.events import HoldEnded
from shared.ids import UserId, hold_id, parse_public_id, system_ids
from tests.support.ledger import (
    ALICE,
    APPS,
    FLOOR_GAME,
    GAME,
    GEMS,
    NOW,
    faults,
    refunded,
    somebody_waits,
    transaction,
    verified,
)
from tests.support.ledger_driver import Driver
from tests.support.stack import wait_until

WALLET = WalletKey(GAME, "production", ALICE)
ids = system_ids()


def ask(connection: Connection, request: Request) -> HoldDone | None:
    """The hold, if it is about one."""
    driver = Driver(connection, ids=ids)
    (answer,) = driver.execute([Command(request, "server:backend", "0" * 32)], now=NOW)
    assert answer.status == 201
    outcome = driver.outcome(answer)
    return outcome if isinstance(outcome, HoldDone) else None


def place(connection: Connection, amount: int, seconds: int, wallet: WalletKey = WALLET) -> UUID:
    hold = ask(connection, PlaceHold(wallet, GEMS, amount, seconds))
    assert hold is not None
    value = parse_public_id(hold.id, prefix="hld")
    assert value is not None
    return value


def expire(connection: Connection, *, after_s: int, limit: int = 100) -> Expired:
    return expire_holds(
        books=PostgresBooks(connection, shard=0),
        commissions=PostgresCommissions(connection),
        apps=APPS,
        new_id=ids.event_id,
        new_trace=ids.trace_id,
        now=NOW + timedelta(seconds=after_s),
        limit=limit,
    )


def ended(expired: Expired) -> list[str]:
    """Which holds are said to have expired."""
    words = [draft.payload for draft in expired.drafts]
    assert all(isinstance(word, HoldEnded) and (word.state, word.actor) == ("expired", "ledger") for word in words)
    return [word.hold_id for word in words if isinstance(word, HoldEnded)]


def funds(connection: Connection, wallet: WalletKey = WALLET) -> Funds:
    state = PostgresWallets(connection).wallet(wallet)
    assert state is not None
    return state.balances[GEMS]


@pytest.fixture
def rich(connection: Connection) -> Connection:
    """Alice has 100 gems."""
    ask(connection, Grant(WALLET, GEMS, 100, "to begin with"))
    return connection


def test_nothing_expires_where_nothing_is_held(connection: Connection) -> None:
    assert expire(connection, after_s=10**6) == Expired(0, ())


def test_a_hold_expires_at_its_moment_and_not_before(rich: Connection) -> None:
    hold = place(rich, 60, 30)
    assert expire(rich, after_s=29) == Expired(0, ())
    assert funds(rich).held == 60
    expired = expire(rich, after_s=30)
    assert (expired.count, ended(expired)) == (1, [hold_id(hold)])
    assert funds(rich) == Funds(balance=100, available=100, held=0, debt=0)
    assert expire(rich, after_s=31) == Expired(0, ())
    assert faults(rich) == []


def test_holds_that_ended_before_do_not_expire(rich: Connection) -> None:
    captured, released = place(rich, 10, 30), place(rich, 20, 30)
    ask(rich, CaptureHold(GAME, captured))
    ask(rich, ReleaseHold(GAME, released))
    assert expire(rich, after_s=30) == Expired(0, ())


def test_the_oldest_expire_first_and_no_more_at_once_than_is_allowed(rich: Connection) -> None:
    holds = {seconds: place(rich, 1, seconds) for seconds in (30, 10, 50, 20, 40)}
    rounds = [ended(expire(rich, after_s=40, limit=3)) for _ in range(3)]
    assert rounds == [[hold_id(holds[10]), hold_id(holds[20]), hold_id(holds[30])], [hold_id(holds[40])], []]
    assert funds(rich).held == 1


def test_holds_of_several_wallets_and_apps_expire_together(rich: Connection) -> None:
    wallets = [WALLET, WALLET._replace(app=FLOOR_GAME), WALLET._replace(environment="sandbox")]
    for wallet in wallets:
        ask(rich, Grant(wallet, GEMS, 50, "sorry"))
        place(rich, 40, 30, wallet)
    assert expire(rich, after_s=30).count == 3
    assert [funds(rich, wallet).held for wallet in wallets] == [0, 0, 0]
    assert faults(rich) == []


def test_what_expires_pays_what_is_owed(connection: Connection) -> None:
    driver = Driver(connection, ids=ids)
    driver.apply([verified(transaction())], now=NOW)
    place(connection, 70, 30)
    driver.apply([refunded(transaction())], now=NOW)
    assert funds(connection) == Funds(balance=0, available=0, held=70, debt=70)
    expire(connection, after_s=30)
    assert funds(connection) == Funds(balance=0, available=0, held=0, debt=0)
    assert faults(connection) == []


def test_two_that_expire_at_once_release_each_hold_once(engine: Engine) -> None:
    """And what they say is in the journal, once for each."""
    wallet = WalletKey(GAME, "production", UserId("at-once"))
    transact(engine, lambda connection: ask(connection, Grant(wallet, GEMS, 100, "to begin with")))
    for _ in range(20):
        transact(engine, lambda connection: place(connection, 5, 30, wallet))
    later = ManualClock(NOW + timedelta(seconds=30))

    def work(connection: Connection) -> int:
        return expire_holds_on(connection, apps=APPS, ids=ids, clock=later)

    with ThreadPoolExecutor(4) as pool:
        counts = [future.result(timeout=60) for future in [pool.submit(transact, engine, work) for _ in range(4)]]
    assert sum(counts) == 20
    with engine.connect() as connection:
        assert funds(connection, wallet) == Funds(balance=100, available=100, held=0, debt=0)
        assert faults(connection) == []
        said = "select count(*) from journal.event where type = 'hold.ended' and user_id = 'at-once'"
        assert connection.exec_driver_sql(said).scalar_one() == 20


def test_a_hold_that_is_captured_while_another_expires_it_is_not_released(engine: Engine, owner: Engine) -> None:
    """The one that expires it has read that it is due, and then waits for the wallet."""
    wallet = WalletKey(GAME, "production", UserId("captured"))
    transact(engine, lambda connection: ask(connection, Grant(wallet, GEMS, 100, "to begin with")))
    hold = transact(engine, lambda connection: place(connection, 60, 30, wallet))
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as captor:
            ask(captor, CaptureHold(GAME, hold))
            late = pool.submit(transact, engine, lambda connection: expire(connection, after_s=30))
            wait_until(lambda: transact(owner, somebody_waits), what="the one that expires to wait for the wallet")
        assert late.result(timeout=60) == Expired(0, [])
    with engine.connect() as connection:
        assert funds(connection, wallet) == Funds(balance=40, available=40, held=0, debt=0)
        assert faults(connection) == []
