"""What the database itself refuses, whoever asks: the code is not the only thing between a mistake and the books."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, InternalError, ProgrammingError

from ledger.handlers import apply_facts
from ledger.store import PostgresBooks
from shared.database import is_unavailable, transact
from shared.events import Event
from shared.ids import system_ids
from tests.support.ledger import APPS, BOB, CATALOG, NOW, refunded, transaction, verified


def apply(connection: Connection, event: Event[Any]) -> None:
    books = PostgresBooks(connection, shard=0)
    apply_facts([event], books=books, catalog=CATALOG, apps=APPS, new_id=system_ids().event_id, now=NOW)


@pytest.fixture(scope="module")
def books(engine: Engine) -> int:
    """A wallet with two entries, which leave 70 gems in it; its id."""
    of = transaction("of-bob")
    for event in (verified(of, user=BOB), refunded(of, milli=30_000)):
        transact(engine, partial(apply, event=event))
    return transact(engine, lambda connection: int(_one(connection, "select id from ledger.wallet")))


def _one(connection: Connection, query: str) -> Any:
    return connection.exec_driver_sql(query).scalar_one()


_CHANGES = [
    "update ledger.transfer set purchase_id = 'x'",
    "delete from ledger.transfer",
    "truncate ledger.transfer",
    "update ledger.entry set amount = 1",
    "delete from ledger.entry",
    "truncate ledger.entry",
]


@pytest.mark.parametrize("change", _CHANGES)
@pytest.mark.usefixtures("books")
def test_the_ledger_may_not_change_what_is_posted(engine: Engine, change: str) -> None:
    with engine.connect() as connection, pytest.raises(ProgrammingError, match="permission denied"):
        connection.exec_driver_sql(change)


@pytest.mark.parametrize("change", [*_CHANGES, "delete from ledger.account", "delete from ledger.wallet"])
@pytest.mark.usefixtures("books")
def test_not_even_the_owner_changes_what_is_posted(owner: Engine, change: str) -> None:
    with owner.connect() as connection, pytest.raises(InternalError, match="takes no "):
        connection.exec_driver_sql(change)


@pytest.mark.parametrize("column", ["balance", "version"])
def test_the_ledger_may_not_open_an_account_with_anything_in_it(engine: Engine, column: str) -> None:
    with engine.connect() as connection, pytest.raises(ProgrammingError, match="permission denied"):
        connection.exec_driver_sql(
            f"insert into ledger.account (app, environment, kind, shard, currency, {column})"  # noqa: S608
            " values ('game', 'production', 'issuance', 0, 'shells', 5)"
        )


@pytest.mark.usefixtures("books")
def test_a_store_transaction_cannot_be_granted_twice_even_by_code_that_is_wrong(engine: Engine) -> None:
    again = """
        insert into ledger.transfer
        select gen_random_uuid(), app, environment, kind, store, transaction_id, sequence, purchase_id, event_id,
               trace_id, created_at from ledger.transfer where transaction_id = 'of-bob' and kind = %(kind)s"""
    for kind in ("purchase", "refund"):
        with engine.connect() as connection, pytest.raises(IntegrityError, match="duplicate key"):
            connection.exec_driver_sql(again, {"kind": kind})


class Forger:
    """Writes entries that the code never would, on the wallet's and issuance's accounts of the fixture."""

    def __init__(self, connection: Connection, wallet_id: int) -> None:
        self._connection = connection
        self._wallet_id = wallet_id
        self.wallet = self._account("wallet_id is not null and wallet_id = %(wallet_id)s")
        self.issuance = self._account("kind = 'issuance' and shard = 0 and version = 2")

    def _account(self, where: str) -> tuple[int, int, int]:
        query = f"select id, balance, version from ledger.account where {where}"  # noqa: S608
        found: Any = self._connection.exec_driver_sql(query, {"wallet_id": self._wallet_id}).one()
        return found[0], found[1], found[2]

    def transfer(self) -> str:
        query = """
            insert into ledger.transfer
            select gen_random_uuid(), app, environment, 'refund', store, transaction_id, 9, purchase_id, event_id,
                   trace_id, created_at from ledger.transfer where transaction_id = 'of-bob' and kind = 'purchase'
            returning id::text"""
        return str(_one(self._connection, query))

    def enter(self, *legs: dict[str, Any]) -> None:
        """Writes the entries, in one statement, as a transfer of their own unless they name another."""
        transfer = self.transfer()
        rows = [{"position": position, "transfer_id": transfer, **leg} for position, leg in enumerate(legs)]
        self._connection.exec_driver_sql(
            "insert into ledger.entry select * from jsonb_populate_recordset(null::ledger.entry, %(rows)s)",
            {"rows": json.dumps(rows)},
        )

    def legs(self, amount: int = 5) -> tuple[dict[str, Any], dict[str, Any]]:
        """A sound pair: so much from issuance to the wallet."""
        (wallet, balance, version), (issuance, house_balance, house_version) = self.wallet, self.issuance
        mine = {"wallet_id": self._wallet_id, "wallet_version": 3}
        house = {"wallet_id": None, "wallet_version": None}
        return (
            _leg(wallet, balance, version, amount) | mine,
            _leg(issuance, house_balance, house_version, -amount) | house,
        )


def _leg(account_id: int, balance: int, version: int, amount: int) -> dict[str, Any]:
    after = balance + amount
    return {
        "account_id": account_id,
        "account_version": version + 1,
        "amount": amount,
        "balance_before": balance,
        "balance_after": after,
    }


def test_the_forgers_sound_pair_is_taken(engine: Engine, books: int) -> None:
    """So what is refused below is refused for what is wrong with it."""
    with engine.connect() as connection:
        forger = Forger(connection, books)
        forger.enter(*forger.legs())


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"amount": 6, "balance_after": 76}, "do not balance in gems"),
        ({"wallet_id": None, "wallet_version": None}, "do not balance"),
        ({"account_id": 10**9}, "do not balance"),
        ({"transfer_id": "00000000-0000-7000-8000-000000000000"}, "do not balance"),
        ({"balance_before": 71, "balance_after": 76}, "does not follow"),
        ({"account_version": 4}, "does not follow"),
        ({"wallet_version": 4}, "does not follow"),
        ({"account_version": 2}, "duplicate key"),
        ({"wallet_version": 2}, "duplicate key"),
        ({"balance_after": 76}, "violates check constraint"),
        ({"amount": 0, "balance_after": 70}, "violates check constraint"),
        ({"wallet_version": None}, "violates check constraint"),
    ],
)
def test_an_entry_that_is_wrong_is_refused(engine: Engine, books: int, wrong: dict[str, Any], sentence: str) -> None:
    with engine.connect() as connection:
        forger = Forger(connection, books)
        mine, issuance = forger.legs()
        with pytest.raises(IntegrityError, match=sentence):
            forger.enter({**mine, **wrong}, issuance)


def test_one_entry_alone_is_no_transfer(engine: Engine, books: int) -> None:
    with engine.connect() as connection:
        forger = Forger(connection, books)
        with pytest.raises(IntegrityError, match="do not balance"):
            forger.enter(forger.legs()[0])


@pytest.mark.parametrize(
    "change",
    [
        "update ledger.account set balance = balance + 1",
        "update ledger.account set version = version + 1",
        "update ledger.account set version = 1, balance = 100 where version = 2 and wallet_id is not null",
        "update ledger.wallet set version = version + 1",
        "update ledger.wallet set version = version - 1",
    ],
)
@pytest.mark.usefixtures("books")
def test_a_balance_or_a_version_that_is_not_the_last_entrys_is_refused(engine: Engine, change: str) -> None:
    with engine.connect() as connection, pytest.raises(IntegrityError, match="not where its last entry left it"):
        connection.exec_driver_sql(change)


def test_the_refusals_are_errors_that_the_bus_takes_for_final(engine: Engine) -> None:
    """A refused posting is not a database that is away."""
    with engine.connect() as connection, pytest.raises(DBAPIError) as raised:
        connection.exec_driver_sql("delete from ledger.entry")
    assert not is_unavailable(raised.value)
