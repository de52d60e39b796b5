"""What each credit has come to, and what each debit came from. Lots are named by their age: 1 is the oldest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ledger.domain.books import AccountId, TransferId
from ledger.domain.lots import Lot, LotKey, Lots, Portion, Reservation, Taken

ACCOUNT = AccountId(1)
SPEND, SPEND_2 = TransferId(UUID(int=1)), TransferId(UUID(int=2))
REFUND, REFUND_2 = TransferId(UUID(int=11)), TransferId(UUID(int=12))
HOLD = UUID(int=21)


def credited(*amounts: int) -> Lots:
    """An account with a lot of each amount, the first the oldest."""
    lots = Lots(ACCOUNT)
    for version, amount in enumerate(amounts, start=1):
        lots.credit(version, amount)
    return lots


def stand(lots: Lots) -> list[tuple[int, int, int]]:
    """What remains, is held and is spent of each lot."""
    now = lots.made | lots.changed
    return [(now[version].remaining, now[version].held, now[version].spent) for version in sorted(now)]


def remaining(lots: Lots) -> list[int]:
    return [of_one for of_one, _, _ in stand(lots)]


def portions(lots: Lots, transfer: TransferId) -> list[tuple[str, int | None, int]]:
    """What a debit came from, in its order: the source, the lot, and how much of it is neither returned nor settled."""
    now = lots.new_portions | lots.changed_portions
    of_it = sorted((each for each in now.values() if each.transfer_id == transfer), key=lambda each: each.position)
    return [(each.source, each.lot_version, each.left) for each in of_it if each.left]


# ---- spends ------------------------------------------------------------------------------------------------------


def test_a_spend_uses_the_oldest_lots_first() -> None:
    lots = credited(100, 50, 70)
    lots.spend(SPEND, 120)
    assert stand(lots) == [(0, 0, 100), (30, 0, 20), (70, 0, 0)]
    assert portions(lots, SPEND) == [("lot", 1, 100), ("lot", 2, 20)]
    lots.spend(SPEND_2, 40)
    assert stand(lots) == [(0, 0, 100), (0, 0, 50), (60, 0, 10)]
    assert portions(lots, SPEND_2) == [("lot", 2, 30), ("lot", 3, 10)]


def test_a_spend_of_all_there_is_leaves_nothing() -> None:
    lots = credited(100, 50)
    lots.spend(SPEND, 150)
    assert remaining(lots) == [0, 0]


def test_a_spend_of_more_than_there_is_is_a_mistake_of_the_code() -> None:
    with pytest.raises(AssertionError, match="account 1: 1 more were available than its lots have"):
        credited(100, 50).spend(SPEND, 151)


def test_what_is_held_is_not_spent() -> None:
    lots = credited(100, 50)
    lots.hold(HOLD, 100)
    lots.spend(SPEND, 50)
    assert stand(lots) == [(0, 100, 0), (0, 0, 50)]


def test_a_spend_goes_back_to_the_lots_that_it_came_from_the_last_used_first() -> None:
    lots = credited(100, 50, 70)
    lots.spend(SPEND, 180)
    assert lots.give_back([SPEND], 60) == Taken(from_wallet=60, written_off=0)
    assert stand(lots) == [(0, 0, 100), (30, 0, 20), (70, 0, 0)]
    assert portions(lots, SPEND) == [("lot", 1, 100), ("lot", 2, 20)]


@pytest.mark.parametrize("given_back", [1, 29, 30, 31, 79, 80, 81, 180])
def test_a_spend_that_is_given_back_in_part_leaves_what_spending_less_would_have_left(given_back: int) -> None:
    reversed_, less = credited(100, 50, 70), credited(100, 50, 70)
    reversed_.spend(SPEND, 180)
    reversed_.give_back([SPEND], given_back)
    less.spend(SPEND, 180 - given_back)
    assert stand(reversed_) == stand(less)
    assert portions(reversed_, SPEND) == portions(less, SPEND)


def test_parts_that_are_given_back_go_on_from_each_other() -> None:
    lots = credited(100, 50)
    lots.spend(SPEND, 150)
    for part in (40, 30, 80):
        lots.give_back([SPEND], part)
    assert stand(lots) == [(100, 0, 0), (50, 0, 0)]
    assert portions(lots, SPEND) == []


def test_to_give_back_more_than_was_taken_is_a_mistake_of_the_code() -> None:
    lots = credited(100)
    lots.spend(SPEND, 60)
    lots.give_back([SPEND], 50)
    with pytest.raises(AssertionError, match="account 1: 1 more are to be given back than were taken"):
        lots.give_back([SPEND], 11)


# ---- refunds -----------------------------------------------------------------------------------------------------


def test_a_refund_takes_from_its_own_lot_first_however_old_the_others_are() -> None:
    lots = credited(100, 50, 70)
    assert lots.take_back(REFUND, 70, own=[3], may_owe=True) == Taken(from_wallet=70, written_off=0)
    assert stand(lots) == [(100, 0, 0), (50, 0, 0), (0, 0, 0)]
    assert portions(lots, REFUND) == [("lot", 3, 70)]


def test_what_the_own_lot_lacks_comes_from_the_others_the_oldest_first() -> None:
    """What a refund takes of its own lot is not spent; what it takes of another's purchase is."""
    lots = credited(50, 100, 70)
    lots.spend(SPEND, 90)  # all of the first, 40 of the second
    lots.take_back(REFUND, 100, own=[2], may_owe=True)
    assert stand(lots) == [(0, 0, 50), (0, 0, 40), (30, 0, 40)]
    assert portions(lots, REFUND) == [("lot", 2, 60), ("lot", 3, 40)]


