"""Lots: what each credit of a wallet's account has come to, and what each debit came from.

A purchase or a grant makes a lot. Spends and holds use lots, the oldest first. A refund takes what is left of its own
purchase first, then of the others, the oldest first; what is still missing is owed, or written off. Every debit is made
of portions, so that what is given back goes back to where it came from, in the reverse order.

For each account, at all times:

    balance = what remains in its lots + what is held of them - what is owed

and nothing remains while something is owed: what becomes available pays the oldest debt first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple
from uuid import UUID

from ledger.domain.books import AccountId, TransactionKey, TransferId

Source = Literal["lot", "owed", "written_off"]
PortionKey = tuple[TransferId, int]


class LotKey(NamedTuple):
    """A lot: the account, and the version of the entry that credited it."""

    account_id: AccountId
    version: int


@dataclass(frozen=True, slots=True)
class Lot:
    """A credit: `remaining` of it may be used, `held` is set aside, `spent` is gone.

    The rest of `amount` was taken back by the refund of its own purchase.
    """

    key: LotKey
    amount: int
    remaining: int
    held: int = 0
    spent: int = 0


@dataclass(frozen=True, slots=True)
class Portion:
    """What a debit came from: a lot (`own`: of the purchase that is refunded), what is owed, or what was written off.

    `returned` of it was given back; `settled` of what was owed or written off was paid (or written off) since. `left`
    is the rest. `own_lots` are those of the purchase whose refund found too little: they may yet come to pay it.
    """

    transfer_id: TransferId
    account_id: AccountId
    position: int
    source: Source
    amount: int
    lot_version: int | None = None
    own: bool = False
    returned: int = 0
    settled: int = 0
    own_lots: tuple[int, ...] = ()

    @property
    def key(self) -> PortionKey:
        return self.transfer_id, self.position

    @property
    def left(self) -> int:
        return self.amount - self.returned - self.settled


@dataclass(frozen=True, slots=True)
class Reservation:
    """So much of a lot is set aside by a hold, the `position`-th of it."""

    hold_id: UUID
    position: int
    key: LotKey
    amount: int


@dataclass(frozen=True, slots=True)
class LotsWanted:
    """What of the lots a batch needs.

    oldest        accounts, each with how much may be taken from its oldest lots
    lots          lots that are named
    transactions  store transactions whose refunds may be given back
    transfers     other debits that may be given back
    holds         holds that may end
    indebted      accounts that owe something
    forgiven      accounts whose refunds may have written something off that is to be taken after all
    """

    oldest: Mapping[AccountId, int] = field(default_factory=dict)
    lots: frozenset[LotKey] = frozenset()
    transactions: frozenset[TransactionKey] = frozenset()
    transfers: frozenset[TransferId] = frozenset()
    holds: frozenset[UUID] = frozenset()
    indebted: frozenset[AccountId] = frozenset()
    forgiven: frozenset[AccountId] = frozenset()


@dataclass(frozen=True, slots=True)
class LotsFound:
    """The lots that were wanted, with all portions of the debits that may be given back, and all that is owed.

    `refunds`: the debits of each store transaction's refunds, oldest first. `last_positions`: of the debits that are
    not wholly paid, where their portions end.
    """

    lots: Sequence[Lot] = ()
    portions: Sequence[Portion] = ()
    last_positions: Mapping[tuple[TransferId, AccountId], int] = field(default_factory=dict)
    reservations: Sequence[Reservation] = ()
    refunds: Mapping[TransactionKey, Sequence[TransferId]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a refund took: from the wallet, and what had to be written off."""

    from_wallet: int
    written_off: int


