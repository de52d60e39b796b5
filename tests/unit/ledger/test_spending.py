"""What spends, holds and grants come to. Alice has bought 100 gems, three times unless a test says otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from ledger.domain.books import HOUSE_BALANCE_MAX, Account, WalletKey
from ledger.domain.commands import (
    CaptureHold,
    Command,
    Grant,
    GrantDone,
    HoldDone,
    Outcome,
    PlaceHold,
    Refused,
    ReleaseHold,
    Request,
    ReverseSpend,
    Spend,
    SpendDone,
    WalletAfter,
)
from ledger.domain.spending import LEDGER_ITSELF
from ledger.domain.statements import Funds
from shared.events import (
    GrantPosted,
    HoldEnded,
    HoldPlaced,
    SpendPosted,
    SpendReversed,
    WalletCredited,
    WalletDebited,
)
from shared.ids import AppId, parse_public_id, spend_id
from shared.money import AMOUNT_MAX
from tests.support.ledger import (
    ALICE,
    BOB,
    COINS,
    FLOOR_GAME,
    GAME,
    GEMS,
    NOW,
    refund_reversed,
    refunded,
    said,
    transaction,
    verified,
)
from tests.support.plain_books import ACTOR, TRACE, PlainBooks, account_of

WALLET = WalletKey(GAME, "production", ALICE)
FLOOR_WALLET = WalletKey(FLOOR_GAME, "production", ALICE)
FULL: list[tuple[int, int, int]] = [(100, 0, 0)] * 3


@pytest.fixture
def books() -> PlainBooks:
    return bought(3)


def bought(times: int, *, app: AppId = GAME) -> PlainBooks:
    books = PlainBooks()
    books.apply(*(verified(transaction(str(number)), app=app) for number in range(1, times + 1)))
    return books


def spend_uuid(public_id: str) -> UUID:
    uuid = parse_public_id(public_id, prefix="spd")
    assert uuid is not None
    return uuid


def the(outcome: Outcome) -> Any:
    """What was done; it was not refused."""
    assert not isinstance(outcome, Refused)
    return outcome


def uuid_of(outcome: Outcome) -> UUID:
    """What the outcome is called inside the ledger."""
    uuid = parse_public_id(the(outcome).id, prefix="spd" if isinstance(outcome, SpendDone) else "hld")
    assert uuid is not None
    return uuid


def spent(books: PlainBooks, amount: int, wallet: WalletKey = WALLET) -> UUID:
    return uuid_of(books.ask(Spend(wallet, GEMS, amount))[0])


def held(books: PlainBooks, amount: int, wallet: WalletKey = WALLET, *, seconds: int = 900) -> UUID:
    return uuid_of(books.ask(PlaceHold(wallet, GEMS, amount, seconds))[0])


def funds(balance: int, *, held: int = 0, debt: int = 0) -> Funds:
    return Funds(balance=balance, available=balance - held + debt, held=held, debt=debt)


# ---- spends ------------------------------------------------------------------------------------------------------


def test_a_spend_goes_from_the_oldest_lots_to_the_sink(books: PlainBooks) -> None:
    (outcome,) = books.ask(Spend(WALLET, GEMS, 130, reference="order-7", item="sword"))
    (spend,) = books.spends.values()
    assert outcome == SpendDone(
        id=spend.public_id,
        user_id=ALICE,
        environment="production",
        currency=GEMS,
        amount=130,
        reversed=0,
        reference="order-7",
        item="sword",
        created_at=NOW,
        wallet=WalletAfter(version=4, funds=funds(170)),
    )
    assert books.lots() == [(0, 0, 100), (70, 0, 30), (100, 0, 0)]
    assert (books.house("sink"), books.house("issuance")) == (130, -300)


def test_a_spend_is_said_with_who_asked_for_it_and_the_entry_that_it_made(books: PlainBooks) -> None:
    (spend,) = books.ask(Spend(WALLET, GEMS, 130, reference="order-7", item="sword"))
    posted, debited = books.said
    assert posted.payload == SpendPosted(
        the(spend).id, "production", GEMS, amount=130, actor=ACTOR, reference="order-7", item="sword"
    )
    assert isinstance(debited.payload, WalletDebited)
    change = debited.payload.change
    assert (change.kind, change.amount, change.balance_after, change.version) == ("spend", -130, 170, 4)
    assert (change.spend_id, change.reference, change.purchase_id) == (the(spend).id, "order-7", None)
    assert (debited.causation_id, posted.causation_id) == (posted.id, None)
    assert {(each.app, each.subject, each.user_id, each.trace_id) for each in books.said} == {
        (GAME, the(spend).id, ALICE, TRACE)
    }


@pytest.mark.parametrize("amount", [301, AMOUNT_MAX])
def test_a_spend_of_more_than_is_available_is_refused_and_leaves_no_trace(books: PlainBooks, amount: int) -> None:
    before = books.accounts
    (refused,) = books.ask(Spend(WALLET, GEMS, amount))
    assert refused == Refused(
        "insufficient-funds",
        f"300 gems are available, {amount} are asked for",
        {"currency": GEMS, "available": 300},
    )
    assert (books.accounts, books.lots(), books.said, books.spends) == (before, FULL, [], {})


def test_all_there_is_may_be_spent(books: PlainBooks) -> None:
    assert the(books.ask(Spend(WALLET, GEMS, 300))[0]).wallet.funds == funds(0)


@pytest.mark.parametrize(
    "request_",
    [
        Spend(WALLET, COINS, 1),
        Spend(WALLET._replace(environment="sandbox"), GEMS, 1),
        Spend(FLOOR_WALLET, GEMS, 1),
        Spend(WALLET._replace(user_id=BOB), GEMS, 1),
        PlaceHold(WALLET, COINS, 1, 60),
    ],
)
def test_no_other_currency_environment_app_or_user_pays(books: PlainBooks, request_: Request) -> None:
    (refused,) = books.ask(request_)
    assert isinstance(refused, Refused)
    assert (refused.code, refused.members["available"]) == ("insufficient-funds", 0)


def test_requests_of_one_batch_see_what_those_before_them_did(books: PlainBooks) -> None:
    first, refused, second = books.ask(
        Spend(WALLET, GEMS, 180), Spend(WALLET, GEMS, 121, reference="too much"), Spend(WALLET, GEMS, 120)
    )
    assert (the(first).wallet, the(second).wallet) == (WalletAfter(4, funds(120)), WalletAfter(5, funds(0)))
    assert isinstance(refused, Refused)
    assert refused.members == {"currency": GEMS, "available": 120}
    assert said(books.said) == ["spend.posted", "wallet.debited"] * 2


def test_goodwill_may_be_spent_in_the_batch_that_gives_it() -> None:
    books = PlainBooks()
    _, spend, refused = books.ask(Grant(WALLET, GEMS, 5, "sorry"), Spend(WALLET, GEMS, 5), Spend(WALLET, GEMS, 1))
    assert the(spend).wallet == WalletAfter(2, funds(0))
    assert isinstance(refused, Refused)


# ---- spends that are given back ----------------------------------------------------------------------------------


def test_a_spend_that_is_given_back_is_as_if_it_had_not_been(books: PlainBooks) -> None:
    spend = spent(books, 130)
    (outcome,) = books.ask(ReverseSpend(GAME, spend))
    assert the(outcome).reversed == the(outcome).amount == 130
    assert the(outcome).wallet == WalletAfter(5, funds(300))
    assert (books.lots(), books.house("sink")) == (FULL, 0)


@pytest.mark.parametrize("back", [1, 30, 31, 129])
def test_a_spend_that_is_given_back_in_part_leaves_what_spending_less_would_have_left(
    books: PlainBooks, back: int
) -> None:
    (outcome,) = books.ask(ReverseSpend(GAME, spent(books, 130), back))
    less = bought(3)
    spent(less, 130 - back)
    assert the(outcome).reversed == back
    assert (books.lots(), books.account().balance) == (less.lots(), less.account().balance)


def test_a_reversal_is_said_with_what_is_given_back_by_now(books: PlainBooks) -> None:
    spend = spent(books, 130)
    books.ask(ReverseSpend(GAME, spend, 30))
    (outcome,) = books.ask(ReverseSpend(GAME, spend, 100))
    posted, credited = books.said
    assert posted.payload == SpendReversed(the(outcome).id, "production", GEMS, amount=100, reversed=130, actor=ACTOR)
    assert isinstance(credited.payload, WalletCredited)
    change = credited.payload.change
    assert (change.kind, change.amount, change.spend_id) == ("spend_reversal", 100, the(outcome).id)
    assert credited.causation_id == posted.id


@pytest.mark.parametrize(("before", "amount", "left"), [(0, 131, 130), (100, 31, 30), (130, None, 0), (130, 1, 0)])
def test_no_more_is_given_back_than_was_spent(books: PlainBooks, before: int, amount: int | None, left: int) -> None:
    spend = spent(books, 130)
    if before:
        books.ask(ReverseSpend(GAME, spend, before))
    stood = books.lots()
    (refused,) = books.ask(ReverseSpend(GAME, spend, amount))
    assert refused == Refused(
        "spend-not-reversible", f"{left} of the spend's 130 are left to be given back", {"reversible": left}
    )
    assert (books.lots(), books.said) == (stood, [])


def test_two_reversals_in_one_batch_give_no_more_back_than_was_spent(books: PlainBooks) -> None:
    spend = spent(books, 130)
    first, second = books.ask(ReverseSpend(GAME, spend), ReverseSpend(GAME, spend))
    assert the(first).reversed == 130
    assert isinstance(second, Refused)
    assert books.lots() == FULL


def test_a_spend_that_is_given_back_after_its_purchase_was_refunded_pays_what_is_owed() -> None:
    books = bought(1)
    spend = spent(books, 80)
    books.apply(refunded(transaction("1")))
    assert books.account().owed == 80
    (outcome,) = books.ask(ReverseSpend(GAME, spend, 50))
    assert the(outcome).wallet.funds == funds(-30, debt=30)
    (outcome,) = books.ask(ReverseSpend(GAME, spend))
    assert the(outcome).wallet.funds == funds(0)


# ---- holds -------------------------------------------------------------------------------------------------------


def test_a_hold_sets_currency_aside_and_moves_none(books: PlainBooks) -> None:
    (outcome,) = books.ask(PlaceHold(WALLET, GEMS, 130, 60, reference="auction-7"))
    (hold,) = books.holds.values()
    assert outcome == HoldDone(
        id=hold.public_id,
        user_id=ALICE,
        environment="production",
        currency=GEMS,
        amount=130,
        captured=0,
        state="open",
        expires_at=NOW + timedelta(seconds=60),
        reference="auction-7",
        created_at=NOW,
        wallet=WalletAfter(version=3, funds=funds(300, held=130)),
    )
    assert books.lots() == [(0, 100, 0), (70, 30, 0), (100, 0, 0)]
    (placed,) = books.said
    assert placed.payload == HoldPlaced(
        hold.public_id,
        "production",
        GEMS,
        amount=130,
        expires_at=NOW + timedelta(seconds=60),
        actor=ACTOR,
        reference="auction-7",
    )


def test_what_is_held_is_neither_spent_nor_held_again(books: PlainBooks) -> None:
    held(books, 130)
    for request in (Spend(WALLET, GEMS, 171), PlaceHold(WALLET, GEMS, 171, 60)):
        (refused,) = books.ask(request)
        assert isinstance(refused, Refused)
        assert (refused.code, refused.members["available"]) == ("insufficient-funds", 170)
    assert the(books.ask(Spend(WALLET, GEMS, 170))[0]).wallet.funds == funds(130, held=130)


def test_capturing_a_hold_makes_a_spend_of_it(books: PlainBooks) -> None:
    hold = held(books, 130)
    (outcome,) = books.ask(CaptureHold(GAME, hold, reference="order-7", item="sword"))
    (spend,) = books.spends.values()
    assert (the(outcome).state, the(outcome).captured, the(outcome).spend_id) == ("captured", 130, spend.public_id)
    assert the(outcome).wallet == WalletAfter(4, funds(170))
    assert (spend.amount, spend.hold, spend.reference, spend.item) == (130, hold, "order-7", "sword")
    assert books.lots() == [(0, 0, 100), (70, 0, 30), (100, 0, 0)]
    assert said(books.said) == ["spend.posted", "wallet.debited", "hold.ended"]
    assert isinstance(books.said[2].payload, HoldEnded)
    assert (books.said[2].payload.state, books.said[2].payload.captured) == ("captured", 130)


def test_capturing_a_part_spends_it_and_frees_the_rest(books: PlainBooks) -> None:
    (outcome,) = books.ask(CaptureHold(GAME, held(books, 130), 90))
    assert (the(outcome).amount, the(outcome).captured) == (130, 90)
    assert the(outcome).wallet.funds == funds(210)
    assert books.lots() == [(10, 0, 90), (100, 0, 0), (100, 0, 0)]


def test_a_spend_that_names_nothing_has_its_holds_reference(books: PlainBooks) -> None:
    (outcome,) = books.ask(PlaceHold(WALLET, GEMS, 130, 60, reference="auction-7"))
    books.ask(CaptureHold(GAME, uuid_of(outcome)))
    (spend,) = books.spends.values()
    assert spend.reference == "auction-7"


def test_what_a_captured_hold_became_is_given_back_like_any_spend(books: PlainBooks) -> None:
    books.ask(CaptureHold(GAME, held(books, 130), 120))
    (spend,) = books.spends
    (outcome,) = books.ask(ReverseSpend(GAME, spend))
    assert (books.lots(), the(outcome).hold_id) == (FULL, next(iter(books.holds.values())).public_id)


def test_no_more_is_captured_than_was_held(books: PlainBooks) -> None:
    hold = held(books, 130)
    (refused,) = books.ask(CaptureHold(GAME, hold, 131))
    assert refused == Refused("hold-too-small", "the hold has 130 set aside, not 131", {"amount": 130})
    assert (books.holds[hold].state, books.account().held) == ("open", 130)


def test_a_released_hold_leaves_the_wallet_as_it_was(books: PlainBooks) -> None:
    hold = held(books, 130)
    (outcome,) = books.ask(ReleaseHold(GAME, hold))
    assert (the(outcome).state, the(outcome).captured, the(outcome).spend_id) == ("released", 0, None)
    assert (the(outcome).wallet, books.lots()) == (WalletAfter(3, funds(300)), FULL)
    (ended,) = books.said
    assert ended.payload == HoldEnded(
        the(outcome).id, "production", GEMS, amount=130, captured=0, state="released", actor=ACTOR
    )


@pytest.mark.parametrize(("first", "state"), [(CaptureHold, "captured"), (ReleaseHold, "released")])
@pytest.mark.parametrize("again", [CaptureHold, ReleaseHold])
@pytest.mark.parametrize("together", [True, False])
def test_a_hold_ends_once(books: PlainBooks, first: Any, state: str, again: Any, together: bool) -> None:
    hold = held(books, 130)
    batches = [[first(GAME, hold), again(GAME, hold)]] if together else [[first(GAME, hold)], [again(GAME, hold)]]
    outcomes = [outcome for batch in batches for outcome in books.ask(*batch)]
    became = {"spend_id": spend_id(spend)} if (spend := next(iter(books.spends), None)) else {}
    assert outcomes[1] == Refused("hold-not-open", f"the hold is {state}", {"state": state, **became})
    assert (books.account().held, len(books.spends)) == (0, 1 if state == "captured" else 0)


@pytest.mark.parametrize("request_", [CaptureHold, ReleaseHold])
@pytest.mark.parametrize("seconds", [60, 61])
def test_a_hold_whose_time_is_over_ends_when_it_is_touched(books: PlainBooks, request_: Any, seconds: int) -> None:
    hold = held(books, 130, seconds=60)
    (refused,) = books.ask(request_(GAME, hold), now=NOW + timedelta(seconds=seconds))
    assert refused == Refused("hold-not-open", "the hold is expired", {"state": "expired"})
    assert (books.account().held, books.lots(), books.spends) == (0, FULL, {})
    (ended,) = books.said
    assert isinstance(ended.payload, HoldEnded)
    assert (ended.payload.state, ended.payload.actor) == ("expired", LEDGER_ITSELF)


def test_to_its_last_moment_a_hold_is_open(books: PlainBooks) -> None:
    hold = held(books, 130, seconds=60)
    (outcome,) = books.ask(CaptureHold(GAME, hold), now=NOW + timedelta(seconds=59, microseconds=999_999))
    assert the(outcome).state == "captured"


def test_what_is_released_pays_what_is_owed() -> None:
    books = bought(1)
    hold = held(books, 80)
    books.apply(refunded(transaction("1")))
    assert books.account() == replace(books.account(), balance=0, held=80, owed=80)
    (outcome,) = books.ask(ReleaseHold(GAME, hold))
    assert the(outcome).wallet.funds == funds(0)
    assert [left for left, _, _ in books.lots()] == [0]


# ---- where nothing may be owed -----------------------------------------------------------------------------------


def test_a_hold_that_is_captured_after_its_purchase_was_refunded_is_written_off_where_nothing_may_be_owed() -> None:
    """Of 100, 80 are held when all are refunded: 20 come back, 80 stay owed. Captured, they are nobody's to give."""
    books = bought(1, app=FLOOR_GAME)
    hold = held(books, 80, FLOOR_WALLET)
    books.apply(refunded(transaction("1"), app=FLOOR_GAME))
    assert books.account(app=FLOOR_GAME).owed == 80
    (outcome,) = books.ask(CaptureHold(FLOOR_GAME, hold))
    assert the(outcome).wallet == WalletAfter(4, funds(0))
    assert (books.house("write_off"), books.house("sink"), books.house("issuance")) == (-80, 80, 0)
    assert said(books.said) == ["spend.posted", "wallet.debited", "hold.ended", "wallet.credited"]
    ended, written_off = books.said[2:]
    assert isinstance(written_off.payload, WalletCredited)
    change = written_off.payload.change
    assert (change.kind, change.amount, change.balance_after, change.spend_id) == ("write_off", 80, 0, None)
    assert (written_off.causation_id, written_off.subject) == (ended.id, the(outcome).id)


