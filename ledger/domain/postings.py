"""Transfers and their balanced entries, with running balances, versions and lots, on accounts that are locked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger.domain.books import (
    Account,
    AccountId,
    AccountKey,
    AccountKind,
    KnownTransaction,
    Locked,
    TransactionKey,
    TransferId,
    TransferKind,
    Wallet,
    WalletId,
    WalletKey,
)
from ledger.domain.decisions import Decision, Movement
from ledger.domain.lots import Lot, Lots, LotsFound, Portion, Taken
from shared.events import Draft, Event, WalletChange, WalletCredited, WalletDebited, following
from shared.ids import EventId, GrantId, PurchaseId, SpendId
from shared.money import CurrencyId

NO_LOTS = LotsFound()


class BalanceOutOfRange(ValueError):
    """The posting would take a balance beyond what can be kept exactly (`AccountKey.balance_max`)."""

    def __init__(self, key: AccountKey, balance: int) -> None:
        super().__init__(f"{key.kind} account in {key.currency}: its balance would be {balance}")
        self.key = key
        self.balance = balance


@dataclass(frozen=True, slots=True)
class Cause:
    """What a transfer follows from: the event in the journal, and what that is about.

    A posting for a store transaction has `transaction`, `sequence` and `purchase_id`; `spend_id` and `grant_id` are for
    those; `reference` is what the app's backend said of it, `actor` who asked for it.
    """

    event_id: EventId
    trace_id: str
    wallet: WalletKey
    subject: str
    transaction: TransactionKey | None = None
    sequence: int | None = None
    purchase_id: PurchaseId | None = None
    spend_id: SpendId | None = None
    grant_id: GrantId | None = None
    reference: str | None = None
    reason: str | None = None
    actor: str | None = None
    reverses: TransferId | None = None

    @classmethod
    def of(cls, event: Event[Any], movement: Movement) -> Cause:
        return cls(
            event_id=event.id,
            trace_id=event.trace_id,
            wallet=movement.wallet,
            subject=movement.purchase_id,
            transaction=movement.key,
            sequence=movement.sequence,
            purchase_id=movement.purchase_id,
        )


@dataclass(frozen=True, slots=True)
class Transfer:
    """One movement as it is posted: immutable, with its cause."""

    id: TransferId
    kind: TransferKind
    cause: Cause
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
    """What a batch writes into the books, and what is to be said about it. Accounts and wallets as they are then.

    `credits`: the versions of the credits that each store transaction has made by now, in each currency.
    """

    transfers: Sequence[Transfer]
    entries: Sequence[Entry]
    accounts: Sequence[Account]
    wallets: Sequence[Wallet]
    drafts: Sequence[Draft]
    new_lots: Sequence[Lot] = ()
    changed_lots: Sequence[Lot] = ()
    new_portions: Sequence[Portion] = ()
    changed_portions: Sequence[Portion] = ()
    credits: Mapping[TransactionKey, Mapping[CurrencyId, Sequence[int]]] = field(default_factory=dict)


def entry_id(transfer_id: UUID, position: int) -> str:
    """An entry's id outside the ledger."""
    return f"ent_{transfer_id.hex}{position:02x}"


