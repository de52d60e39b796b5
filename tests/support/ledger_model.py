"""The ledger written a second time, slow and obvious, to hold the real one to. It shares no code with it.

Where the books keep portions with what was returned and settled of them, the model keeps what is in each place *now*:
so much of this debit lies in that lot, so much is owed, so much is written off. Amounts are whole units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

Debt = Literal["negative", "floor"]
Place = tuple[str, str]
"""App and environment."""
ALL_OF_IT = 100_000


@dataclass(eq=False)
class Lot:
    """One credit: what is left of it, what is set aside, what is spent; its own purchase's refunds took the rest."""

    amount: int
    remaining: int
    held: int = 0
    spent: int = 0

    def state(self) -> tuple[int, int, int, int]:
        return self.amount, self.remaining, self.held, self.spent


Taken = list[tuple[Lot, int]]
"""What came from which lot, in the order of use."""


@dataclass(eq=False)
class Debit:
    """Where the amount of one spend or refund lies now. What a refund takes of its `own` lots is not spent of them."""

    own: list[Lot] = field(default_factory=list)
    taken: Taken = field(default_factory=list)
    owed: int = 0
    written_off: int = 0

    @property
    def amount(self) -> int:
        return sum(part for _, part in self.taken) + self.owed + self.written_off


@dataclass(eq=False)
class Account:
    """One user's currency. `entries` are (kind, amount); `debits` the refunds', in order."""

    debt: Debt
    entries: list[tuple[str, int]] = field(default_factory=list)
    lots: list[Lot] = field(default_factory=list)
    debits: list[Debit] = field(default_factory=list)

    @property
    def balance(self) -> int:
        return sum(amount for _, amount in self.entries)

    @property
    def available(self) -> int:
        return sum(lot.remaining for lot in self.lots)

    @property
    def held(self) -> int:
        return sum(lot.held for lot in self.lots)

    @property
    def owed(self) -> int:
        return sum(debit.owed for debit in self.debits)

    def book(self, kind: str, amount: int) -> None:
        if amount:
            self.entries.append((kind, amount))

    def add_lot(self, amount: int) -> Lot:
        """New currency is a new lot."""
        lot = Lot(amount=amount, remaining=amount)
        self.lots.append(lot)
        return lot

    def take(self, debit: Debit, amount: int, lots: Iterable[Lot]) -> int:
        """Takes up to `amount` from what remains of the lots, in this order; what is missing then."""
        for lot in list(lots):
            part = min(amount, lot.remaining)
            if part:
                lot.remaining -= part
                lot.spent += 0 if lot in debit.own else part
                debit.taken.append((lot, part))
                amount -= part
        return amount

    def put_back(self, debits: list[Debit], amount: int) -> int:
        """Gives back of debits (the newest comes first): what was written off, then what is owed, then the lots, the
        last used first. How much of it was written off, and so comes to the house and not to the wallet."""
        rest = amount
        for debit in debits:
            back = min(rest, debit.written_off)
            debit.written_off -= back
            rest -= back
        written_off = amount - rest
        for debit in debits:
            back = min(rest, debit.owed)
            debit.owed -= back
            rest -= back
        for debit in debits:
            rest = self._refill(debit, rest)
        assert rest == 0
        return written_off

    def _refill(self, debit: Debit, amount: int) -> int:
        """Puts up to so much back into the lots; what is left to be given back."""
        while amount and debit.taken:
            lot, lies_there = debit.taken.pop()
            part = min(amount, lies_there)
            lot.remaining += part
            lot.spent -= 0 if lot in debit.own else part
            if lies_there > part:
                debit.taken.append((lot, lies_there - part))
            amount -= part
        return amount

    def pay_what_is_owed(self) -> None:
        """Whatever is available pays the oldest debt first, from the oldest lot."""
        for debit in self.debits:
            debit.owed = self.take(debit, debit.owed, self.lots)

    def state(self) -> dict[str, object]:
        assert self.balance == self.available + self.held - self.owed
        assert self.owed == 0 or self.available == 0
        return {
            "balance": self.balance,
            "held": self.held,
            "owed": self.owed,
            "entries": list(self.entries),
            "lots": [lot.state() for lot in self.lots],
        }