def test_all_of_a_purchases_own_lots_come_before_the_others() -> None:
    lots = credited(10, 60, 10, 40)
    lots.take_back(REFUND, 100, own=[2, 4], may_owe=True)
    assert remaining(lots) == [10, 0, 10, 0]


@pytest.mark.parametrize(
    ("may_owe", "taken", "owed", "rest"),
    [
        (True, Taken(from_wallet=100, written_off=0), 70, [("lot", 1, 30), ("owed", None, 70)]),
        (False, Taken(from_wallet=30, written_off=70), 0, [("lot", 1, 30), ("written_off", None, 70)]),
    ],
)
def test_what_no_lot_has_is_owed_or_written_off(
    may_owe: bool, taken: Taken, owed: int, rest: list[tuple[str, int | None, int]]
) -> None:
    lots = credited(100)
    lots.spend(SPEND, 70)
    assert lots.take_back(REFUND, 100, own=[1], may_owe=may_owe) == taken
    assert lots.owed == owed
    assert portions(lots, REFUND) == rest


def test_where_nothing_may_be_owed_what_is_held_is_owed_all_the_same() -> None:
    """Of 100, 30 are spent and 50 held: the refund finds 20; 50 stay answerable, and 30 are written off."""
    lots = credited(100)
    lots.spend(SPEND, 30)
    lots.hold(HOLD, 50)
    taken = lots.take_back(REFUND, 100, own=[1], may_owe=False)
    assert taken == Taken(from_wallet=70, written_off=30)
    assert portions(lots, REFUND) == [("lot", 1, 20), ("owed", None, 50), ("written_off", None, 30)]
    assert lots.owed == 50


def test_what_is_held_covers_one_refund_and_not_two() -> None:
    lots = credited(60, 60)
    lots.spend(SPEND, 60)
    lots.hold(HOLD, 60)
    assert lots.take_back(REFUND, 40, own=[1], may_owe=False) == Taken(from_wallet=40, written_off=0)
    assert lots.take_back(REFUND_2, 60, own=[2], may_owe=False) == Taken(from_wallet=20, written_off=40)
    assert lots.owed == lots.held == 60


def test_a_refund_that_is_reversed_goes_back_where_it_came_from() -> None:
    lots = credited(50, 100)
    lots.spend(SPEND, 80)
    before = stand(lots)
    lots.take_back(REFUND, 100, own=[2], may_owe=True)
    assert (lots.owed, remaining(lots)) == (30, [0, 0])
    assert lots.give_back([REFUND], 100) == Taken(from_wallet=100, written_off=0)
    assert (lots.owed, stand(lots)) == (0, before)
    assert portions(lots, REFUND) == []


def test_what_was_written_off_comes_back_first_and_is_not_the_users() -> None:
    lots = credited(100)
    lots.spend(SPEND, 70)
    lots.take_back(REFUND, 100, own=[1], may_owe=False)
    assert lots.give_back([REFUND], 80) == Taken(from_wallet=10, written_off=70)
    assert stand(lots) == [(10, 0, 70)]


