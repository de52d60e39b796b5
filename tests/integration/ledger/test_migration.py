"""Books of the first release, which knew purchases and their refunds alone, are carried over into lots."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text

from deploy.migrate import ROOT, migrate
from ledger.domain.books import TransactionKey, WalletKey
from ledger.domain.commands import Command, Spend
from ledger.store import PostgresBooks
from shared.database import connect_engine
from shared.events import Environment
from shared.ids import TransactionId, system_ids
from tests.support.ledger import (
    ALICE,
    BOB,
    COINS,
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
from tests.support.stack import Servers

Amounts = Mapping[str, int]


@dataclass
class FirstRelease:
    """Writes what the first release wrote: wallets, postings with their running balances, store transactions."""

    connection: Connection
    wallets: dict[tuple[str, str], int] = field(default_factory=dict)
    accounts: dict[tuple[str, str, str], int] = field(default_factory=dict)
    balances: Counter[int] = field(default_factory=Counter)
    versions: Counter[int] = field(default_factory=Counter)
    wallet_versions: Counter[int] = field(default_factory=Counter)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def purchase(
        self,
        name: str,
        user: str,
        due: Amounts,
        *,
        refunds: tuple[Amounts, ...] = (),
        granted: Amounts | None = None,
        milli: int = 0,
        environment: Environment = "production",
    ) -> None:
        """A purchase that was granted (`granted`: less than is due, as a refund came first), and what refunds took."""
        granted = due if granted is None else granted
        for sequence, amounts in enumerate([granted, *[_negative(taken) for taken in refunds]]):
            if amounts:
                self._post(name, user, amounts, sequence=sequence, environment=environment)
        self._know(
            name,
            environment=environment,
            state="granted",
            user_id=user,
            purchase_id=f"pur_{name}",
            due=json.dumps(due),
            granted=json.dumps(granted),
            refunded_milli=milli,
            refunds=len(refunds),
        )

    def awaited(self, name: str, *, milli: int) -> None:
        """A refund came, and its purchase did not."""
        self._know(name, environment="production", refunded_milli=milli)

    def parked(self, name: str, user: str) -> None:
        self._know(
            name,
            environment="production",
            state="parked",
            user_id=user,
            purchase_id=f"pur_{name}",
            parked_reason="the product 'gone' is not in the catalogue",
        )

    def _know(self, name: str, *, environment: Environment, **values: Any) -> None:
        columns = {"app": GAME, "store": "apple", "environment": environment, "transaction_id": name, **values}
        self._insert("store_transaction", columns)

    def _post(self, name: str, user: str, amounts: Amounts, *, sequence: int, environment: Environment) -> None:
        transfer = UUID(int=next(self.numbers))
        transfer_columns = {
            "id": transfer,
            "app": GAME,
            "environment": environment,
            "kind": "refund" if sequence else "purchase",
            "store": "apple",
            "transaction_id": name,
            "sequence": sequence,
            "purchase_id": f"pur_{name}",
            "event_id": UUID(int=next(self.numbers)),
            "trace_id": "0" * 32,
            "created_at": NOW,
        }
        self._insert("transfer", transfer_columns)
        wallet = self._wallet(environment, user)
        legs: list[tuple[int, int, int | None]] = [
            (self._account(environment, each, wallet), amount, wallet) for each, amount in amounts.items()
        ]
        legs += [(self._account(environment, each, None), -amount, None) for each, amount in amounts.items()]
        rows = [self._entry(transfer, place, *leg) for place, leg in enumerate(legs)]
        self.connection.exec_driver_sql(
            "insert into ledger.entry select * from jsonb_populate_recordset(null::ledger.entry, %(rows)s)",
            {"rows": json.dumps(rows)},
        )
        for account, _, _ in legs:
            self.connection.exec_driver_sql(
                "update ledger.account set balance = %(balance)s, version = %(version)s where id = %(id)s",
                {"balance": self.balances[account], "version": self.versions[account], "id": account},
            )
        self.connection.exec_driver_sql(
            "update ledger.wallet set version = %(version)s where id = %(id)s",
            {"version": self.wallet_versions[wallet], "id": wallet},
        )

    def _entry(self, transfer: UUID, place: int, account: int, amount: int, wallet: int | None) -> dict[str, Any]:
        before = self.balances[account]
        self.balances[account] += amount
        self.versions[account] += 1
        if wallet is not None:
            self.wallet_versions[wallet] += 1
        return {
            "account_id": account,
            "account_version": self.versions[account],
            "transfer_id": str(transfer),
            "position": place,
            "amount": amount,
            "balance_before": before,
            "balance_after": before + amount,
            "wallet_id": wallet,
            "wallet_version": None if wallet is None else self.wallet_versions[wallet],
        }

    def _wallet(self, environment: Environment, user: str) -> int:
        if (environment, user) not in self.wallets:
            columns = {"app": GAME, "environment": environment, "user_id": user}
            self.wallets[environment, user] = self._insert("wallet", columns, returning="id")
        return self.wallets[environment, user]

    def _account(self, environment: Environment, currency: str, wallet: int | None) -> int:
        name = (environment, currency, str(wallet))
        if name not in self.accounts:
            whose = {"kind": "issuance", "shard": 3} if wallet is None else {"kind": "wallet", "wallet_id": wallet}
            columns = {"app": GAME, "environment": environment, "currency": currency, **whose}
            self.accounts[name] = self._insert("account", columns, returning="id")
        return self.accounts[name]

    def _insert(self, table: str, columns: dict[str, Any], *, returning: str = "null::bigint") -> int:
        names, values = ", ".join(columns), ", ".join(f"%({name})s" for name in columns)
        statement = f"insert into ledger.{table} ({names}) values ({values}) returning {returning}"  # noqa: S608
        parameters = {name: str(value) if isinstance(value, UUID) else value for name, value in columns.items()}
        return self.connection.exec_driver_sql(statement, parameters).scalar_one()  # type: ignore[no-any-return]


def _negative(amounts: Amounts) -> Amounts:
    return {currency: -amount for currency, amount in amounts.items()}


def _first_release_database(servers: Servers) -> str:
    """A database whose ledger is the first release's; the rest of it is as new as can be."""
    url = servers.empty_database()
    owner = connect_engine(url, role=None, pool_size=1, application_name="test-owner")
    with owner.connect() as connection:
        connection.execute(text((ROOT / "deploy" / "roles.sql").read_text(encoding="utf-8")))
        connection.execute(text("create schema ledger"))
        connection.commit()
        config = Config()
        config.set_main_option("script_location", str(ROOT / "deploy" / "migrations"))
        config.set_main_option("version_locations", str(ROOT / "ledger" / "migrations"))
        config.set_main_option("path_separator", "newline")
        config.attributes.update(schema="ledger", connection=connection)
        command.upgrade(config, "ledger_0001")
        connection.commit()
    owner.dispose()
    return url