def test_what_another_hold_still_covers_stays_owed_where_nothing_else_may_be() -> None:
    books = bought(1, app=FLOOR_GAME)
    first, second = held(books, 60, FLOOR_WALLET), held(books, 40, FLOOR_WALLET)
    books.apply(refunded(transaction("1"), app=FLOOR_GAME))
    (outcome,) = books.ask(CaptureHold(FLOOR_GAME, first))
    assert the(outcome).wallet.funds == funds(0, held=40, debt=40)
    assert books.house("write_off") == -60
    (outcome,) = books.ask(ReleaseHold(FLOOR_GAME, second))
    assert the(outcome).wallet.funds == funds(0)
    assert books.house("write_off") == -60


def test_where_debts_are_kept_a_captured_hold_leaves_one() -> None:
    books = bought(1)
    hold = held(books, 80)
    books.apply(refunded(transaction("1")))
    (outcome,) = books.ask(CaptureHold(GAME, hold))
    assert the(outcome).wallet.funds == funds(-80, debt=80)
    assert books.house("write_off") == 0


def test_what_was_written_off_when_a_hold_was_captured_comes_back_with_the_refunds_reversal() -> None:
    """The refund took 20 and left 80 to be written off; reversed, the user has those 20 again, and the house its 80."""
    books = bought(1, app=FLOOR_GAME)
    hold = held(books, 80, FLOOR_WALLET)
    books.apply(refunded(transaction("1"), app=FLOOR_GAME))
    books.ask(CaptureHold(FLOOR_GAME, hold))
    books.apply(refund_reversed(transaction("1", after_s=60), app=FLOOR_GAME))
    assert books.balances(app=FLOOR_GAME) == {GEMS: 20}
    assert (books.house("write_off"), books.house("issuance"), books.house("sink")) == (0, -100, 80)