def test_what_is_still_owed_is_let_off_before_any_lot_is_given_back() -> None:
    lots = credited(100)
    lots.spend(SPEND, 70)
    lots.take_back(REFUND, 100, own=[1], may_owe=True)
    assert lots.give_back([REFUND], 60) == Taken(from_wallet=60, written_off=0)
    assert (lots.owed, remaining(lots)) == (10, [0])
    lots.give_back([REFUND], 40)
    assert (lots.owed, remaining(lots)) == (0, [30])


def test_of_several_refunds_the_last_one_is_given_back_first() -> None:
    lots = credited(100, 50)
    lots.take_back(REFUND, 60, own=[1], may_owe=True)
    lots.take_back(REFUND_2, 60, own=[1], may_owe=True)  # 40 of its own, 20 of the other
    assert remaining(lots) == [0, 30]
    lots.give_back([REFUND, REFUND_2], 30)
    assert portions(lots, REFUND_2) == [("lot", 1, 30)]
    assert portions(lots, REFUND) == [("lot", 1, 60)]
    assert remaining(lots) == [10, 50]


# ---- what is owed, and who pays it -------------------------------------------------------------------------------


def owing(amount: int) -> Lots:
    """An account that owes so much for a refund: its only lot of 100 was spent."""
    lots = credited(100)
    lots.spend(SPEND, 100)
    lots.take_back(REFUND, amount, own=[1], may_owe=True)
    return lots


@pytest.mark.parametrize(("amount", "owed", "left"), [(30, 40, 0), (70, 0, 0), (100, 0, 30)])
def test_a_credit_pays_what_is_owed_before_anything_of_it_remains(amount: int, owed: int, left: int) -> None:
    lots = owing(70)
    lots.credit(2, amount)
    assert (lots.owed, stand(lots)[1]) == (owed, (left, 0, amount - left))


def test_who_has_paid_a_debt_is_a_portion_of_its_refund() -> None:
    lots = owing(70)
    lots.credit(2, 30)
    lots.credit(3, 100)
    assert portions(lots, REFUND) == [("lot", 2, 30), ("lot", 3, 40)]


def test_a_reversal_gives_back_to_the_lots_that_paid_the_debt() -> None:
    lots = owing(70)
    lots.credit(2, 30)
    lots.credit(3, 20)
    lots.give_back([REFUND], 70)  # 20 are still owed
    assert (lots.owed, stand(lots)) == (0, [(0, 0, 100), (30, 0, 0), (20, 0, 0)])


def test_the_oldest_debt_is_paid_first() -> None:
    lots = owing(40)
    lots.take_back(REFUND_2, 60, own=[1], may_owe=True)
    lots.credit(2, 50)
    assert portions(lots, REFUND) == [("lot", 2, 40)]
    assert portions(lots, REFUND_2) == [("owed", None, 50), ("lot", 2, 10)]


def test_what_is_given_back_of_a_spend_pays_what_is_owed() -> None:
    lots = owing(70)
    lots.give_back([SPEND], 90)
    assert (lots.owed, remaining(lots)) == (0, [20])
    assert portions(lots, REFUND) == [("lot", 1, 70)]


def test_what_is_released_pays_what_is_owed() -> None:
    lots = credited(100)
    reserved = lots.hold(HOLD, 100)
    lots.take_back(REFUND, 60, own=[1], may_owe=True)
    assert lots.owed == 60
    lots.release(reserved)
    assert (lots.owed, lots.held, remaining(lots)) == (0, 0, [40])


def test_a_refund_that_is_reversed_pays_what_another_one_owes() -> None:
    lots = credited(100, 100)
    lots.take_back(REFUND, 100, own=[1], may_owe=True)
    lots.spend(SPEND, 100)
    lots.take_back(REFUND_2, 100, own=[2], may_owe=True)
    assert lots.owed == 100
    lots.give_back([REFUND], 100)
    assert (lots.owed, remaining(lots)) == (0, [0, 0])
    assert portions(lots, REFUND_2) == [("lot", 1, 100)]


# ---- holds -------------------------------------------------------------------------------------------------------


def test_a_hold_sets_the_oldest_aside_and_remembers_which() -> None:
    lots = credited(100, 50)
    reserved = lots.hold(HOLD, 120)
    assert [(each.position, each.key.version, each.amount) for each in reserved] == [(0, 1, 100), (1, 2, 20)]
    assert (lots.held, stand(lots)) == (120, [(0, 100, 0), (30, 20, 0)])