@pytest.fixture(scope="module")
def carried_over(servers: Servers) -> Iterator[Engine]:
    """As the ledger, in books of the first release that were migrated."""
    url = _first_release_database(servers)
    owner = connect_engine(url, role=None, pool_size=1, application_name="test-owner")
    with owner.begin() as connection:
        _fill(FirstRelease(connection))
    owner.dispose()
    migrate(url)
    engine = connect_engine(url, role="purser_ledger", pool_size=1, application_name="test-ledger")
    yield engine
    engine.dispose()


def _fill(old: FirstRelease) -> None:
    old.purchase("whole", ALICE, {GEMS: 100})
    old.purchase(
        "in-parts", ALICE, {GEMS: 551, COINS: 7}, refunds=({GEMS: 275, COINS: 3}, {GEMS: 91, COINS: 1}), milli=66_600
    )
    old.purchase("gone", ALICE, {GEMS: 100}, refunds=({GEMS: 100},), milli=100_000)
    old.purchase("late", BOB, {GEMS: 100}, granted={GEMS: 60}, refunds=({GEMS: 10},), milli=50_000)
    old.purchase("too-late", BOB, {GEMS: 100}, granted={}, milli=100_000)
    old.purchase("no-currency", BOB, {})
    old.purchase("whole", ALICE, {GEMS: 200}, environment="sandbox")
    old.awaited("tombstone", milli=40_000)
    old.parked("parked", BOB)


@pytest.fixture
def connection(carried_over: Engine) -> Iterator[Connection]:
    """Nothing is kept of what a test does."""
    with carried_over.connect() as connection:
        yield connection
        connection.rollback()


def lots(connection: Connection, user: str, currency: str = GEMS) -> list[tuple[int, int, int, int]]:
    """The amount of each production lot, and what remains, is held and is spent of it; the oldest first."""
    rows = connection.exec_driver_sql(
        "select amount, remaining, lot.held, spent from ledger.lot join ledger.account on account.id = account_id"
        " join ledger.wallet on wallet.id = wallet_id where user_id = %(user)s and currency = %(currency)s"
        " and wallet.environment = 'production' order by lot.version",
        {"user": user, "currency": currency},
    )
    return [(row.amount, row.remaining, row.held, row.spent) for row in rows]