@dataclass(eq=False)
class Purchase:
    """One store transaction. `stands` is how much of what it gives has not been taken back."""

    user: str | None = None
    due: dict[str, int] = field(default_factory=dict)
    refunded_milli: int = 0
    stated_at: datetime | None = None
    stands: Counter[str] = field(default_factory=Counter)
    lots: dict[str, list[Lot]] = field(default_factory=dict)
    debits: dict[str, list[Debit]] = field(default_factory=dict)

    def should_stand(self, currency: str) -> int:
        return self.due[currency] - self.due[currency] * self.refunded_milli // ALL_OF_IT

    def state(self, accounts: Mapping[str, Account]) -> dict[str, object]:
        """`accounts` are the user's, by currency."""
        taken = {currency: _where(debits, accounts[currency].lots) for currency, debits in self.debits.items()}
        return {
            "user": self.user,
            "refunded_milli": self.refunded_milli,
            "lots": {currency: [lot.state() for lot in lots] for currency, lots in self.lots.items() if lots},
            "taken": {currency: where for currency, where in taken.items() if where},
        }


def _where(debits: Iterable[Debit], lots: list[Lot]) -> dict[str | int, int]:
    """Where the amounts of debits lie: by the number of the lot, and what is owed and written off; zeros left out."""
    places: Counter[str | int] = Counter()
    for debit in debits:
        places.update({"owed": debit.owed, "written_off": debit.written_off})
        for lot, part in debit.taken:
            places[lots.index(lot)] += part
    return {place: amount for place, amount in places.items() if amount}


@dataclass(eq=False)
class Spend:
    account: Account
    account_name: tuple[Place, str, str]
    debit: Debit
    amount: int
    refunds_before: int
    reversed: int = 0


@dataclass(eq=False)
class Hold:
    account: Account
    account_name: tuple[Place, str, str]
    reserved: Taken
    amount: int
    expires_at: datetime
    refunds_before: int
    state: str = "open"
    captured: int = 0
    spend: UUID | None = None


@dataclass(frozen=True)
class Refusal:
    """Nothing was done, and why."""

    code: str
    members: Mapping[str, object]