def test_what_was_written_off_because_it_was_spent_is_taken_when_the_spend_is_given_back() -> None:
    """Or to buy, to spend, to be refunded and to have the spend reversed would leave the currency and the money."""
    books = bought(1, app=FLOOR_GAME)
    (spend,) = books.ask(Spend(FLOOR_WALLET, GEMS, 100))
    books.apply(refunded(transaction("1"), app=FLOOR_GAME))
    assert books.house("write_off") == -100
    (outcome,) = books.ask(ReverseSpend(FLOOR_GAME, spend_uuid(the(spend).id), 30))
    assert the(outcome).wallet.funds == funds(0)
    assert said(books.said) == ["spend.reversed", "wallet.credited", "wallet.debited"]
    (outcome,) = books.ask(ReverseSpend(FLOOR_GAME, spend_uuid(the(spend).id)))
    assert the(outcome).wallet.funds == funds(0)
    assert (books.house("write_off"), books.house("sink"), books.house("issuance")) == (0, 0, 0)
    books.apply(refund_reversed(transaction("1", after_s=60), app=FLOOR_GAME))
    assert books.balances(app=FLOOR_GAME) == {GEMS: 100}
    assert books.lots(app=FLOOR_GAME) == [(100, 0, 0)]


def test_what_was_spent_after_a_write_off_is_given_back_to_the_user() -> None:
    books = bought(1, app=FLOOR_GAME)
    books.ask(Spend(FLOOR_WALLET, GEMS, 100))
    books.apply(refunded(transaction("1"), app=FLOOR_GAME))
    books.apply(verified(transaction("2"), app=FLOOR_GAME))
    (spend,) = books.ask(Spend(FLOOR_WALLET, GEMS, 100))
    (outcome,) = books.ask(ReverseSpend(FLOOR_GAME, spend_uuid(the(spend).id)))
    assert (the(outcome).wallet.funds, books.house("write_off")) == (funds(100), -100)