def test_the_books_are_sound_after_they_were_carried_over(connection: Connection) -> None:
    assert faults(connection) == []
    assert balances_of(connection, ALICE) == {GEMS: 285, COINS: 3}
    assert balances_of(connection, BOB) == {GEMS: 50}


def test_each_purchase_is_a_lot_less_what_refunds_took_of_it(connection: Connection) -> None:
    assert lots(connection, ALICE) == [(100, 100, 0, 0), (551, 185, 0, 0), (100, 0, 0, 0)]
    assert lots(connection, ALICE, COINS) == [(7, 3, 0, 0)]
    assert lots(connection, BOB) == [(60, 50, 0, 0)]


def test_each_refund_is_a_portion_of_its_own_purchases_lot(connection: Connection) -> None:
    rows = connection.exec_driver_sql(
        "select transaction_id, sequence, currency, portion.amount from ledger.portion"
        "  join ledger.transfer on transfer.id = transfer_id join ledger.account on account.id = account_id"
        " where own and source = 'lot' and returned = 0 and settled = 0 order by 1, 2, 3"
    )
    assert [tuple(row) for row in rows] == [
        ("gone", 1, GEMS, 100),
        ("in-parts", 1, COINS, 3),
        ("in-parts", 1, GEMS, 275),
        ("in-parts", 2, COINS, 1),
        ("in-parts", 2, GEMS, 91),
        ("late", 1, GEMS, 10),
    ]
    assert connection.exec_driver_sql("select count(*) from ledger.portion").scalar_one() == 6


def test_store_transactions_know_their_lots_and_the_number_of_their_newest_posting(connection: Connection) -> None:
    names = ("whole", "in-parts", "too-late", "tombstone", "parked")
    keys = {name: TransactionKey(GAME, "apple", "production", TransactionId(name)) for name in names}
    known = PostgresBooks(connection, shard=0).lock_transactions(keys.values())
    stand = {name: (known[key].state, known[key].sequence, known[key].lots) for name, key in keys.items()}
    assert stand == {
        "whole": ("granted", 0, {GEMS: [1]}),
        "in-parts": ("granted", 2, {GEMS: [2], COINS: [1]}),
        "too-late": ("granted", 0, {}),
        "tombstone": ("awaited", 0, {}),
        "parked": ("parked", 0, {}),
    }
    assert {known[key].revoked_signed_at for key in keys.values()} == {None}


def test_what_was_bought_before_is_spent_refunded_and_given_back_like_anything_else(connection: Connection) -> None:
    driver = Driver(connection, ids=system_ids())
    spend = Spend(WalletKey(GAME, "production", ALICE), GEMS, 120)
    driver.execute([Command(spend, "server:backend", "0" * 32)], now=NOW)
    assert lots(connection, ALICE) == [(100, 0, 0, 100), (551, 165, 0, 20), (100, 0, 0, 0)]
    driver.apply([refunded(transaction("in-parts", product="bundle", after_s=1))], now=NOW)  # 185 gems more, 3 coins
    assert balances_of(connection, ALICE) == {GEMS: -20}
    assert faults(connection) == []
    driver.apply([refund_reversed(transaction("in-parts", product="bundle", after_s=2))], now=NOW)
    assert lots(connection, ALICE) == [(100, 0, 0, 100), (551, 531, 0, 20), (100, 0, 0, 0)]
    assert balances_of(connection, ALICE) == {GEMS: 531, COINS: 7}
    assert faults(connection) == []


def test_a_refund_from_before_is_reversed_and_what_it_kept_from_being_granted_is_granted(
    connection: Connection,
) -> None:
    driver = Driver(connection, ids=system_ids())
    reversals = [refund_reversed(transaction(name, after_s=1)) for name in ("late", "too-late", "gone")]
    driver.apply(reversals, now=NOW)
    assert lots(connection, BOB) == [(60, 60, 0, 0), (40, 40, 0, 0), (100, 100, 0, 0)]
    assert lots(connection, ALICE)[2] == (100, 100, 0, 0)
    assert faults(connection) == []


def test_what_was_known_of_purchases_that_had_not_come_still_counts(connection: Connection) -> None:
    driver = Driver(connection, ids=system_ids())
    driver.apply([verified(transaction("tombstone"), user=BOB), verified(transaction("parked"), user=BOB)], now=NOW)
    assert balances_of(connection, BOB) == {GEMS: 50 + 60 + 100}
    assert faults(connection) == []


def test_what_was_granted_before_is_not_granted_again(connection: Connection) -> None:
    again = verified(transaction("whole"), user=ALICE)
    assert Driver(connection, ids=system_ids()).apply([again], now=NOW).drafts == []
    assert balances_of(connection, ALICE) == {GEMS: 285, COINS: 3}
