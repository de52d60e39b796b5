"""The books in a real PostgreSQL: what is written is what is read, as much is read as is needed, and nothing scans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from random import Random  # noqa: TID251 - seeded, below
from typing import Any, Literal
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from ledger.domain.books import UNKNOWN, AccountKey, KnownTransaction, TransactionKey, TransferId, WalletKey
from ledger.domain.commands import CaptureHold, Command, Grant, HoldDone, PlaceHold, Request, ReverseSpend, Spend
from ledger.domain.lots import Lot, LotKey, LotsFound, LotsWanted
from ledger.domain.postings import Posting
from ledger.store import HOUSE_SHARDS, PostgresBooks, PostgresWallets
from shared.database import transact
from shared.events import Event
from shared.ids import PurchaseId, TransactionId, UserId, parse_public_id, system_ids
from tests.support.ledger import (
    ALICE,
    BOB,
    COINS,
    FLOOR_GAME,
    GAME,
    GEMS,
    NOW,
    balances_of,
    faults,
    refund_reversed,
    refunded,
    transaction,
    verified,
)
from tests.support.ledger_driver import Driver

ids = system_ids()

AWKWARD = UserId("""{"a",'b'}, \\N NULL%s""")
NOTHING = Posting(transfers=[], entries=[], accounts=[], wallets=[], drafts=[])
ISSUANCE = AccountKey("issuance", GAME, "production", GEMS)


def key(number: int = 1) -> TransactionKey:
    return TransactionKey(GAME, "apple", "production", TransactionId(str(number)))


def account(user: UserId = ALICE) -> AccountKey:
    return AccountKey("wallet", GAME, "production", GEMS, user)


def apply(connection: Connection, events: Sequence[Event[Any]], *, shard: int = 0) -> None:
    Driver(connection, ids=ids, shard=shard).apply(events, now=NOW)


def ask(connection: Connection, request: Request) -> Any:
    """What the request comes to; it is not refused."""
    driver = Driver(connection, ids=ids)
    (answer,) = driver.execute([Command(request, "server:backend", "0" * 32)], now=NOW)
    assert answer.status == 201
    return driver.outcome(answer)


# ---- what is written is what is read ----------------------------------------------------------------------------


@pytest.fixture
def books(connection: Connection) -> PostgresBooks:
    return PostgresBooks(connection, shard=3)


def test_a_transaction_that_nobody_has_met_is_unknown(books: PostgresBooks) -> None:
    assert books.lock_transactions({key(1), key(2)}) == {key(1): UNKNOWN, key(2): UNKNOWN}


def test_what_is_written_of_a_transaction_is_what_is_read(books: PostgresBooks) -> None:
    known = {
        key(1): KnownTransaction(refunded_milli=40_000, revoked_signed_at=NOW),
        key(2): KnownTransaction("parked", AWKWARD, PurchaseId("pur_2"), parked_reason='no "such" {product}'),
        key(3): KnownTransaction(
            state="granted",
            user_id=ALICE,
            purchase_id=PurchaseId("pur_3"),
            product_id="bundle",
            purchased_at=NOW,
            due={GEMS: 551, COINS: 7},
            granted={GEMS: 331},
            refunded_milli=40_000,
            revoked_signed_at=NOW,
            sequence=2,
            lots={GEMS: [1, 4]},
        ),
    }
    books.lock_transactions(known.keys())
    books.write(replace(NOTHING, credits={key(3): {GEMS: [1, 4]}}), known)
    assert books.lock_transactions({*known, key(4)}) == {**known, key(4): UNKNOWN}


def test_an_account_is_opened_once_with_nothing_in_it(books: PostgresBooks) -> None:
    first = books.lock_accounts({account(), ISSUANCE})
    again = books.lock_accounts({account(), account(BOB), ISSUANCE})
    assert {(each.balance, each.version, each.held, each.owed) for each in again.accounts.values()} == {(0, 0, 0, 0)}
    assert {name: again.accounts[name] for name in first.accounts} == first.accounts
    assert len({each.id for each in again.accounts.values()}) == 3
    assert first.wallets.keys() == {WalletKey(GAME, "production", ALICE)}


def test_no_accounts_are_locked_when_none_are_asked_for(books: PostgresBooks) -> None:
    locked = books.lock_accounts(set())
    assert (locked.accounts, locked.wallets) == ({}, {})


def test_accounts_and_wallets_are_where_the_last_posting_left_them(
    connection: Connection, books: PostgresBooks
) -> None:
    of = transaction(product="bundle")
    apply(connection, [verified(of, user=AWKWARD)], shard=3)
    ask(connection, PlaceHold(WalletKey(GAME, "production", AWKWARD), GEMS, 500, 60))
    apply(connection, [refunded(of, milli=50_000)], shard=3)
    locked = books.lock_accounts({account(AWKWARD), ISSUANCE})
    stand = {name.kind: (each.balance, each.version, each.held, each.owed) for name, each in locked.accounts.items()}
    assert stand == {"wallet": (276, 2, 500, 224), "issuance": (-276, 2, 0, 0)}
    assert [wallet.version for wallet in locked.wallets.values()] == [4]
    assert faults(connection) == []


# ---- as much is read as is needed -------------------------------------------------------------------------------


@pytest.fixture
def five_lots(connection: Connection, books: PostgresBooks) -> AccountKey:
    """Alice's account, with five lots of 100."""
    apply(connection, [verified(transaction(str(number))) for number in range(5)])
    return account()