def test_what_a_hold_had_set_aside_before_the_refund_is_taken_when_its_spend_is_given_back() -> None:
    books = bought(1, app=FLOOR_GAME)
    hold = held(books, 80, FLOOR_WALLET)
    books.apply(refunded(transaction("1"), app=FLOOR_GAME))
    (captured,) = books.ask(CaptureHold(FLOOR_GAME, hold))
    (outcome,) = books.ask(ReverseSpend(FLOOR_GAME, spend_uuid(the(captured).spend_id)))
    assert (the(outcome).wallet.funds, books.house("write_off")) == (funds(0), 0)


# ---- goodwill ----------------------------------------------------------------------------------------------------


def test_goodwill_is_a_lot_of_its_own_and_the_goodwill_accounts_loss(books: PlainBooks) -> None:
    (outcome,) = books.ask(Grant(WALLET, GEMS, 40, "the server was down"))
    assert isinstance(outcome, GrantDone)
    assert outcome == GrantDone(
        id=outcome.id,
        user_id=ALICE,
        environment="production",
        currency=GEMS,
        amount=40,
        reason="the server was down",
        granted_by=ACTOR,
        created_at=NOW,
        wallet=WalletAfter(4, funds(340)),
    )
    assert books.lots() == [*FULL, (40, 0, 0)]
    assert (books.house("goodwill"), books.house("issuance")) == (-40, -300)
    posted, credited = books.said
    assert posted.payload == GrantPosted(
        outcome.id, "production", GEMS, amount=40, reason="the server was down", actor=ACTOR
    )
    assert isinstance(credited.payload, WalletCredited)
    change = credited.payload.change
    assert (change.kind, change.grant_id, change.amount) == ("grant", outcome.id, 40)


