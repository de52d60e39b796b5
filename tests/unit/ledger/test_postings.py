"""The entries that a movement makes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pytest

from ledger.domain.books import Account, AccountKey, KnownTransaction, TransactionKey
from ledger.domain.decisions import decide
from ledger.domain.postings import BalanceOutOfRange, Posting, post
from shared.events import Event, WalletCredited, WalletDebited
from shared.ids import AppId
from shared.money import AMOUNT_MAX
from tests.support.ledger import (
    ALICE,
    APPS,
    BOB,
    CATALOG,
    COINS,
    FLOOR_GAME,
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


class Desk:
    """Books in memory, and the means to set a balance that spending (which comes later) would have left."""

    def __init__(self) -> None:
        self.books = MemoryBooks()
        self._ids = seeded_ids(1)
        self._known: dict[TransactionKey, KnownTransaction] = {}

    def apply(self, *events: Event[Any]) -> Posting:
        decisions = decide(events=events, known=self._known, catalog=CATALOG, apps=APPS)
        self._known |= decisions.changed
        locked = self.books.lock_accounts([key for each in decisions.movements() for key in each.accounts()])
        posting = post(steps=decisions.steps, locked=locked, new_id=self._ids.event_id, now=NOW)
        self.books.write(posting, decisions.changed)
        return posting

    def set_balance(self, balance: int, *, app: AppId = GAME) -> None:
        key = AccountKey("wallet", app, "production", GEMS, ALICE)
        before = self.books.lock_accounts([key]).accounts[key]
        self.books.accounts[key] = Account(before.id, balance, before.version)


def amounts(posting: Posting) -> list[int]:
    return [entry.amount for entry in posting.entries]


def test_a_purchase_credits_the_wallet_and_debits_issuance() -> None:
    desk = Desk()
    posting = desk.apply(verified(transaction()))
    assert amounts(posting) == [100, -100]
    assert (desk.books.balances(ALICE), desk.books.house("issuance")) == ({GEMS: 100}, -100)


def test_a_transfer_names_its_cause() -> None:
    event = verified(transaction())
    (transfer,) = Desk().apply(event).transfers
    assert (transfer.event_id, transfer.trace_id, transfer.created_at) == (event.id, event.trace_id, NOW)
    assert (transfer.movement.kind, transfer.movement.purchase_id) == ("purchase", event.payload.purchase_id)


def test_two_currencies_are_one_transfer_that_balances_in_each() -> None:
    posting = Desk().apply(verified(transaction(product="bundle")))
    assert len(posting.transfers) == 1
    assert sorted(amounts(posting)) == [-551, -7, 7, 551]
    assert [entry.position for entry in posting.entries] == [0, 1, 2, 3]


def test_several_events_of_one_wallet_have_running_balances_and_versions() -> None:
    desk = Desk()
    posting = desk.apply(*(verified(transaction(str(number), product="bundle")) for number in range(3)))
    mine = [entry for entry in posting.entries if entry.wallet_id is not None]
    assert [entry.wallet_version for entry in mine] == [1, 2, 3, 4, 5, 6]
    for _, entries in groupby(sorted(posting.entries, key=_account_and_version), lambda entry: entry.account_id):
        _assert_chain(list(entries))
    assert posting.wallets[0].version == 6


def _account_and_version(entry: Any) -> tuple[int, int]:
    return entry.account_id, entry.account_version


def _assert_chain(entries: Sequence[Any]) -> None:
    assert [entry.account_version for entry in entries] == [1, 2, 3]
    assert [entry.balance_before for entry in entries] == [0, *(entry.balance_after for entry in entries[:-1])]
    assert all(entry.balance_after - entry.balance_before == entry.amount for entry in entries)


def test_each_wallet_entry_is_said_with_its_version_and_the_balance_after_it() -> None:
    desk = Desk()
    credited = desk.apply(verified(transaction(product="bundle")))
    assert said(credited.drafts) == ["wallet.credited", "wallet.credited", "purchase.completed"]
    changes = [draft.payload.change for draft in credited.drafts if isinstance(draft.payload, WalletCredited)]
    assert {(each.currency, each.amount, each.balance_after) for each in changes} == {(GEMS, 551, 551), (COINS, 7, 7)}
    assert [each.version for each in changes] == [1, 2]
    debited = desk.apply(refunded(transaction(product="bundle")))
    assert said(debited.drafts) == ["wallet.debited", "wallet.debited", "purchase.refunded"]
    changes = [draft.payload.change for draft in debited.drafts if isinstance(draft.payload, WalletDebited)]
    assert {(each.currency, each.amount, each.balance_after) for each in changes} == {(GEMS, -551, 0), (COINS, -7, 0)}
    assert [each.version for each in changes] == [3, 4]


def test_what_is_said_of_a_refund_is_about_its_purchase_and_its_owner() -> None:
    desk = Desk()
    purchase = verified(transaction())
    desk.apply(purchase)
    refund = refunded(transaction())
    drafts = desk.apply(refund).drafts
    assert {(draft.subject, draft.user_id) for draft in drafts} == {(purchase.subject, ALICE)}
    assert {(draft.causation_id, draft.trace_id) for draft in drafts} == {(refund.id, refund.trace_id)}


def test_entry_ids_are_not_given_twice() -> None:
    desk = Desk()
    drafts = desk.apply(*(verified(transaction(str(number), product="bundle")) for number in range(5))).drafts
    ids = [draft.payload.change.entry_id for draft in drafts if isinstance(draft.payload, WalletCredited)]
    assert len(set(ids)) == 10


def test_a_refund_of_what_is_spent_leaves_a_debt_where_the_app_says_negative() -> None:
    desk = Desk()
    desk.apply(verified(transaction()))
    desk.set_balance(30)
    assert amounts(desk.apply(refunded(transaction()))) == [-100, 100]
    assert desk.books.balances(ALICE) == {GEMS: -70}


def test_a_refund_of_what_is_spent_is_written_off_where_the_app_says_floor() -> None:
    desk = Desk()
    desk.apply(verified(transaction(), app=FLOOR_GAME))
    desk.set_balance(30, app=FLOOR_GAME)
    posting = desk.apply(refunded(transaction(), app=FLOOR_GAME))
    assert amounts(posting) == [-30, -70, 100]
    assert (desk.books.house("write_off"), desk.books.house("issuance")) == (-70, 0)
    assert desk.books.balances(ALICE, app=FLOOR_GAME) == {}


@pytest.mark.parametrize("balance", [0, -5])
def test_an_empty_wallet_gives_nothing_and_hears_of_no_debit_where_the_app_says_floor(balance: int) -> None:
    desk = Desk()
    desk.apply(verified(transaction(), app=FLOOR_GAME))
    desk.set_balance(balance, app=FLOOR_GAME)
    posting = desk.apply(refunded(transaction(), app=FLOOR_GAME))
    assert amounts(posting) == [-100, 100]
    assert posting.wallets == []
    assert said(posting.drafts) == ["purchase.refunded"]


def test_a_floor_writes_nothing_off_while_the_wallet_has_enough() -> None:
    desk = Desk()
    desk.apply(verified(transaction(), app=FLOOR_GAME))
    assert amounts(desk.apply(refunded(transaction(), app=FLOOR_GAME))) == [-100, 100]
    assert desk.books.house("write_off") == 0


def test_a_balance_stays_within_what_json_carries_exactly() -> None:
    desk = Desk()
    desk.set_balance(AMOUNT_MAX - 100)
    desk.apply(verified(transaction("1")))
    assert desk.books.balances(ALICE) == {GEMS: AMOUNT_MAX}
    with pytest.raises(BalanceOutOfRange):
        desk.apply(verified(transaction("2")))


def test_accounts_that_were_locked_and_not_touched_are_not_written() -> None:
    desk = Desk()
    desk.apply(verified(transaction("1"), app=FLOOR_GAME), verified(transaction("2"), user=BOB))
    posting = desk.apply(refunded(transaction("1"), app=FLOOR_GAME))
    assert len(posting.accounts) == 2  # the wallet and issuance; write_off was locked in case