def found(books: PostgresBooks, **wanted: Any) -> LotsFound:
    return books.load_lots(LotsWanted(**wanted))


def versions(lots: LotsFound) -> list[int]:
    return sorted(lot.key.version for lot in lots.lots)


def id_of(books: PostgresBooks, name: AccountKey) -> Any:
    return books.lock_accounts([name]).accounts[name].id


@pytest.mark.parametrize(
    ("amount", "read"), [(1, [1]), (100, [1]), (101, [1, 2]), (300, [1, 2, 3]), (10**15, [1, 2, 3, 4, 5])]
)
def test_the_oldest_lots_are_read_until_there_is_enough(
    books: PostgresBooks, five_lots: AccountKey, amount: int, read: list[int]
) -> None:
    assert versions(found(books, oldest={id_of(books, five_lots): amount})) == read


def test_lots_in_which_nothing_is_left_are_passed_over(
    connection: Connection, books: PostgresBooks, five_lots: AccountKey
) -> None:
    ask(connection, Spend(WalletKey(GAME, "production", ALICE), GEMS, 150))
    apply(connection, [refunded(transaction("2"))])
    name = id_of(books, five_lots)
    lots = found(books, oldest={name: 60})
    assert sorted(lots.lots, key=lambda lot: lot.key) == [
        Lot(LotKey(name, 2), 100, remaining=50, spent=50),
        Lot(LotKey(name, 4), 100, remaining=100),
    ]


def test_a_lot_that_is_named_is_read_whatever_is_left_of_it(
    connection: Connection, books: PostgresBooks, five_lots: AccountKey
) -> None:
    ask(connection, Spend(WalletKey(GAME, "production", ALICE), GEMS, 150))
    name = id_of(books, five_lots)
    assert versions(found(books, oldest={name: 1}, lots=frozenset({LotKey(name, 1), LotKey(name, 2)}))) == [1, 2]
    assert versions(found(books, lots=frozenset({LotKey(name, 99)}))) == []


def test_with_a_spend_come_its_portions_and_their_lots(
    connection: Connection, books: PostgresBooks, five_lots: AccountKey
) -> None:
    spend = _uuid(ask(connection, Spend(WalletKey(GAME, "production", ALICE), GEMS, 150)).id, "spd")
    lots = found(books, transfers=frozenset({TransferId(spend)}))
    assert versions(lots) == [1, 2]
    assert [(each.source, each.lot_version, each.amount, each.own) for each in lots.portions] == [
        ("lot", 1, 100, False),
        ("lot", 2, 50, False),
    ]


def test_with_a_store_transaction_come_the_debits_of_all_its_refunds_in_their_order(
    connection: Connection, books: PostgresBooks, five_lots: AccountKey
) -> None:
    apply(connection, [refunded(transaction("2", after_s=1), milli=30_000)])
    apply(connection, [refunded(transaction("2", after_s=2))])
    lots = found(books, transactions=frozenset({key(2)}))
    (transfers,) = lots.refunds.values()
    amounts = {each.transfer_id: (each.amount, each.own, each.lot_version) for each in lots.portions}
    assert [amounts[transfer] for transfer in transfers] == [(30, True, 3), (70, True, 3)]
    assert versions(lots) == [3]