def test_goodwill_pays_what_is_owed_first() -> None:
    books = bought(1)
    spent(books, 80)
    books.apply(refunded(transaction("1")))
    first, second = books.ask(Grant(WALLET, GEMS, 30, "sorry"), Grant(WALLET, GEMS, 60, "very sorry"))
    assert the(first).wallet.funds == funds(-50, debt=50)
    assert the(second).wallet.funds == funds(10)


# ---- what can be kept exactly ------------------------------------------------------------------------------------


def set_balance(books: PlainBooks, kind: Any, balance: int) -> None:
    key = account_of() if kind == "wallet" else account_of().house(kind)
    books.accounts[key] = Account(books.accounts[key].id, balance, books.accounts[key].version)


@pytest.mark.parametrize(
    ("kind", "balance", "request_"),
    [
        ("sink", HOUSE_BALANCE_MAX - 9, Spend(WALLET, GEMS, 10)),
        ("goodwill", 9 - HOUSE_BALANCE_MAX, Grant(WALLET, GEMS, 10, "sorry")),
        ("wallet", AMOUNT_MAX - 9, Grant(WALLET, GEMS, 10, "sorry")),
    ],
)
def test_no_balance_goes_beyond_what_can_be_kept_exactly(
    books: PlainBooks, kind: Any, balance: int, request_: Spend | Grant
) -> None:
    set_balance(books, kind, balance)
    before = books.accounts
    (refused,) = books.ask(request_)
    assert isinstance(refused, Refused)
    assert (refused.code, refused.members) == ("balance-out-of-range", {"currency": GEMS})
    assert (books.accounts, books.said) == (before, [])
    (done,) = books.ask(replace(request_, amount=9))
    assert not isinstance(done, Refused)


