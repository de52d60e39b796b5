"""What the database itself refuses, whoever asks: the code is not the only thing between a mistake and the books."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, InternalError, ProgrammingError

from ledger.domain.books import WalletKey
from ledger.domain.commands import Command, PlaceHold, Spend
from shared.database import is_unavailable, transact
from shared.ids import system_ids
from tests.support.ledger import ALICE, BOB, GAME, GEMS, NOW, refunded, transaction, verified
from tests.support.ledger_driver import Driver


def _fill(connection: Connection) -> None:
    """Bob has bought 100 gems, of which 30 are refunded; Alice has bought 100, spent 10 of them, and 20 are held."""
    of, wallet = transaction("of-bob"), WalletKey(GAME, "production", ALICE)
    Driver(connection, ids=system_ids()).apply([verified(of, user=BOB), refunded(of, milli=30_000)], now=NOW)
    alices = Driver(connection, ids=system_ids(), shard=1)
    alices.apply([verified(transaction("of-alice"), user=ALICE)], now=NOW)
    requests = (Spend(wallet, GEMS, 10), PlaceHold(wallet, GEMS, 20, 60))
    alices.execute([Command(request, "server:backend", "0" * 32) for request in requests], now=NOW)


@pytest.fixture(scope="module")
def books(engine: Engine) -> int:
    """The books as `_fill` leaves them; the id of Bob's wallet, with its two entries and 70 gems."""
    transact(engine, _fill)
    return transact(
        engine, lambda connection: int(_one(connection, "select id from ledger.wallet where user_id = 'bob'"))
    )


def _one(connection: Connection, query: str) -> Any:
    return connection.exec_driver_sql(query).scalar_one()


_CHANGES = [
    "update ledger.transfer set purchase_id = 'x'",
    "delete from ledger.transfer",
    "truncate ledger.transfer",
    "update ledger.entry set amount = 1",
    "delete from ledger.entry",
    "truncate ledger.entry",
    "delete from ledger.lot",
    "truncate ledger.lot",
    "delete from ledger.portion",
    "truncate ledger.portion",
    "delete from ledger.spend",
    "truncate ledger.spend",
    "update ledger.reservation set amount = 1",
    "delete from ledger.reservation",
    "truncate ledger.reservation",
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


_NONSENSE = [
    "update ledger.account set held = 71 where balance = 70",
    "update ledger.account set held = -1 where balance = 70",
    "update ledger.account set owed = 5 where balance = 70",
    "update ledger.account set owed = -5 where balance = 70",
    "update ledger.account set held = 1 where kind = 'issuance'",
    "update ledger.account set owed = 1 where kind = 'issuance'",
    "update ledger.lot set remaining = -1, spent = 1",
    "update ledger.lot set remaining = amount, spent = 1",
    "update ledger.lot set remaining = amount, held = 1",
    "update ledger.portion set returned = amount + 1",
    "update ledger.portion set settled = 1",
    "update ledger.spend set reversed = amount + 1",
    "update ledger.hold set captured = amount + 1, state = 'captured'",
    "update ledger.hold set state = 'captured'",
    "update ledger.hold set captured = 1",
]


@pytest.mark.parametrize("change", _NONSENSE)
@pytest.mark.usefixtures("books")
def test_what_cannot_be_is_refused(engine: Engine, change: str) -> None:
    with engine.connect() as connection, pytest.raises(IntegrityError, match="violates check constraint"):
        connection.exec_driver_sql(change)


_NONE = {"store": "null", "transaction_id": "null", "sequence": "null", "purchase_id": "null"}
_ASKED = {**_NONE, "actor": "'server:backend'"}
_REFUND = {"sequence": "2"}
_CAUSES: dict[str, dict[str, str]] = {
    "refund": _REFUND,
    "refund_reversal": _REFUND,
    "spend": _ASKED,
    "spend_reversal": _ASKED | {"reverses": "id"},
    "grant": _ASKED | {"reason": "'sorry'"},
    "write_off": _ASKED,
}
"""What a transfer of each kind says of its cause, where that is not what the purchase's says."""


def _post_transfer(connection: Connection, kind: str, cause: dict[str, str]) -> None:
    columns = ("store", "transaction_id", "sequence", "purchase_id", "reason", "actor", "reverses")
    connection.exec_driver_sql(f"""
        insert into ledger.transfer
               (id, app, environment, kind, event_id, trace_id, created_at, {", ".join(columns)})
        select gen_random_uuid(), app, environment, '{kind}', event_id, trace_id, created_at,
               {", ".join(cause.get(column, column) for column in columns)}
          from ledger.transfer where transaction_id = 'of-alice'""")  # noqa: S608


@pytest.mark.parametrize("kind", _CAUSES)
@pytest.mark.usefixtures("books")
def test_a_transfer_with_the_cause_of_its_kind_is_taken(connection: Connection, kind: str) -> None:
    """So what is refused below is refused for its cause."""
    _post_transfer(connection, kind, _CAUSES[kind])


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("purchase", {"sequence": "2"}),
        ("refund", {"sequence": "0"}),
        ("refund_reversal", {"sequence": "0"}),
        ("refund", {"purchase_id": "null"}),
        ("refund", {"store": "null"}),
        ("refund", {"transaction_id": "null"}),
        ("refund", {"actor": "'server:backend'"}),
        ("refund_reversal", {"reverses": "id"}),
        ("spend", {"actor": "null"}),
        ("spend", {"reverses": "id"}),
        ("spend", {"transaction_id": "transaction_id"}),
        ("spend_reversal", {"reverses": "null"}),
        ("grant", {"reason": "null"}),
        ("grant", {"actor": "null"}),
        ("write_off", {"actor": "null"}),
        ("bribe", _ASKED),
    ],
)
@pytest.mark.usefixtures("books")
def test_a_transfer_without_its_cause_is_refused(connection: Connection, kind: str, wrong: dict[str, str]) -> None:
    with pytest.raises(IntegrityError, match=r"transfer_has_its_cause|transfer_kind_check"):
        _post_transfer(connection, kind, _CAUSES.get(kind, {}) | wrong)


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