class Batch:
    """The books as one batch goes on: balances, versions and lots of the accounts that it has locked.

    `own` are the credits that the store transactions of the batch have made before.
    """

    def __init__(
        self,
        *,
        locked: Locked,
        found: LotsFound = NO_LOTS,
        known: Mapping[TransactionKey, KnownTransaction] | None = None,
        new_id: Callable[[], UUID],
        now: datetime,
    ) -> None:
        self.now = now
        self.drafts: list[Draft] = []
        self._new_id = new_id
        self._accounts = dict(locked.accounts)
        self._wallets = dict(locked.wallets)
        self._touched: dict[AccountKey, None] = {}
        self._transfers: list[Transfer] = []
        self._entries: list[Entry] = []
        self._lots = _lots(locked, found)
        self._refunds = {key: list(transfers) for key, transfers in found.refunds.items()}
        self._credits = {key: {c: list(v) for c, v in each.lots.items()} for key, each in (known or {}).items()}

    # ---- what a store transaction moves --------------------------------------------------------------------------

    def post(self, event: Event[Any], movement: Movement) -> None:
        """Posts what a fact of the store comes to. Raises BalanceOutOfRange."""
        transfer = self.open(movement.kind, Cause.of(event, movement))
        for currency in movement.currencies():
            account = AccountKey.of_wallet(movement.wallet, currency)
            match movement.kind:
                case "purchase":
                    self._buy(transfer, account, movement)
                case "refund":
                    self._refund(transfer, account, movement)
                case "refund_reversal":
                    self._reverse_refund(transfer, account, movement)
        if movement.kind == "refund":
            self._refunds.setdefault(movement.key, []).append(transfer.id)

    def _buy(self, transfer: Transfer, account: AccountKey, movement: Movement) -> None:
        amount = movement.amounts[account.currency]
        self._credit(transfer, account, amount, lot=amount, key=movement.key)
        self.enter(transfer, account.house("issuance"), -amount)

    def _refund(self, transfer: Transfer, account: AccountKey, movement: Movement) -> None:
        amount = movement.amounts[account.currency]
        own = self._credits.get(movement.key, {}).get(account.currency, ())
        taken = self.lots(account).take_back(transfer.id, amount, own=own, may_owe=movement.debt == "negative")
        self.enter(transfer, account, -taken.from_wallet)
        self.enter(transfer, account.house("write_off"), -taken.written_off)
        self.enter(transfer, account.house("issuance"), amount)

    def _reverse_refund(self, transfer: Transfer, account: AccountKey, movement: Movement) -> None:
        amount, fresh = movement.amounts.get(account.currency, 0), movement.fresh.get(account.currency, 0)
        back = Taken(0, 0)
        if amount:
            back = self.lots(account).give_back(self._refunds.get(movement.key, ()), amount)
        self._credit(transfer, account, back.from_wallet + fresh, lot=fresh, key=movement.key)
        self.enter(transfer, account.house("write_off"), back.written_off)
        self.enter(transfer, account.house("issuance"), -amount - fresh)

    def _credit(self, transfer: Transfer, account: AccountKey, amount: int, *, lot: int, key: TransactionKey) -> None:
        self.enter(transfer, account, amount)
        if lot:
            version = self._accounts[account].version
            self._credits.setdefault(key, {}).setdefault(account.currency, []).append(version)
            self.lots(account).credit(version, lot)

    # ---- the parts of any posting --------------------------------------------------------------------------------

    def open(self, kind: TransferKind, cause: Cause, *, id: UUID | None = None) -> Transfer:
        """A transfer, to be followed by its entries: they have to sum to zero in each currency."""
        transfer = Transfer(TransferId(id or self._new_id()), kind, cause, self.now)
        self._transfers.append(transfer)
        return transfer

    def enter(self, transfer: Transfer, key: AccountKey, amount: int) -> None:
        """One account's part in it; nothing is nothing. A wallet's is said. Raises BalanceOutOfRange."""
        if not amount:
            return
        before = self._accounts[key]
        after = Account(before.id, before.balance + amount, before.version + 1, before.held, before.owed)
        if abs(after.balance) > key.balance_max:
            raise BalanceOutOfRange(key, after.balance)
        wallet = self._next_version(key)
        entry = Entry(
            transfer_id=transfer.id,
            position=self._position(transfer),
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
        if entry.wallet_version is not None:
            self.drafts.append(self._changed(transfer, key, entry, entry.wallet_version))

    def transfer(
        self,
        kind: TransferKind,
        cause: Cause,
        wallet: AccountKey,
        amount: int,
        house: AccountKind,
        *,
        id: UUID | None = None,
    ) -> Transfer:
        """A whole transfer between a wallet's account and one of the house's: `amount` is the wallet's part."""
        transfer = self.open(kind, cause, id=id)
        self.enter(transfer, wallet, amount)
        self.enter(transfer, wallet.house(house), -amount)
        return transfer

    def lots(self, key: AccountKey) -> Lots:
        """The lots of a wallet's account."""
        self._touched[key] = None
        return self._lots[key]

    def account(self, key: AccountKey) -> Account:
        """The account as it stands now."""
        lots = self._lots.get(key)
        account = self._accounts[key]
        return account if lots is None else Account(account.id, account.balance, account.version, lots.held, lots.owed)

    def wallet_version(self, key: WalletKey) -> int:
        """How many entries the wallet has now."""
        return self._wallets[key].version

    def credits(self, key: TransactionKey, currency: CurrencyId) -> Sequence[int]:
        """The lots that a store transaction's credits have made."""
        return self._credits.get(key, {}).get(currency, ())

    def result(self) -> Posting:
        wallets = {wallet: None for key in self._touched if (wallet := key.wallet) is not None}
        lots = [lots for key, lots in self._lots.items() if key in self._touched]
        return Posting(
            transfers=self._transfers,
            entries=self._entries,
            accounts=[self.account(key) for key in self._touched],
            wallets=[self._wallets[key] for key in wallets],
            drafts=self.drafts,
            new_lots=[lot for each in lots for lot in each.made.values()],
            changed_lots=[lot for each in lots for lot in each.changed.values()],
            new_portions=[portion for each in lots for portion in each.new_portions.values()],
            changed_portions=[portion for each in lots for portion in each.changed_portions.values()],
            credits=self._credits,
        )

    def _next_version(self, key: AccountKey) -> Wallet | None:
        if (wallet_key := key.wallet) is None:
            return None
        before = self._wallets[wallet_key]
        after = self._wallets[wallet_key] = Wallet(before.id, before.version + 1)
        return after

    def _position(self, transfer: Transfer) -> int:
        """Entries of one transfer follow each other."""
        last = self._entries[-1] if self._entries else None
        return last.position + 1 if last is not None and last.transfer_id == transfer.id else 0

    def _changed(self, transfer: Transfer, key: AccountKey, entry: Entry, wallet_version: int) -> Draft:
        cause = transfer.cause
        change = WalletChange(
            entry_id=entry_id(transfer.id, entry.position),
            environment=key.environment,
            currency=key.currency,
            amount=entry.amount,
            balance_after=entry.balance_after,
            version=wallet_version,
            kind=transfer.kind,
            purchase_id=cause.purchase_id,
            spend_id=cause.spend_id,
            grant_id=cause.grant_id,
            reference=cause.reference,
        )
        return Draft(
            payload=WalletCredited(change) if entry.amount > 0 else WalletDebited(change),
            app=key.app,
            subject=cause.subject,
            user_id=cause.wallet.user_id,
            occurred_at=self.now,
            trace_id=cause.trace_id,
            causation_id=cause.event_id,
        )


def say(batch: Batch, event: Event[Any], decision: Decision) -> None:
    """Each word is about the purchase that it names (a charge may be shown under several transaction ids, and each is
    a purchase), and goes to the owner, whom the event may not know (a refund's)."""
    owner = decision.known.user_id
    for word in decision.words:
        batch.drafts.append(following(event, word, subject=word.purchase_id, user_id=owner, occurred_at=batch.now))


def _lots(locked: Locked, found: LotsFound) -> dict[AccountKey, Lots]:
    lots = {
        key: Lots(account.id, held=account.held, owed=account.owed)
        for key, account in locked.accounts.items()
        if key.user_id is not None
    }
    # What was found may be of accounts that this batch leaves alone: a refund has portions in each of its currencies,
    # and what is given back of it may be less than a unit in one of them.
    by_id = {each.account_id: each for each in lots.values()}
    for lot in found.lots:
        if (of_account := by_id.get(lot.key.account_id)) is not None:
            of_account.load(lot)
    for portion in found.portions:
        if (of_account := by_id.get(portion.account_id)) is not None:
            last = found.last_positions.get((portion.transfer_id, portion.account_id), 0)
            of_account.load_portion(portion, last_position=last)
    return lots