def test_what_cannot_be_given_back_or_captured_for_a_balance_out_of_range_stays_as_it_was(books: PlainBooks) -> None:
    spend, hold = spent(books, 10), held(books, 10)
    stood = books.lots()
    set_balance(books, "sink", HOUSE_BALANCE_MAX - 9)
    (captured,) = books.ask(CaptureHold(GAME, hold))
    books.accounts[account_of()] = replace(books.account(), balance=AMOUNT_MAX - 9)
    (reversed_,) = books.ask(ReverseSpend(GAME, spend))
    for outcome in (captured, reversed_):
        assert isinstance(outcome, Refused)
        assert outcome.code == "balance-out-of-range"
    assert (books.lots(), books.holds[hold].state, books.spends[spend].reversed) == (stood, "open", 0)


# ---- several at once ---------------------------------------------------------------------------------------------


def test_commands_of_several_users_and_apps_in_one_batch_do_not_meet() -> None:
    books = PlainBooks()
    wallets = [WALLET, WALLET._replace(user_id=BOB), FLOOR_WALLET, FLOOR_WALLET._replace(user_id=BOB)]
    commands = [
        Command(request, f"server:{number}", f"{number:032x}")
        for number, wallet in enumerate(wallets, start=1)
        for request in (Grant(wallet, GEMS, number * 10, "sorry"), Spend(wallet, GEMS, number))
    ]
    outcomes = books.carry_out(*commands)
    assert [the(outcome).wallet for outcome in outcomes[1::2]] == [
        WalletAfter(2, funds(number * 9)) for number in (1, 2, 3, 4)
    ]
    assert {(draft.app, draft.user_id, draft.trace_id) for draft in books.said} == {
        (wallet.app, wallet.user_id, f"{number:032x}") for number, wallet in enumerate(wallets, start=1)
    }
    assert (books.house("sink"), books.house("goodwill")) == (10, -100)