def test_a_hold_of_certain_lots_takes_no_others() -> None:
    lots = credited(100, 50, 70)
    lots.hold(HOLD, 90, lots=[2, 3])
    assert stand(lots) == [(100, 0, 0), (0, 50, 0), (30, 40, 0)]


@pytest.mark.parametrize("lots", [None, [1]])
def test_to_hold_more_than_there_is_is_a_mistake_of_the_code(lots: Sequence[int] | None) -> None:
    with pytest.raises(AssertionError, match="more were to be held than there are"):
        credited(100, 50).hold(HOLD, 151, lots=lots)


def test_a_hold_that_is_released_leaves_no_trace() -> None:
    lots = credited(100, 50)
    lots.release(lots.hold(HOLD, 120))
    assert (lots.held, stand(lots)) == (0, [(100, 0, 0), (50, 0, 0)])
    assert lots.new_portions == {}


def test_capturing_a_hold_spends_what_it_set_aside() -> None:
    lots = credited(100, 50)
    lots.capture(SPEND, lots.hold(HOLD, 120), 120)
    assert (lots.held, stand(lots)) == (0, [(0, 0, 100), (30, 0, 20)])
    assert portions(lots, SPEND) == [("lot", 1, 100), ("lot", 2, 20)]


@pytest.mark.parametrize(
    ("captured", "left"), [(110, [(0, 0, 100), (40, 0, 10)]), (100, [(0, 0, 100), (50, 0, 0)]), (1, [(99, 0, 1)])]
)
def test_capturing_a_part_spends_the_oldest_of_it_and_frees_the_rest(
    captured: int, left: list[tuple[int, int, int]]
) -> None:
    lots = credited(100, 50)
    lots.capture(SPEND, lots.hold(HOLD, 120), captured)
    assert lots.held == 0
    assert stand(lots)[: len(left)] == left
    assert sum(remaining(lots)) == 150 - captured


def test_what_capturing_a_part_frees_pays_what_is_owed() -> None:
    lots = credited(100)
    reserved = lots.hold(HOLD, 100)
    lots.take_back(REFUND, 70, own=[1], may_owe=True)
    lots.capture(SPEND, reserved, 60)
    assert (lots.owed, remaining(lots)) == (30, [0])
    assert portions(lots, REFUND) == [("owed", None, 30), ("lot", 1, 40)]


def test_forgiving_writes_off_what_is_owed_beyond_what_is_held_the_oldest_debt_first() -> None:
    lots = credited(100)
    first, second = lots.hold(HOLD, 60), lots.hold(UUID(int=22), 40)
    lots.take_back(REFUND, 50, own=[1], may_owe=False)
    lots.take_back(REFUND_2, 50, own=[1], may_owe=False)
    assert (lots.owed, lots.forgive()) == (100, 0)
    lots.capture(SPEND, first, 60)
    assert lots.forgive() == 60
    assert (lots.owed, lots.held) == (40, 40)
    assert portions(lots, REFUND) == [("written_off", None, 50)]
    assert portions(lots, REFUND_2) == [("owed", None, 40), ("written_off", None, 10)]
    lots.release(second)
    assert (lots.owed, remaining(lots)) == (0, [0])


def test_what_was_forgiven_comes_back_as_written_off() -> None:
    lots = credited(100)
    reserved = lots.hold(HOLD, 100)
    lots.take_back(REFUND, 100, own=[1], may_owe=False)
    lots.capture(SPEND, reserved, 100)
    lots.forgive()
    assert lots.give_back([REFUND], 100) == Taken(from_wallet=0, written_off=100)


# ---- what is there to be asked, and to be written ----------------------------------------------------------------


def test_of_a_purchases_lots_one_knows_what_remains_and_what_is_gone_or_set_aside() -> None:
    lots = credited(100, 50, 70)
    lots.spend(SPEND, 80)
    lots.hold(HOLD, 30)
    assert lots.remaining([1, 3]) == 70
    assert lots.spent([1, 2]) == 110
    lots.take_back(REFUND, 70, own=[3], may_owe=True)
    assert (lots.remaining([3]), lots.spent([3])) == (0, 0)