def test_of_an_account_that_owes_come_its_open_debts_and_where_their_portions_end(
    connection: Connection, books: PostgresBooks
) -> None:
    """100 are refunded after they were spent; goodwill has paid 10 of them, and then 20."""
    wallet = WalletKey(GAME, "production", ALICE)
    apply(connection, [verified(transaction("1"))])
    ask(connection, Spend(wallet, GEMS, 100))
    apply(connection, [refunded(transaction("1"))])
    for amount in (10, 20):
        ask(connection, Grant(wallet, GEMS, amount, "sorry"))
    lots = found(books, indebted=frozenset({id_of(books, account())}))
    (debt,) = lots.portions
    assert (debt.source, debt.amount, debt.settled, debt.left) == ("owed", 100, 30, 70)
    assert lots.last_positions == {(debt.transfer_id, debt.account_id): 2}
    ask(connection, Grant(wallet, GEMS, 70, "very sorry"))
    assert found(books, indebted=frozenset({debt.account_id})).portions == []


def test_with_a_hold_come_what_it_has_reserved_and_the_lots(
    connection: Connection, books: PostgresBooks, five_lots: AccountKey
) -> None:
    hold = _uuid(ask(connection, PlaceHold(WalletKey(GAME, "production", ALICE), GEMS, 150, 60)).id, "hld")
    lots = found(books, holds=frozenset({hold}))
    assert [(each.key.version, each.amount) for each in lots.reservations] == [(1, 100), (2, 50)]
    assert versions(lots) == [1, 2]


def _uuid(text: str | None, prefix: Literal["spd", "hld"]) -> UUID:
    value = parse_public_id(text or "", prefix=prefix)
    assert value is not None
    return value


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
        name, user = f"{prefix}-{number}", random.choice(users)
        parts = random.sample(range(1, 101), 2) if number % 3 == 0 else []
        facts.append(verified(transaction(name), user=user))
        facts += [refunded(transaction(name, after_s=age), milli=part * 1000) for age, part in enumerate(parts)]
        left[user] += 100 - (parts[-1] if parts else 0)
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


def test_reading_and_locking_find_their_rows_by_index(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no statistics at all, and sequential scans as expensive as they are in large tables."""
    plans: list[str] = []

    def explained(connection: Connection, statement: str, parameters: dict[str, Any] | None = None) -> Any:
        plan = original(connection, "explain " + statement, parameters).scalars().all()
        plans.append("\n".join(plan))
        return original(connection, statement, parameters)

    original = Connection.exec_driver_sql
    connection.exec_driver_sql("set local enable_seqscan = off")
    monkeypatch.setattr(Connection, "exec_driver_sql", explained)
    _everything(connection)
    monkeypatch.undo()
    assert len(plans) > 100
    assert not [plan for plan in plans if "Seq Scan" in plan]


def _everything(connection: Connection) -> None:
    """Every statement of the books, the commissions and the wallets, but for the answers' and the requests'."""
    wallet = WalletKey(FLOOR_GAME, "production", BOB)
    apply(connection, [verified(transaction("explained"), user=BOB, app=FLOOR_GAME)])
    hold: HoldDone = ask(connection, PlaceHold(wallet, GEMS, 80, 60))
    apply(connection, [refunded(transaction("explained"), app=FLOOR_GAME)])
    captured: HoldDone = ask(connection, CaptureHold(FLOOR_GAME, _uuid(hold.id, "hld"), 60))
    ask(connection, ReverseSpend(FLOOR_GAME, _uuid(captured.spend_id, "spd"), 10))
    apply(connection, [refund_reversed(transaction("explained", after_s=1), app=FLOOR_GAME)])
    ask(connection, PlaceHold(wallet, GEMS, 1, 60))
    Driver(connection, ids=ids).expire(now=NOW + timedelta(seconds=60))
    wallets = PostgresWallets(connection)
    wallets.wallet(wallet)
    wallets.entries(wallet, before=None, limit=10)
