"""Wallets and their entries, as they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ledger.domain.books import WalletKey
from ledger.domain.statements import Funds, WalletEntry, WalletState
from ledger.handlers import read_entries, read_wallet
from shared.money import CurrencyId
from tests.support.ledger import ALICE, CATALOG, COINS, GAME, GEMS, NOW

ALICES = WalletKey(GAME, "production", ALICE)


class MemoryWallets:
    """One wallet, or none."""

    def __init__(self, state: WalletState | None = None, entries: Sequence[WalletEntry] = ()) -> None:
        self._state = state
        self._entries = entries

    def wallet(self, key: WalletKey) -> WalletState | None:
        return self._state if key == ALICES else None

    def entries(self, key: WalletKey, *, before: int | None, limit: int) -> Sequence[WalletEntry]:
        wanted = [entry for entry in self._entries if before is None or entry.version < before]
        return sorted(wanted, key=lambda entry: -entry.version)[:limit]


def test_a_user_without_a_wallet_has_nothing_of_every_currency() -> None:
    statement = read_wallet(wallets=MemoryWallets(), catalog=CATALOG, key=ALICES)
    assert statement.version == 0
    assert statement.balances == {COINS: Funds(0, 0, 0, 0), GEMS: Funds(0, 0, 0, 0)}


def test_a_currency_that_left_the_catalogue_is_still_shown_to_whoever_holds_it() -> None:
    wallets = MemoryWallets(WalletState(version=3, balances={CurrencyId("shells"): Funds.of(balance=4)}))
    statement = read_wallet(wallets=wallets, catalog=CATALOG, key=ALICES)
    assert statement.balances.keys() == {COINS, GEMS, "shells"}
    assert (statement.version, statement.balances[CurrencyId("shells")]) == (3, Funds(4, 4, 0, 0))


@pytest.mark.parametrize(
    ("balance", "held", "owed", "funds"),
    [
        (100, 0, 0, Funds(balance=100, available=100, held=0, debt=0)),
        (100, 30, 0, Funds(balance=100, available=70, held=30, debt=0)),
        (-70, 0, 70, Funds(balance=-70, available=0, held=0, debt=70)),
        (-20, 50, 70, Funds(balance=-20, available=0, held=50, debt=70)),
    ],
)
def test_available_is_what_is_neither_held_nor_owed(balance: int, held: int, owed: int, funds: Funds) -> None:
    assert Funds.of(balance=balance, held=held, owed=owed) == funds


def test_pages_of_entries_meet_without_gap_or_overlap() -> None:
    entry = WalletEntry("ent_1", "purchase", GEMS, 100, 100, 1, None, NOW)
    wallets = MemoryWallets(entries=[replace(entry, version=version) for version in range(1, 8)])
    seen, before = [], None
    while True:
        page = read_entries(wallets=wallets, key=ALICES, before=before, limit=3)
        seen += [each.version for each in page.entries]
        before = page.next_before
        if before is None:
            break
    assert seen == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(("entries", "following"), [(2, None), (3, None), (4, 2)])
def test_a_page_names_the_next_one_only_when_there_is_one(entries: int, following: int | None) -> None:
    entry = WalletEntry("ent_1", "purchase", GEMS, 100, 100, 1, None, NOW)
    wallets = MemoryWallets(entries=[replace(entry, version=version) for version in range(1, entries + 1)])
    assert read_entries(wallets=wallets, key=ALICES, before=None, limit=3).next_before == following