def test_what_was_loaded_and_changed_is_told_from_what_was_made() -> None:
    lots = Lots(ACCOUNT, owed=20)
    for version, left in ((1, 0), (2, 40), (3, 40)):
        lots.load(Lot(LotKey(ACCOUNT, version), 40, left, spent=40 - left))
    lots.load_portion(Portion(REFUND, ACCOUNT, 1, "owed", 20), last_position=4)
    lots.spend(SPEND, 50)
    assert (lots.made, sorted(lots.changed)) == ({}, [2, 3])
    lots.credit(4, 10)
    assert sorted(lots.made) == [4]
    assert sorted(lots.changed_portions) == [(REFUND, 1)]


def test_a_debt_that_is_paid_goes_on_after_the_last_portion_of_its_refund() -> None:
    lots = Lots(ACCOUNT, owed=20)
    lots.load_portion(Portion(REFUND, ACCOUNT, 1, "owed", 20), last_position=4)
    lots.credit(1, 20)
    assert [(each.position, each.source) for each in lots.new_portions.values()] == [(5, "lot")]


# ---- any sequence ------------------------------------------------------------------------------------------------


@dataclass
class Debit:
    """What the test knows of a debit: how much it took and gave back, and whose refund it is (None: a spend)."""

    amount: int
    purchase: int | None = None
    returned: int = 0


@dataclass
class Held:
    """What the test knows of a hold that is open."""

    amount: int
    reserved: list[Reservation] = field(default_factory=list)


AMOUNTS = st.integers(1, 40)


