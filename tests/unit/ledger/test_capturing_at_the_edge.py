"""What a capture comes to where a wallet owes almost as much as a balance can tell."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from ledger.domain.books import WalletKey
from ledger.domain.commands import CaptureHold, HoldDone, PlaceHold, Refused, ReleaseHold, Spend, SpendDone
from shared.ids import parse_public_id
from tests.support.ledger import ALICE, GAME, GEMS, NOW, refunded, transaction, verified
from tests.support.plain_books import PlainBooks, account_of

WALLET = WalletKey(GAME, "production", ALICE)
HOARD = 900_719_925_474_099
"""A tenth of what a balance can be, as the product of that name gives it."""


def _owing_all_but_what_is_held() -> tuple[PlainBooks, UUID]:
    """One hoard is held, and eleven are owed: the balance is as far below zero as it may be."""
    books = PlainBooks()
    books.apply(verified(transaction("0", product="hoard")))
    (placed,) = books.ask(PlaceHold(WALLET, GEMS, HOARD, 3600))
    assert isinstance(placed, HoldDone)
    bought = [transaction(str(number), product="hoard") for number in range(1, 12)]
    for each in bought:
        books.apply(verified(each))
        assert isinstance(books.ask(Spend(WALLET, GEMS, HOARD))[0], SpendDone)
    for each in bought:
        books.apply(refunded(replace(each, signed_at=NOW + timedelta(seconds=1))))
    hold = parse_public_id(placed.id, prefix="hld")
    assert hold is not None
    return books, hold


def test_a_capture_that_would_take_the_balance_beyond_its_range_is_refused_and_leaves_the_hold_open() -> None:
    books, hold = _owing_all_but_what_is_held()
    before = books.accounts[account_of()]
    assert (before.balance, before.held, before.owed) == (-10 * HOARD, HOARD, 11 * HOARD)
    (refused,) = books.ask(CaptureHold(GAME, hold))
    assert isinstance(refused, Refused)
    assert refused.code == "balance-out-of-range"
    assert books.accounts[account_of()] == before
    (released,) = books.ask(ReleaseHold(GAME, hold))  # and what is released pays
    assert isinstance(released, HoldDone)
    after = books.accounts[account_of()]
    assert (after.balance, after.held, after.owed) == (-10 * HOARD, 0, 10 * HOARD)