class LedgerModel:
    """Everybody's books. Spends and holds go by the ids that the caller gives them; nothing here makes any."""

    def __init__(self, debts: Mapping[str, Debt]) -> None:
        self._debts = debts
        self.accounts: dict[tuple[Place, str, str], Account] = {}
        self.purchases: dict[tuple[Place, str], Purchase] = {}
        self.spends: dict[UUID, Spend] = {}
        self.holds: dict[UUID, Hold] = {}
        self.house: Counter[tuple[Place, str, str]] = Counter()

    def account(self, place: Place, user: str, currency: str) -> Account:
        return self.accounts.setdefault((place, user, currency), Account(debt=self._debts[place[0]]))

    def entries_of(self, place: Place, user: str) -> int:
        """How many entries the user's wallet has, in all its currencies."""
        return sum(
            len(account.entries) for (there, who, _), account in self.accounts.items() if (there, who) == (place, user)
        )

    # ---- what a store says ------------------------------------------------------------------------------------

    def verified(self, place: Place, transaction_id: str, *, user: str, due: Mapping[str, int]) -> None:
        """This user has bought it. The first to be said to have it has it."""
        purchase = self.purchases.setdefault((place, transaction_id), Purchase())
        if purchase.user is None:
            purchase.user, purchase.due = user, dict(due)
            self._settle(place, purchase, credit="purchase")

    def refund_stated(self, place: Place, transaction_id: str, *, milli: int, signed_at: datetime) -> None:
        """So much of it is refunded now (0: the refund was reversed). The statement that was signed last counts."""
        purchase = self.purchases.setdefault((place, transaction_id), Purchase())
        if purchase.stated_at is None or signed_at > purchase.stated_at:
            purchase.refunded_milli, purchase.stated_at = milli, signed_at
            self._settle(place, purchase, credit="refund_reversal")

    def _settle(self, place: Place, purchase: Purchase, *, credit: str) -> None:
        if purchase.user is None:
            return
        for currency in sorted(purchase.due):
            change = purchase.should_stand(currency) - purchase.stands[currency]
            purchase.stands[currency] += change
            account = self.account(place, purchase.user, currency)
            if change < 0:
                self._take_back(place, purchase, currency, account, -change)
            elif change > 0:
                self._give(place, purchase, currency, account, change, credit)

    def _take_back(self, place: Place, purchase: Purchase, currency: str, account: Account, amount: int) -> None:
        """From the purchase's own lots, then from the others, oldest first; the rest by the app's policy on debts."""
        debit = Debit(own=purchase.lots.setdefault(currency, []))
        rest = account.take(debit, amount, debit.own)
        rest = account.take(debit, rest, account.lots)
        may_be_owed = rest if account.debt == "negative" else max(0, account.held - account.owed)
        debit.owed = min(rest, may_be_owed)
        debit.written_off = rest - debit.owed
        account.debits.append(debit)
        purchase.debits.setdefault(currency, []).append(debit)
        account.book("refund", -(amount - debit.written_off))
        self.house[place, "issuance", currency] += amount
        self.house[place, "write_off", currency] -= debit.written_off

    def _give(self, place: Place, purchase: Purchase, currency: str, account: Account, amount: int, kind: str) -> None:
        """What refunds took goes back to where it came from; what was never given is a new lot."""
        debits = purchase.debits.get(currency, [])[::-1]
        back = min(amount, sum(debit.amount for debit in debits))
        written_off = account.put_back(debits, back)
        account.book(kind, amount - written_off)
        if amount > back:
            purchase.lots.setdefault(currency, []).append(account.add_lot(amount - back))
        account.pay_what_is_owed()
        self.house[place, "issuance", currency] -= amount
        self.house[place, "write_off", currency] += written_off

    # ---- what is asked for --------------------------------------------------------------------------------------

    def grant(self, place: Place, user: str, currency: str, amount: int) -> None:
        account = self.account(place, user, currency)
        account.book("grant", amount)
        account.add_lot(amount)
        account.pay_what_is_owed()
        self.house[place, "goodwill", currency] -= amount

    def may_spend(self, place: Place, user: str, currency: str, amount: int) -> Refusal | None:
        """Why so much cannot be spent or set aside; None when it can."""
        available = self.account(place, user, currency).available
        if amount <= available:
            return None
        return Refusal("insufficient-funds", {"currency": currency, "available": available})

    def spend(self, name: UUID, place: Place, user: str, currency: str, amount: int) -> Refusal | None:
        if refusal := self.may_spend(place, user, currency, amount):
            return refusal
        account, debit = self.account(place, user, currency), Debit()
        account.take(debit, amount, account.lots)
        self._spent(name, (place, user, currency), debit, amount, refunds_before=len(account.debits))
        return None

    def _spent(
        self, name: UUID, account_name: tuple[Place, str, str], debit: Debit, amount: int, *, refunds_before: int
    ) -> None:
        place, _, currency = account_name
        self.accounts[account_name].book("spend", -amount)
        self.house[place, "sink", currency] += amount
        self.spends[name] = Spend(self.accounts[account_name], account_name, debit, amount, refunds_before)

    def reverse_spend(self, name: UUID, amount: int | None) -> Refusal | None:
        spend = self.spends[name]
        reversible = spend.amount - spend.reversed
        amount = reversible if amount is None else amount
        if not 1 <= amount <= reversible:
            return Refusal("spend-not-reversible", {"reversible": reversible})
        spend.reversed += amount
        came_from = [lot for lot in spend.account.lots if any(lot is used for used, _ in spend.debit.taken)]
        spend.account.put_back([spend.debit], amount)
        spend.account.book("spend_reversal", amount)
        spend.account.pay_what_is_owed()
        place, _, currency = spend.account_name
        self.house[place, "sink", currency] -= amount
        self._take_what_was_written_off(spend, amount, came_from)
        return None

    def _take_what_was_written_off(self, spend: Spend, amount: int, came_from: list[Lot]) -> None:
        """What refunds after the spend wrote off, because it was spent, they take of what came back of it."""
        account, (place, _, currency) = spend.account, spend.account_name
        rest = amount
        for debit in account.debits[spend.refunds_before :]:
            wanted = min(rest, debit.written_off)
            taken = wanted - account.take(debit, wanted, came_from)
            debit.written_off -= taken
            rest -= taken
        account.book("write_off", rest - amount)
        self.house[place, "write_off", currency] += amount - rest

    def hold(
        self, name: UUID, place: Place, user: str, currency: str, amount: int, *, expires_at: datetime
    ) -> Refusal | None:
        """Sets aside, in the oldest lots first."""
        if refusal := self.may_spend(place, user, currency, amount):
            return refusal
        account, reserved, rest = self.account(place, user, currency), [], amount
        for lot in account.lots:
            part = min(rest, lot.remaining)
            if part:
                lot.remaining -= part
                lot.held += part
                reserved.append((lot, part))
                rest -= part
        self.holds[name] = Hold(account, (place, user, currency), reserved, amount, expires_at, len(account.debits))
        return None

    def capture(self, name: UUID, amount: int | None, *, spend: UUID, now: datetime) -> Refusal | None:
        """Spends what was set aside, in the order in which it was; the rest is free again."""
        hold = self.holds[name]
        amount = hold.amount if amount is None else amount
        if refusal := self._not_open(hold, now):
            return refusal
        if amount > hold.amount:
            return Refusal("hold-too-small", {"amount": hold.amount})
        debit, rest = Debit(), amount
        for lot, part in hold.reserved:
            captured = min(rest, part)
            lot.held -= part
            lot.spent += captured
            lot.remaining += part - captured
            if captured:
                debit.taken.append((lot, captured))
            rest -= captured
        hold.state, hold.captured, hold.spend = "captured", amount, spend
        self._spent(spend, hold.account_name, debit, amount, refunds_before=hold.refunds_before)
        hold.account.pay_what_is_owed()
        self._write_off_what_nothing_covers(hold)
        return None

    def _write_off_what_nothing_covers(self, hold: Hold) -> None:
        """By `floor` a wallet may owe no more than is set aside in it; the oldest debts are written off first."""
        account, (place, _, currency) = hold.account, hold.account_name
        excess = max(0, account.owed - account.held) if account.debt == "floor" else 0
        account.book("write_off", excess)
        self.house[place, "write_off", currency] -= excess
        for debit in account.debits:
            part = min(excess, debit.owed)
            debit.owed -= part
            debit.written_off += part
            excess -= part

    def release(self, name: UUID, *, now: datetime) -> Refusal | None:
        hold = self.holds[name]
        if refusal := self._not_open(hold, now):
            return refusal
        self._set_free(hold, "released")
        return None

    def _not_open(self, hold: Hold, now: datetime) -> Refusal | None:
        """One whose time is over ends at the latest when it is asked for."""
        if hold.state == "open" and hold.expires_at <= now:
            self._set_free(hold, "expired")
        if hold.state == "open":
            return None
        became = {} if hold.spend is None else {"spend_id": f"spd_{hold.spend.hex}"}
        return Refusal("hold-not-open", {"state": hold.state, **became})

    def expire(self, now: datetime) -> None:
        """Holds end by themselves, those that were to end first first."""
        for hold in sorted(self.holds.values(), key=lambda hold: hold.expires_at):
            if hold.state == "open" and hold.expires_at <= now:
                self._set_free(hold, "expired")

    def _set_free(self, hold: Hold, state: str) -> None:
        hold.state = state
        for lot, part in hold.reserved:
            lot.held -= part
            lot.remaining += part
        hold.account.pay_what_is_owed()

    # ---- what all of it comes to --------------------------------------------------------------------------------

    def state(self) -> dict[str, object]:
        """Everything, by name; without accounts in which nothing moved, and purchases of which nothing is known."""
        return {
            "accounts": {name: account.state() for name, account in self.accounts.items() if account.entries},
            "purchases": {
                name: purchase.state(self._accounts_of(name[0], purchase.user))
                for name, purchase in self.purchases.items()
                if purchase.user is not None or purchase.refunded_milli
            },
            "spends": {
                name: (spend.amount, spend.reversed, _where([spend.debit], spend.account.lots))
                for name, spend in self.spends.items()
            },
            "holds": {name: (hold.amount, hold.captured, hold.state) for name, hold in self.holds.items()},
            "house": {name: balance for name, balance in self.house.items() if balance},
        }

    def _accounts_of(self, place: Place, user: str | None) -> dict[str, Account]:
        return {
            currency: account
            for (there, who, currency), account in self.accounts.items()
            if (there, who) == (place, user)
        }
