"""Transfers and their balanced entries, with running balances and versions, on accounts that are locked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger.domain.books import Account, AccountId, AccountKey, Locked, TransferId, Wallet, WalletId
from ledger.domain.decisions import Decision, Movement
from shared.events import Draft, Event, WalletChange, WalletCredited, WalletDebited, following
from shared.ids import EventId
from shared.money import AMOUNT_MAX


class BalanceOutOfRange(ValueError):
    """The posting would take a balance beyond ±(2⁵³ - 1)."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One movement as it is posted: immutable, with its cause."""

    id: TransferId
    movement: Movement
    event_id: EventId
    trace_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One account's part in a transfer, at `position` in it. An account of the house has no wallet and its version."""

    transfer_id: TransferId
    position: int
    account_id: AccountId
    account_version: int
    amount: int
    balance_before: int
    balance_after: int
    wallet_id: WalletId | None
    wallet_version: int | None


@dataclass(frozen=True, slots=True)
class Posting:
    """What a batch writes into the books, and what is to be said about it. Accounts and wallets as they are then."""

    transfers: Sequence[Transfer]
    entries: Sequence[Entry]
    accounts: Sequence[Account]
    wallets: Sequence[Wallet]
    drafts: Sequence[Draft]


def entry_id(transfer_id: UUID, position: int) -> str:
    """An entry's id outside the ledger."""
    return f"ent_{transfer_id.hex}{position:02x}"


def post(
    *, steps: Sequence[tuple[Event[Any], Decision]], locked: Locked, new_id: Callable[[], UUID], now: datetime
) -> Posting:
    """Posts the movements of the steps, in their order, on the locked accounts. Raises BalanceOutOfRange."""
    journal = _Posting(locked, now)
    for event, decision in steps:
        if decision.movement is not None:
            transfer = Transfer(TransferId(new_id()), decision.movement, event.id, event.trace_id, now)
            journal.post(event, transfer)
        journal.say(event, decision)
    return journal.result()


class _Posting:
    """The running balances and versions of one batch."""

    def __init__(self, locked: Locked, now: datetime) -> None:
        self._accounts = dict(locked.accounts)
        self._wallets = dict(locked.wallets)
        self._touched: dict[AccountKey, None] = {}
        self._now = now
        self._transfers: list[Transfer] = []
        self._entries: list[Entry] = []
        self._drafts: list[Draft] = []

    def post(self, event: Event[Any], transfer: Transfer) -> None:
        self._transfers.append(transfer)
        for position, (key, amount) in enumerate(self._legs(transfer.movement)):
            entry = self._enter(transfer, position, key, amount)
            if entry.wallet_version is not None:
                self._drafts.append(self._changed(event, transfer, key, entry, entry.wallet_version))

    def say(self, event: Event[Any], decision: Decision) -> None:
        """Words are about the purchase and its owner, whoever the event was about (a refund's may not know them)."""
        known = decision.known
        for word in decision.words:
            draft = following(event, word, subject=known.purchase_id, user_id=known.user_id, occurred_at=self._now)
            self._drafts.append(draft)

    def result(self) -> Posting:
        touched_wallets = {wallet: None for key in self._touched if (wallet := key.wallet) is not None}
        return Posting(
            transfers=self._transfers,
            entries=self._entries,
            accounts=[self._accounts[key] for key in self._touched],
            wallets=[self._wallets[key] for key in touched_wallets],
            drafts=self._drafts,
        )

    def _legs(self, movement: Movement) -> Iterable[tuple[AccountKey, int]]:
        """Each account's part, zeros left out; they sum to zero in each currency."""
        for currency, amount in movement.amounts.items():
            wallet, issuance = movement.account(currency), movement.house("issuance", currency)
            if movement.kind == "purchase":
                yield from ((wallet, amount), (issuance, -amount))
                continue
            taken = amount
            if movement.debt == "floor":
                taken = min(amount, max(0, self._accounts[wallet].balance))
            if taken:
                yield wallet, -taken
            if taken < amount:
                yield movement.house("write_off", currency), taken - amount
            yield issuance, amount

    def _enter(self, transfer: Transfer, position: int, key: AccountKey, amount: int) -> Entry:
        before = self._accounts[key]
        after = Account(before.id, before.balance + amount, before.version + 1)
        if abs(after.balance) > AMOUNT_MAX:
            raise BalanceOutOfRange(f"{key.kind} account in {key.currency}: its balance would be {after.balance}")
        wallet = self._next_version(key)
        entry = Entry(
            transfer_id=transfer.id,
            position=position,
            account_id=after.id,
            account_version=after.version,
            amount=amount,
            balance_before=before.balance,
            balance_after=after.balance,
            wallet_id=None if wallet is None else wallet.id,
            wallet_version=None if wallet is None else wallet.version,
        )
        self._accounts[key] = after
        self._touched[key] = None
        self._entries.append(entry)
        return entry

    def _next_version(self, key: AccountKey) -> Wallet | None:
        if (wallet_key := key.wallet) is None:
            return None
        before = self._wallets[wallet_key]
        after = self._wallets[wallet_key] = Wallet(before.id, before.version + 1)
        return after

    def _changed(
        self, event: Event[Any], transfer: Transfer, key: AccountKey, entry: Entry, wallet_version: int
    ) -> Draft:
        movement = transfer.movement
        change = WalletChange(
            entry_id=entry_id(transfer.id, entry.position),
            environment=key.environment,
            currency=key.currency,
            amount=entry.amount,
            balance_after=entry.balance_after,
            version=wallet_version,
            kind=movement.kind,
            purchase_id=movement.purchase_id,
        )
        payload = WalletCredited(change) if entry.amount > 0 else WalletDebited(change)
        return following(
            event, payload, subject=movement.purchase_id, user_id=movement.wallet.user_id, occurred_at=self._now
        )
