"""What there is in the books: wallets, accounts, and how each store transaction stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, NamedTuple, NewType
from uuid import UUID

from shared.events import Environment, Store
from shared.ids import AppId, PurchaseId, TransactionId, UserId
from shared.money import AMOUNT_MAX, CurrencyId

ALL_MILLI: Final = 100_000
"""A whole purchase, in the unit of Apple's `revocationPercentage`: thousandths of a percent."""

HOUSE_BALANCE_MAX: Final = 2**63 - 1
"""What PostgreSQL's bigint holds."""

AccountId = NewType("AccountId", int)
WalletId = NewType("WalletId", int)
TransferId = NewType("TransferId", UUID)

AccountKind = Literal["wallet", "issuance", "sink", "goodwill", "write_off"]
TransferKind = Literal["purchase", "refund", "refund_reversal", "spend", "spend_reversal", "grant", "write_off"]
Amounts = Mapping[CurrencyId, int]

NOTHING: Final[Amounts] = {}


def part(amount: int, milli: int) -> int:
    """So many thousandths of a percent of the amount, rounded down: in doubt the user keeps the last unit."""
    return amount * milli // ALL_MILLI


def positive(amounts: Amounts) -> Amounts:
    """The amounts without those that are nothing."""
    return {currency: amount for currency, amount in amounts.items() if amount > 0}


def left_of(due: Amounts, milli: int) -> Amounts:
    """What the user is to have of what is due, when so much of it is refunded."""
    return positive({currency: amount - part(amount, milli) for currency, amount in due.items()})


class TransactionKey(NamedTuple):
    """One transaction of a store, for ever and everywhere. What the store shows under several ids is known by its
    charge (`StoreTransaction.charge`), which for most is the transaction's own id."""

    app: AppId
    store: Store
    environment: Environment
    transaction_id: TransactionId


class WalletKey(NamedTuple):
    """A user's wallet: one per environment."""

    app: AppId
    environment: Environment
    user_id: UserId


class AccountKey(NamedTuple):
    """An account in one currency: a wallet's (`user_id`), or one of the house's (none)."""

    kind: AccountKind
    app: AppId
    environment: Environment
    currency: CurrencyId
    user_id: UserId | None = None

    @classmethod
    def of_wallet(cls, wallet: WalletKey, currency: CurrencyId) -> AccountKey:
        return cls("wallet", wallet.app, wallet.environment, currency, wallet.user_id)

    @property
    def wallet(self) -> WalletKey | None:
        return None if self.user_id is None else WalletKey(self.app, self.environment, self.user_id)

    @property
    def balance_max(self) -> int:
        """A wallet's is told as a JSON number; the house's sums up those of all wallets, and is told to nobody."""
        return AMOUNT_MAX if self.kind == "wallet" else HOUSE_BALANCE_MAX

    def house(self, kind: AccountKind) -> AccountKey:
        """The house's account of that kind on the other side."""
        return AccountKey(kind, self.app, self.environment, self.currency)


@dataclass(frozen=True, slots=True)
class KnownTransaction:
    """How a store transaction stands in the books.

    `awaited`: nothing is known of its purchase (a refund may be); `parked`: it cannot be granted, `parked_reason` says
    why; `granted`. `transaction_id` is the store's own, under which it was verified first. `due` is what the purchase
    gives in all, `granted` what has been credited for it (less than is due, if a refund came first). `refunded_milli`
    is what the store said last, at `revoked_signed_at`. `lots` are the versions of its credits so far; `sequence` is
    that of its newest posting.
    """

    state: Literal["awaited", "parked", "granted"] = "awaited"
    user_id: UserId | None = None
    purchase_id: PurchaseId | None = None
    transaction_id: TransactionId | None = None
    product_id: str | None = None
    quantity: int = 1
    purchased_at: datetime | None = None
    due: Amounts = field(default_factory=dict)
    granted: Amounts = field(default_factory=dict)
    refunded_milli: int = 0
    revoked_signed_at: datetime | None = None
    sequence: int = 0
    lots: Mapping[CurrencyId, Sequence[int]] = field(default_factory=dict)
    parked_reason: str | None = None

    @property
    def left(self) -> Amounts:
        """What the user is to have of it."""
        return left_of(self.due, self.refunded_milli)

    @property
    def refunded(self) -> Amounts:
        """What was taken back after it was credited, and not given again since."""
        left = self.left
        return positive({currency: amount - left.get(currency, 0) for currency, amount in self.granted.items()})


UNKNOWN: Final = KnownTransaction()


@dataclass(frozen=True, slots=True)
class Wallet:
    """A wallet as it is locked. `version` counts its entries."""

    id: WalletId
    version: int


@dataclass(frozen=True, slots=True)
class Account:
    """An account as it is locked: `version` counts its entries, `balance` is their sum.

    A wallet's: `held` is set aside, `owed` is what refunds could not take. The house's hold and owe nothing.
    """

    id: AccountId
    balance: int
    version: int
    held: int = 0
    owed: int = 0

    @property
    def available(self) -> int:
        return self.balance - self.held + self.owed


@dataclass(frozen=True, slots=True)
class Locked:
    """Accounts and wallets that nobody else changes until the transaction ends."""

    accounts: Mapping[AccountKey, Account]
    wallets: Mapping[WalletKey, Wallet]

    def indebted(self) -> frozenset[AccountId]:
        """Those that owe something: whatever becomes available in them pays it."""
        return frozenset(account.id for account in self.accounts.values() if account.owed)
