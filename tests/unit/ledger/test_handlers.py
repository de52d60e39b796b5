"""Batches of what the store says: whatever their order, their number and their batches, the books come out equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import CapturingLogger

import ledger.handlers
from ledger.domain.books import Account, AccountKey, WalletKey
from ledger.domain.statements import Funds, WalletEntry, WalletState
from ledger.handlers import apply_facts, read_entries, read_wallet
from shared.catalog import Catalog
from shared.events import Event, PurchaseVerified
from shared.ids import UserId
from shared.money import AMOUNT_MAX, CurrencyId
from shared.outcome import Handled, Parked
from tests.support.ledger import (
    ALICE,
    APPS,
    BOB,
    CATALOG,
    COINS,
    EMPTY_CATALOG,
    GAME,
    GEMS,
    NOW,
    MemoryBooks,
    refunded,
    said,
    transaction,
    verified,
)
from tests.support.seeded import seeded_ids

USERS = (ALICE, BOB, UserId("carol"))


def apply(books: MemoryBooks, events: Sequence[Event[Any]], *, catalog: Catalog = CATALOG) -> Handled:
    return apply_facts(
        events, books=books, catalog=catalog, apps=APPS, new_id=seeded_ids(len(books.transfers)).event_id, now=NOW
    )


# ---- any order, any batches -------------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> list[Event[Any]]:
    """Facts about a few store transactions of a few users, each perhaps refunded, each fact perhaps several times."""
    facts: list[Event[Any]] = []
    for number in range(draw(st.integers(1, 6))):
        of = transaction(
            str(number % 4),  # the same id in both environments is two transactions
            product=draw(st.sampled_from(["gems100", "bundle", "adfree"])),
            quantity=draw(st.integers(1, 10)),
            environment="production" if number < 4 else "sandbox",
        )
        facts += [verified(of, user=USERS[number % 3])] * draw(st.integers(0, 2))
        facts += [refunded(of, milli=milli) for milli in draw(st.lists(st.integers(0, 100_000), max_size=3))]
    facts += draw(st.lists(st.sampled_from(facts), max_size=4)) if facts else []
    return facts


def by_the_model(facts: Sequence[Event[Any]]) -> dict[tuple[str, str, str], int]:
    """What everybody must have at the end, by the rule alone: no order, no entries, no batches."""
    bought: dict[tuple[str, str], Any] = {}
    returned: dict[tuple[str, str], int] = defaultdict(int)
    for fact in facts:
        of = fact.payload.transaction
        key = (of.environment, of.transaction_id)
        if isinstance(fact.payload, PurchaseVerified):
            bought[key] = (fact.user_id, of)
        else:
            returned[key] = max(returned[key], fact.payload.percentage_milli)
    balances: dict[tuple[str, str, str], int] = defaultdict(int)
    grants = {"gems100": {GEMS: 100}, "bundle": {GEMS: 551, COINS: 7}, "adfree": {}}
    for key, (user, of) in bought.items():
        for currency, amount in grants[of.product_id].items():
            due = amount * of.quantity
            balances[of.environment, user, currency] += due - due * returned[key] // 100_000
    return {key: balance for key, balance in balances.items() if balance}


def split(facts: Sequence[Event[Any]], sizes: Sequence[int]) -> list[Sequence[Event[Any]]]:
    """The facts in batches of these sizes, the rest in one."""
    batches, rest = [], facts
    for size in sizes:
        batches.append(rest[:size])
        rest = rest[size:]
    return [batch for batch in [*batches, rest] if batch]


def balances(books: MemoryBooks) -> dict[tuple[str, str, str], int]:
    return {
        (key.environment, key.user_id, key.currency): account.balance
        for key, account in books.accounts.items()
        if key.user_id is not None and account.balance
    }


def assert_sound(books: MemoryBooks) -> None:
    """Every transfer balances in each currency, and every account and wallet is where its entries left it."""
    currencies = {account.id: key.currency for key, account in books.accounts.items()}
    sums: dict[Any, int] = defaultdict(int)
    for entry in books.entries:
        sums[entry.transfer_id, currencies[entry.account_id]] += entry.amount
    assert set(sums.values()) <= {0}
    for account in books.accounts.values():
        mine = [entry for entry in books.entries if entry.account_id == account.id]
        assert [entry.account_version for entry in mine] == list(range(1, account.version + 1))
        assert sum(entry.amount for entry in mine) == account.balance
        assert [entry.balance_before for entry in mine] == [0, *(entry.balance_after for entry in mine)][: len(mine)]
    for wallet in books.wallets.values():
        versions = [entry.wallet_version for entry in books.entries if entry.wallet_id == wallet.id]
        assert versions == list(range(1, wallet.version + 1))


@given(data=st.data(), facts=histories(), sizes=st.lists(st.integers(1, 5), max_size=6))
@settings(max_examples=300, deadline=None)
def test_any_order_repetition_and_batching_of_the_same_facts_ends_in_the_balances_that_the_rule_says(
    data: st.DataObject, facts: list[Event[Any]], sizes: list[int]
) -> None:
    books = MemoryBooks()
    for batch in split(data.draw(st.permutations(facts)), sizes):
        apply(books, batch)
        assert_sound(books)
    assert balances(books) == by_the_model(facts)


@given(facts=histories())
@settings(max_examples=100, deadline=None)
def test_each_transfer_of_a_store_transaction_has_a_number_of_its_own(facts: list[Event[Any]]) -> None:
    books = MemoryBooks()
    for fact in facts:
        apply(books, [fact])
    numbers = [(each.movement.key, each.movement.kind, each.movement.sequence) for each in books.transfers]
    assert len(set(numbers)) == len(numbers)
    assert all((kind == "purchase") == (sequence == 0) for _, kind, sequence in numbers)


@given(data=st.data(), facts=histories())
@settings(max_examples=100, deadline=None)
def test_what_a_wallets_owner_is_told_adds_up_to_the_balance(data: st.DataObject, facts: list[Event[Any]]) -> None:
    books = MemoryBooks()
    told: dict[tuple[str, str, str], int] = defaultdict(int)
    for fact in data.draw(st.permutations(facts)):
        for draft in apply(books, [fact]).drafts:
            if draft.payload.TYPE in {"wallet.credited", "wallet.debited"}:
                change = draft.payload.change  # type: ignore[attr-defined]
                told[change.environment, str(draft.user_id), change.currency] += change.amount
                assert (change.amount > 0) == (draft.payload.TYPE == "wallet.credited")
    assert {key: total for key, total in told.items() if total} == balances(books)


# ---- what a batch comes to --------------------------------------------------------------------------------------


def test_one_event_that_is_parked_does_not_hold_up_its_batch() -> None:
    books = MemoryBooks()
    bad, good = verified(transaction("1", product="gone")), verified(transaction("2"))
    handled = apply(books, [bad, good])
    assert handled.parked == {bad.id: "the product 'gone' is not in the catalogue"}
    assert said(handled.drafts) == ["purchase.parked", "wallet.credited", "purchase.completed"]
    assert books.balances(ALICE) == {GEMS: 100}


def test_a_parked_event_that_is_retried_is_granted_and_said_to_be_complete() -> None:
    books, event = MemoryBooks(), verified(transaction())
    assert apply(books, [event], catalog=EMPTY_CATALOG).parked.keys() == {event.id}
    assert said(apply(books, [event], catalog=EMPTY_CATALOG).drafts) == []
    handled = apply(books, [event])
    assert handled.parked == {}
    assert said(handled.drafts) == ["wallet.credited", "purchase.completed"]


def test_a_purchase_verified_for_a_second_user_moves_nothing_and_is_logged_as_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    books, log = MemoryBooks(), CapturingLogger()
    monkeypatch.setattr(ledger.handlers, "log", log)
    apply(books, [verified(transaction(), user=ALICE)])
    handled = apply(books, [verified(transaction(), user=BOB)])
    assert (handled.drafts, handled.parked) == ([], {})
    assert [call.method_name for call in log.calls] == ["error"]
    assert (books.balances(ALICE), books.balances(BOB)) == ({GEMS: 100}, {})


def test_a_balance_that_would_leave_its_range_parks_the_event() -> None:
    books = MemoryBooks()
    apply(books, [verified(transaction("1"))])
    key = AccountKey("wallet", GAME, "production", GEMS, ALICE)
    books.accounts[key] = Account(books.accounts[key].id, AMOUNT_MAX, 1)
    with pytest.raises(Parked, match="its balance would be"):
        apply(books, [verified(transaction("2"))])


# ---- reading ----------------------------------------------------------------------------------------------------

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
    wallets = MemoryWallets(WalletState(version=3, balances={CurrencyId("shells"): 4}))
    statement = read_wallet(wallets=wallets, catalog=CATALOG, key=ALICES)
    assert statement.balances.keys() == {COINS, GEMS, "shells"}


@pytest.mark.parametrize(
    ("balance", "held", "funds"),
    [(100, 0, Funds(100, 100, 0, 0)), (100, 30, Funds(100, 70, 30, 0)), (-70, 0, Funds(-70, 0, 0, 70))],
)
def test_available_is_what_is_neither_held_nor_owed(balance: int, held: int, funds: Funds) -> None:
    assert Funds.of(balance=balance, held=held) == funds


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