class LotsMachine(RuleBasedStateMachine):
    """One account, and what anybody may do to it; now and then it is written down and read again."""

    @initialize(may_owe=st.booleans())
    def begin(self, may_owe: bool) -> None:
        self.may_owe = may_owe
        self.balance = 0
        self.written_off = 0
        self.lots = Lots(ACCOUNT)
        self.kept_lots: dict[int, Lot] = {}
        self.kept_portions: dict[tuple[TransferId, int], Portion] = {}
        self.debits: dict[TransferId, Debit] = {}
        self.holds: dict[UUID, Held] = {}
        self.numbers = iter(range(1, 10_000))

    # ---- what is done ------------------------------------------------------------------------------------------

    @rule(amount=AMOUNTS)
    def credit(self, amount: int) -> None:
        self.lots.credit(next(self.numbers), amount)
        self.balance += amount

    @precondition(lambda self: self.available)
    @rule(data=st.data())
    def spend(self, data: st.DataObject) -> None:
        amount = data.draw(st.integers(1, self.available))
        self.lots.spend(self._debit(Debit(amount)), amount)
        self.balance -= amount

    @precondition(lambda self: self.refundable())
    @rule(data=st.data())
    def refund(self, data: st.DataObject) -> None:
        purchase, most = data.draw(st.sampled_from(self.refundable()))
        amount = data.draw(st.integers(1, most) | st.just(most))
        debit = self._debit(Debit(amount, purchase))
        taken = self.lots.take_back(debit, amount, own=[purchase], may_owe=self.may_owe)
        assert taken.from_wallet + taken.written_off == amount
        self.balance -= taken.from_wallet
        self.written_off += taken.written_off

    @precondition(lambda self: self.returnable())
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        transfers, most = data.draw(st.sampled_from(self.returnable()))
        amount = rest = data.draw(st.integers(1, most) | st.just(most))
        back = self.lots.give_back(transfers, amount)
        assert back.from_wallet + back.written_off == amount
        self.balance += back.from_wallet
        self.written_off -= back.written_off
        for transfer in reversed(transfers):  # which of them is not asked here, but that no more comes back in all
            part = min(rest, self.debits[transfer].amount - self.debits[transfer].returned)
            self.debits[transfer].returned += part
            rest -= part

    @precondition(lambda self: self.available)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        amount = data.draw(st.integers(1, self.available))
        name = UUID(int=next(self.numbers))
        self.holds[name] = Held(amount, self.lots.hold(name, amount))

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def capture(self, data: st.DataObject) -> None:
        held = self.holds.pop(data.draw(st.sampled_from(list(self.holds))))
        amount = data.draw(st.integers(1, held.amount))
        self.lots.capture(self._debit(Debit(amount)), held.reserved, amount)
        self.balance -= amount
        if not self.may_owe:
            forgiven = self.lots.forgive()
            self.balance += forgiven
            self.written_off += forgiven

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.lots.release(self.holds.pop(data.draw(st.sampled_from(list(self.holds)))).reserved)

    @rule()
    def read_again(self) -> None:
        """What the next batch is given: the account's own numbers, the lots and portions as they were written."""
        self.kept_lots, self.kept_portions = self.written_lots(), self.written_portions()
        self.lots = Lots(ACCOUNT, held=self.lots.held, owed=self.lots.owed)
        for lot in self.kept_lots.values():
            self.lots.load(lot)
        for portion in self.kept_portions.values():
            self.lots.load_portion(portion)

    # ---- what is there -----------------------------------------------------------------------------------------

    @property
    def available(self) -> int:
        return sum(lot.remaining for lot in self.written_lots().values())

    def written_lots(self) -> dict[int, Lot]:
        return self.kept_lots | self.lots.made | self.lots.changed

    def written_portions(self) -> dict[tuple[TransferId, int], Portion]:
        return self.kept_portions | self.lots.new_portions | self.lots.changed_portions

    def refundable(self) -> list[tuple[int, int]]:
        """Each purchase, with how much of it is not refunded."""
        refunded: defaultdict[int, int] = defaultdict(int)
        for debit in self.debits.values():
            if debit.purchase is not None:
                refunded[debit.purchase] += debit.amount - debit.returned
        lots = self.written_lots()
        return [(version, left) for version, lot in lots.items() if (left := lot.amount - refunded[version])]

    def returnable(self) -> list[tuple[list[TransferId], int]]:
        """Each spend, and all refunds of each purchase, with how much of them may be given back."""
        together: defaultdict[int | TransferId, list[TransferId]] = defaultdict(list)
        for transfer, debit in self.debits.items():
            together[transfer if debit.purchase is None else debit.purchase].append(transfer)
        sums = [
            (transfers, sum(self.debits[each].amount - self.debits[each].returned for each in transfers))
            for transfers in together.values()
        ]
        return [(transfers, most) for transfers, most in sums if most]

    def _debit(self, debit: Debit) -> TransferId:
        transfer = TransferId(UUID(int=next(self.numbers)))
        self.debits[transfer] = debit
        return transfer

    # ---- what is always so -------------------------------------------------------------------------------------

    @invariant()
    def the_balance_is_what_remains_and_what_is_held_less_what_is_owed(self) -> None:
        lots = self.written_lots().values()
        assert sum(lot.held for lot in lots) == self.lots.held == sum(held.amount for held in self.holds.values())
        assert self.balance == sum(lot.remaining for lot in lots) + self.lots.held - self.lots.owed

    @invariant()
    def nothing_remains_while_something_is_owed(self) -> None:
        owed = [each.left for each in self.written_portions().values() if each.source == "owed"]
        assert sum(owed) == self.lots.owed
        assert not (self.lots.owed and self.available)

    @invariant()
    def where_nothing_may_be_owed_no_more_is_than_is_held(self) -> None:
        assert self.may_owe or self.lots.owed <= self.lots.held

    @invariant()
    def every_debits_portions_add_up(self) -> None:
        together: defaultdict[int | TransferId, list[Portion]] = defaultdict(list)
        for portion in self.written_portions().values():
            together[portion.transfer_id].append(portion)
        for transfer, debit in self.debits.items():
            assert sum(each.amount - each.settled for each in together[transfer]) == debit.amount
        written_off = [each.left for each in self.written_portions().values() if each.source == "written_off"]
        assert sum(written_off) == self.written_off

    @invariant()
    def as_much_came_back_of_debits_as_was_given_back(self) -> None:
        portions = self.written_portions().values()
        assert sum(each.returned for each in portions) == sum(debit.returned for debit in self.debits.values())

    @invariant()
    def all_of_a_lot_remains_or_is_held_spent_or_refunded(self) -> None:
        own: defaultdict[int | None, int] = defaultdict(int)
        used: defaultdict[int | None, int] = defaultdict(int)
        for each in self.written_portions().values():
            (own if each.own else used)[each.lot_version] += each.left
        for version, lot in self.written_lots().items():
            assert lot.remaining + lot.held + lot.spent + own[version] == lot.amount
            assert lot.spent == used[version]


TestAnySequence = LotsMachine.TestCase
TestAnySequence.settings = settings(deadline=None, stateful_step_count=40)
