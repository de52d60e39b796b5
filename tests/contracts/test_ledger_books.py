"""What the ledger's use-cases rely on: the books in Postgres and the ones in memory keep it alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger.domain.books import UNKNOWN, AccountKey, KnownTransaction, TransactionKey, WalletKey
from ledger.domain.postings import Posting
from ledger.handlers import Books, apply_facts
from ledger.store import PostgresBooks
from shared.database import connect_engine
from shared.ids import PurchaseId, TransactionId, UserId
from tests.support.ledger import (
    ALICE,
    APPS,
    BOB,
    CATALOG,
    COINS,
    GAME,
    GEMS,
    NOW,
    MemoryBooks,
    refunded,
    transaction,
    verified,
)
from tests.support.seeded import seeded_ids

NOTHING = Posting(transfers=[], entries=[], accounts=[], wallets=[], drafts=[])
AWKWARD = UserId("""{"a",'b'}, \\N NULL%s""")


@pytest.fixture(params=["memory", "postgres"])
def books(request: pytest.FixtureRequest) -> Iterator[Books]:
    if request.param == "memory":
        yield MemoryBooks()
        return
    url = request.getfixturevalue("module_database")
    engine = connect_engine(url, role="purser_ledger", pool_size=1, application_name="test-books")
    with engine.connect() as connection:
        yield PostgresBooks(connection, shard=3)
        connection.rollback()
    engine.dispose()


def key(number: int = 1) -> TransactionKey:
    return TransactionKey(GAME, "apple", "production", TransactionId(str(number)))


def wallet_account(user: UserId = ALICE) -> AccountKey:
    return AccountKey("wallet", GAME, "production", GEMS, user)


ISSUANCE = AccountKey("issuance", GAME, "production", GEMS)


def test_a_transaction_that_nobody_has_met_is_unknown(books: Books) -> None:
    assert books.lock_transactions({key(1), key(2)}) == {key(1): UNKNOWN, key(2): UNKNOWN}


def test_what_is_written_of_a_transaction_is_what_is_read(books: Books) -> None:
    known = {
        key(1): KnownTransaction(refunded_milli=40_000),
        key(2): KnownTransaction("parked", AWKWARD, PurchaseId("pur_2"), parked_reason='no "such" {product}'),
        key(3): KnownTransaction("granted", ALICE, PurchaseId("pur_3"), {GEMS: 551, COINS: 7}, {GEMS: 331}, 40_000, 2),
    }
    books.lock_transactions(known.keys())
    books.write(NOTHING, known)
    assert books.lock_transactions({*known, key(4)}) == {**known, key(4): UNKNOWN}


def test_an_account_is_opened_once_with_nothing_in_it(books: Books) -> None:
    first = books.lock_accounts({wallet_account(), ISSUANCE})
    again = books.lock_accounts({wallet_account(), wallet_account(BOB), ISSUANCE})
    assert {(account.balance, account.version) for account in again.accounts.values()} == {(0, 0)}
    assert {name: again.accounts[name] for name in first.accounts} == first.accounts
    assert len({account.id for account in again.accounts.values()}) == 3
    assert first.wallets.keys() == {WalletKey(GAME, "production", ALICE)}


def test_no_accounts_are_locked_when_none_are_asked_for(books: Books) -> None:
    locked = books.lock_accounts(set())
    assert (locked.accounts, locked.wallets) == ({}, {})


def test_accounts_and_wallets_are_where_the_last_posting_left_them(books: Books) -> None:
    of = transaction(product="bundle")
    for event in (verified(of, user=AWKWARD), refunded(of, milli=50_000)):
        apply_facts([event], books=books, catalog=CATALOG, apps=APPS, new_id=seeded_ids(event.id.int).event_id, now=NOW)
    locked = books.lock_accounts({wallet_account(AWKWARD), ISSUANCE})
    stand = {name.kind: (account.balance, account.version) for name, account in locked.accounts.items()}
    assert stand == {"wallet": (276, 2), "issuance": (-276, 2)}
    assert [wallet.version for wallet in locked.wallets.values()] == [4]