class Lots:
    """The lots of one account, as far as a batch needs them. What changes is remembered, to be written."""

    def __init__(self, account_id: AccountId, *, held: int = 0, owed: int = 0) -> None:
        self.account_id = account_id
        self.held = held
        self.owed = owed
        self.made: dict[int, Lot] = {}
        self.changed: dict[int, Lot] = {}
        self.new_portions: dict[PortionKey, Portion] = {}
        self.changed_portions: dict[PortionKey, Portion] = {}
        self._lots: dict[int, Lot] = {}
        self._portions: dict[PortionKey, Portion] = {}
        self._next: dict[TransferId, int] = {}

    def load(self, lot: Lot) -> None:
        """Adds a lot that is in the books."""
        self._lots[lot.key.version] = lot

    def load_portion(self, portion: Portion, *, last_position: int = 0) -> None:
        """Adds a portion that is in the books; those of its debit end at `last_position`, or later."""
        self._portions[portion.key] = portion
        following = max(portion.position, last_position) + 1
        self._next[portion.transfer_id] = max(self._next.get(portion.transfer_id, 0), following)

    # ---- what may happen -----------------------------------------------------------------------------------------

    def credit(self, version: int, amount: int) -> None:
        """A purchase or a grant: a new lot, which pays what is owed."""
        self._lots[version] = self.made[version] = Lot(LotKey(self.account_id, version), amount, amount)
        self._settle()

    def spend(self, transfer_id: TransferId, amount: int) -> None:
        """The oldest lots pay. The caller has seen that so much is available."""
        missing = self._take(transfer_id, self._oldest(), amount)
        if missing:
            raise AssertionError(f"account {self.account_id}: {missing} more were available than its lots have")

    def take_back(self, transfer_id: TransferId, amount: int, *, own: Sequence[int], may_owe: bool) -> Taken:
        """A refund takes so much: from its own lots, then from the others, and then it is owed.

        If nothing may be owed, the rest is written off; but what is held stays answerable, lest a hold that is released
        after the refund gave the user what was refunded.
        """
        missing = self._take(transfer_id, own, amount, own=own)
        missing = self._take(transfer_id, self._oldest(), missing)
        owed = missing if may_owe else min(missing, max(0, self.held - self.owed))
        if owed:
            self._add(transfer_id, "owed", owed, own_lots=tuple(own))
            self.owed += owed
        if missing > owed:
            self._add(transfer_id, "written_off", missing - owed, own_lots=tuple(own))
        return Taken(from_wallet=amount - missing + owed, written_off=missing - owed)

    def give_back(self, transfers: Sequence[TransferId], amount: int) -> Taken:
        """So much of what these debits took (oldest first) goes back to where it came from: what was written off, then
        what is still owed, then the lots, the last used first. What of it came back to whom.
        """
        rest = amount
        returned: dict[Source, int] = {"written_off": 0, "owed": 0, "lot": 0}
        debits = self._newest_first(transfers)
        for source in returned:
            for portion in debits:
                if rest and portion.source == source and portion.left:
                    back = min(rest, portion.left)
                    self._return(portion, back)
                    returned[source] += back
                    rest -= back
        if rest:
            raise AssertionError(f"account {self.account_id}: {rest} more are to be given back than were taken")
        self._settle()
        return Taken(from_wallet=returned["owed"] + returned["lot"], written_off=returned["written_off"])

    def hold(self, hold_id: UUID, amount: int, *, lots: Sequence[int] | None = None) -> list[Reservation]:
        """Sets so much aside, of these lots or of the oldest. The caller has seen that so much is there."""
        reservations: list[Reservation] = []
        rest = amount
        for version in self._oldest() if lots is None else lots:
            lot = self._lots[version]
            if used := min(rest, lot.remaining):
                self._set(replace(lot, remaining=lot.remaining - used, held=lot.held + used))
                reservations.append(Reservation(hold_id, len(reservations), lot.key, used))
                rest -= used
        if rest:
            raise AssertionError(f"account {self.account_id}: {rest} more were to be held than there are")
        self.held += amount
        return reservations

    def capture(self, transfer_id: TransferId, reservations: Sequence[Reservation], amount: int) -> None:
        """So much of what a hold set aside is spent, in its order; the rest is free again, and pays what is owed."""
        rest = amount
        for reservation in reservations:
            used = min(rest, reservation.amount)
            rest -= used
            free = reservation.amount - used
            lot = self._lots[reservation.key.version]
            self._set(
                replace(
                    lot,
                    held=lot.held - reservation.amount,
                    remaining=lot.remaining + free,
                    spent=lot.spent + used,
                )
            )
            if used:
                self._add(transfer_id, "lot", used, lot_version=lot.key.version)
            self.held -= reservation.amount
        self._settle()

    def release(self, reservations: Sequence[Reservation]) -> None:
        """What a hold set aside is free again, and pays what is owed."""
        for reservation in reservations:
            lot = self._lots[reservation.key.version]
            self._set(replace(lot, held=lot.held - reservation.amount, remaining=lot.remaining + reservation.amount))
            self.held -= reservation.amount
        self._settle()

    def forgive(self) -> int:
        """Where nothing may be owed: what is owed beyond what is held is written off. How much."""
        excess = rest = max(0, self.owed - self.held)
        for portion in self._debts() if excess else ():
            if used := min(rest, portion.left):
                self._change(replace(portion, settled=portion.settled + used))
                self._add(portion.transfer_id, "written_off", used, own_lots=portion.own_lots)
                rest -= used
        self.owed -= excess
        return excess

    def collect(self, amount: int, *, spent: TransferId, since: UUID) -> int:
        """So much of a spend was given back. What refunds since the moment that it was made have written off, for it
        was spent, they take after all of what came back, the oldest refund first. How much they took.
        """
        rest = amount
        for portion in self._written_off(since):
            wanted = min(rest, portion.left)
            missing = self._take(portion.transfer_id, self._used_by(spent), wanted, own=portion.own_lots)
            if missing < wanted:
                self._change(replace(portion, settled=portion.settled + wanted - missing))
                rest -= wanted - missing
        return amount - rest

    def remaining(self, versions: Iterable[int]) -> int:
        """What may be used of these lots."""
        return sum(self._lots[version].remaining for version in versions)

    def spent(self, versions: Iterable[int]) -> int:
        """What of these lots is gone, or set aside to go."""
        return sum(self._lots[version].spent + self._lots[version].held for version in versions)

    # ---- how -----------------------------------------------------------------------------------------------------

    def _oldest(self) -> list[int]:
        return [version for version in sorted(self._lots) if self._lots[version].remaining]

    def _take(self, transfer_id: TransferId, versions: Iterable[int], amount: int, *, own: Collection[int] = ()) -> int:
        """Takes so much from these lots, in their order; what was missing. Taken from its `own` it is not spent."""
        missing = amount
        for version in versions if missing else ():
            lot = self._lots[version]
            if used := min(missing, lot.remaining):
                is_own = version in own
                spent = lot.spent if is_own else lot.spent + used
                self._set(replace(lot, remaining=lot.remaining - used, spent=spent))
                self._add(transfer_id, "lot", used, lot_version=version, own=is_own)
                missing -= used
        return missing

    def _settle(self) -> None:
        """What remains pays what is owed: the oldest lots, the oldest debts. The payer is a portion of the debit."""
        if not self.owed:
            return
        for portion in self._debts():
            owing = portion.left
            missing = self._take(portion.transfer_id, self._oldest(), owing, own=portion.own_lots)
            if missing < owing:
                self._change(replace(portion, settled=portion.settled + owing - missing))
                self.owed -= owing - missing
            if missing:
                return

    def _debts(self) -> list[Portion]:
        """What is owed, the oldest first: ids of transfers are ordered by time."""
        owed = [portion for portion in self._portions.values() if portion.source == "owed" and portion.left]
        return sorted(owed, key=lambda portion: portion.key)

    def _written_off(self, since: UUID) -> list[Portion]:
        """What refunds after that moment have written off, the oldest first."""
        portions = [each for each in self._portions.values() if each.source == "written_off" and each.left]
        return sorted((each for each in portions if each.transfer_id > since), key=lambda portion: portion.key)

    def _used_by(self, transfer_id: TransferId) -> list[int]:
        """The lots that a debit came from, the oldest first."""
        portions = (each for each in self._portions.values() if each.transfer_id == transfer_id)
        return sorted({each.lot_version for each in portions if each.lot_version is not None})

    def _newest_first(self, transfers: Sequence[TransferId]) -> list[Portion]:
        age = {transfer_id: place for place, transfer_id in enumerate(transfers)}
        portions = [portion for portion in self._portions.values() if portion.transfer_id in age]
        return sorted(portions, key=lambda portion: (age[portion.transfer_id], portion.position), reverse=True)

    def _return(self, portion: Portion, amount: int) -> None:
        self._change(replace(portion, returned=portion.returned + amount))
        if portion.source == "owed":
            self.owed -= amount
        if portion.lot_version is not None:
            lot = self._lots[portion.lot_version]
            spent = lot.spent if portion.own else lot.spent - amount
            self._set(replace(lot, remaining=lot.remaining + amount, spent=spent))

    def _set(self, lot: Lot) -> None:
        version = lot.key.version
        self._lots[version] = lot
        (self.made if version in self.made else self.changed)[version] = lot

    def _add(
        self,
        transfer_id: TransferId,
        source: Source,
        amount: int,
        *,
        lot_version: int | None = None,
        own: bool = False,
        own_lots: tuple[int, ...] = (),
    ) -> None:
        position = self._next.get(transfer_id, 0)
        self._next[transfer_id] = position + 1
        portion = Portion(transfer_id, self.account_id, position, source, amount, lot_version, own, own_lots=own_lots)
        self._portions[portion.key] = self.new_portions[portion.key] = portion

    def _change(self, portion: Portion) -> None:
        self._portions[portion.key] = portion
        (self.new_portions if portion.key in self.new_portions else self.changed_portions)[portion.key] = portion
