"""The entries that a store's facts make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any
from uuid import UUID

import pytest

from ledger.domain.books import WalletKey
from ledger.domain.commands import Spend
from ledger.domain.postings import BalanceOutOfRange, Posting, entry_id
from shared.events import WalletCredited, WalletDebited
from shared.ids import AppId
from shared.money import AMOUNT_MAX
from tests.support.ledger import (
    ALICE,
    BOB,
    COINS,
    FLOOR_GAME,
    GAME,
    GEMS,
    NOW,
    refund_declined,
    refund_reversed,
    refunded,
    said,
    transaction,
    verified,
)
from tests.support.plain_books import PlainBooks, account_of


@pytest.fixture
def books() -> PlainBooks:
    return PlainBooks()


def spend(books: PlainBooks, amount: int, *, app: AppId = GAME) -> None:
    books.ask(Spend(WalletKey(app, "production", ALICE), GEMS, amount))


def amounts(posting: Posting) -> list[int]:
    return [entry.amount for entry in posting.entries]


def changes(posting: Posting) -> list[tuple[str, str, int, int, int]]:
    """What is said of the wallets: kind, currency, amount, balance after, version."""
    told = [draft.payload for draft in posting.drafts if isinstance(draft.payload, WalletCredited | WalletDebited)]
    assert all((each.change.amount > 0) == isinstance(each, WalletCredited) for each in told)
    of = [each.change for each in told]
    return [(each.kind, each.currency, each.amount, each.balance_after, each.version) for each in of]


# ---- transfers and entries ---------------------------------------------------------------------------------------


def test_a_purchase_credits_the_wallet_and_debits_issuance(books: PlainBooks) -> None:
    posting = books.apply(verified(transaction()))
    assert amounts(posting) == [100, -100]
    assert (books.balances(), books.house("issuance")) == ({GEMS: 100}, -100)


def test_a_transfer_names_its_cause(books: PlainBooks) -> None:
    purchase, refund = verified(transaction()), refunded(transaction())
    first, second = books.apply(purchase, refund).transfers
    assert (first.kind, first.cause.event_id, first.cause.trace_id) == ("purchase", purchase.id, purchase.trace_id)
    assert (second.kind, second.cause.event_id, second.cause.trace_id) == ("refund", refund.id, refund.trace_id)
    assert (first.cause.sequence, second.cause.sequence) == (0, 1)
    for transfer in (first, second):
        assert transfer.created_at == NOW
        assert transfer.cause.purchase_id == transfer.cause.subject == purchase.payload.purchase_id


def test_two_currencies_are_one_transfer_that_balances_in_each(books: PlainBooks) -> None:
    posting = books.apply(verified(transaction(product="bundle")))
    assert len(posting.transfers) == 1
    assert sorted(amounts(posting)) == [-551, -7, 7, 551]
    assert [entry.position for entry in posting.entries] == [0, 1, 2, 3]


def test_several_events_of_one_wallet_have_running_balances_and_versions(books: PlainBooks) -> None:
    posting = books.apply(*(verified(transaction(str(number), product="bundle")) for number in range(3)))
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


def test_accounts_that_were_locked_and_not_touched_are_not_written(books: PlainBooks) -> None:
    books.apply(verified(transaction("1"), app=FLOOR_GAME), verified(transaction("2"), user=BOB))
    posting = books.apply(refunded(transaction("1"), app=FLOOR_GAME))
    wallet, issuance = account_of(app=FLOOR_GAME), account_of(app=FLOOR_GAME).house("issuance")
    assert {account.id for account in posting.accounts} == {books.accounts[key].id for key in (wallet, issuance)}


def test_a_balance_stays_within_what_json_carries_exactly(books: PlainBooks) -> None:
    key = account_of()
    books.accounts[key] = replace(books.accounts[key], balance=AMOUNT_MAX - 100)
    books.apply(verified(transaction("1")))
    assert books.balances() == {GEMS: AMOUNT_MAX}
    with pytest.raises(BalanceOutOfRange, match=f"wallet account in gems: its balance would be {AMOUNT_MAX + 100}"):
        books.apply(verified(transaction("2")))


def test_the_house_may_have_given_more_than_any_wallet_can_have(books: PlainBooks) -> None:
    for user in (ALICE, BOB):
        books.apply(verified(transaction(user, product="hoard", quantity=10), user=user))
    assert books.house("issuance") == -2 * (AMOUNT_MAX - 1)


# ---- what is said ------------------------------------------------------------------------------------------------


def test_each_wallet_entry_is_said_with_its_version_and_the_balance_after_it(books: PlainBooks) -> None:
    credited = books.apply(verified(transaction(product="bundle")))
    assert said(credited.drafts) == ["wallet.credited", "wallet.credited", "purchase.completed"]
    assert changes(credited) == [("purchase", COINS, 7, 7, 1), ("purchase", GEMS, 551, 551, 2)]
    debited = books.apply(refunded(transaction(product="bundle")))
    assert said(debited.drafts) == ["wallet.debited", "wallet.debited", "purchase.refunded"]
    assert changes(debited) == [("refund", COINS, -7, 0, 3), ("refund", GEMS, -551, 0, 4)]
    restored = books.apply(refund_reversed(transaction(product="bundle", after_s=1)))
    assert said(restored.drafts) == ["wallet.credited", "wallet.credited", "purchase.refund_reversed"]
    assert changes(restored) == [("refund_reversal", COINS, 7, 7, 5), ("refund_reversal", GEMS, 551, 551, 6)]


def test_what_is_said_of_a_refund_is_about_its_purchase_and_its_owner(books: PlainBooks) -> None:
    purchase = verified(transaction())
    books.apply(purchase)
    for event in (refunded(transaction()), refund_reversed(transaction(after_s=1))):
        drafts = books.apply(event).drafts
        assert {(draft.subject, draft.user_id) for draft in drafts} == {(purchase.subject, ALICE)}
        assert {(draft.causation_id, draft.trace_id) for draft in drafts} == {(event.id, event.trace_id)}


def test_that_a_refund_was_declined_moves_nothing_and_is_not_said_again(books: PlainBooks) -> None:
    posting = books.apply(verified(transaction()), refund_declined(transaction(after_s=1)))
    assert amounts(posting) == [100, -100]
    assert said(posting.drafts) == ["wallet.credited", "purchase.completed"]


def test_entry_ids_are_not_given_twice(books: PlainBooks) -> None:
    drafts = books.apply(*(verified(transaction(str(number), product="bundle")) for number in range(5))).drafts
    ids = [draft.payload.change.entry_id for draft in drafts if isinstance(draft.payload, WalletCredited)]
    assert len(set(ids)) == 10


def test_an_entry_is_named_by_its_transfer_and_its_place_in_it() -> None:
    assert entry_id(UUID(int=0xABC), 17) == "ent_00000000000000000000000000000abc11"


# ---- refunds of what is spent ------------------------------------------------------------------------------------


def test_a_refund_takes_what_its_own_purchase_has_left_before_what_others_have(books: PlainBooks) -> None:
    books.apply(verified(transaction("1")), verified(transaction("2")), verified(transaction("3")))
    spend(books, 120)
    books.apply(refunded(transaction("2")))
    assert books.lots() == [(0, 0, 100), (0, 0, 20), (80, 0, 20)]


def test_a_refund_of_what_is_spent_leaves_a_debt_where_the_app_says_negative(books: PlainBooks) -> None:
    books.apply(verified(transaction()))
    spend(books, 70)
    assert amounts(books.apply(refunded(transaction()))) == [-100, 100]
    assert (books.balances(), books.account().owed) == ({GEMS: -70}, 70)


def test_the_next_purchase_pays_the_debt(books: PlainBooks) -> None:
    books.apply(verified(transaction("1")))
    spend(books, 70)
    books.apply(refunded(transaction("1")))
    posting = books.apply(verified(transaction("2")))
    assert changes(posting) == [("purchase", GEMS, 100, 30, 4)]
    assert (books.account().owed, books.lots()) == (0, [(0, 0, 70), (30, 0, 70)])


def test_a_refund_of_what_is_spent_is_written_off_where_the_app_says_floor(books: PlainBooks) -> None:
    books.apply(verified(transaction(), app=FLOOR_GAME))
    spend(books, 70, app=FLOOR_GAME)
    assert amounts(books.apply(refunded(transaction(), app=FLOOR_GAME))) == [-30, -70, 100]
    assert (books.house("write_off"), books.house("issuance")) == (-70, 0)
    assert (books.balances(app=FLOOR_GAME), books.account(app=FLOOR_GAME).owed) == ({}, 0)


def test_an_empty_wallet_gives_nothing_and_hears_of_no_debit_where_the_app_says_floor(books: PlainBooks) -> None:
    books.apply(verified(transaction(), app=FLOOR_GAME))
    spend(books, 100, app=FLOOR_GAME)
    posting = books.apply(refunded(transaction(), app=FLOOR_GAME))
    assert amounts(posting) == [-100, 100]
    assert said(posting.drafts) == ["purchase.refunded"]
    assert books.house("write_off") == -100


def test_a_floor_writes_nothing_off_while_the_wallet_has_enough(books: PlainBooks) -> None:
    books.apply(verified(transaction(), app=FLOOR_GAME))
    assert amounts(books.apply(refunded(transaction(), app=FLOOR_GAME))) == [-100, 100]
    assert books.house("write_off") == 0


# ---- refunds that are taken back ---------------------------------------------------------------------------------


def test_a_refund_that_is_reversed_gives_back_what_it_took_and_may_come_again(books: PlainBooks) -> None:
    books.apply(verified(transaction()))
    spend(books, 70)
    stood = books.lots()
    for round_ in range(3):
        books.apply(refunded(transaction(after_s=2 * round_)))
        assert books.balances() == {GEMS: -70}
        posting = books.apply(refund_reversed(transaction(after_s=2 * round_ + 1)))
        assert amounts(posting) == [100, -100]
        assert (books.balances(), books.lots()) == ({GEMS: 30}, stood)


def test_what_was_written_off_goes_back_to_the_house_and_the_rest_to_the_wallet(books: PlainBooks) -> None:
    books.apply(verified(transaction(), app=FLOOR_GAME))
    spend(books, 70, app=FLOOR_GAME)
    books.apply(refunded(transaction(), app=FLOOR_GAME))
    posting = books.apply(refund_reversed(transaction(after_s=1), app=FLOOR_GAME))
    assert amounts(posting) == [30, 70, -100]
    assert (books.house("write_off"), books.house("issuance")) == (0, -100)
    assert books.balances(app=FLOOR_GAME) == {GEMS: 30}


def test_what_was_refunded_before_it_could_be_granted_is_granted_by_the_reversal(books: PlainBooks) -> None:
    """40 of 100 were refunded before the purchase came, and 20 after: 20 are given back, and 40 are new."""
    books.apply(refunded(transaction(), milli=40_000), verified(transaction()))
    books.apply(refunded(transaction(after_s=1), milli=60_000))
    assert (books.balances(), books.lots()) == ({GEMS: 40}, [(40, 0, 0)])
    posting = books.apply(refund_reversed(transaction(after_s=2)))
    assert changes(posting) == [("refund_reversal", GEMS, 60, 100, 3)]
    assert books.lots() == [(60, 0, 0), (40, 0, 0)]
    books.apply(refunded(transaction(after_s=3)))
    assert (books.balances(), books.lots()) == ({}, [(0, 0, 0), (0, 0, 0)])


def test_several_facts_of_one_purchase_in_one_batch_come_to_the_same_as_one_by_one(books: PlainBooks) -> None:
    facts = [
        refunded(transaction(), milli=40_000),
        verified(transaction()),
        refunded(transaction(after_s=1), milli=60_000),
        refund_reversed(transaction(after_s=2)),
        refunded(transaction(after_s=3), milli=10_000),
    ]
    others = PlainBooks()
    together = books.apply(*facts)
    one_by_one = [others.apply(fact) for fact in facts]
    assert amounts(together) == [amount for posting in one_by_one for amount in amounts(posting)]
    assert (books.lots(), books.account()) == (others.lots(), others.account())
    assert books.balances() == {GEMS: 90}
