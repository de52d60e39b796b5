"""What there is in the books: wallets, accounts, and how each store transaction stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, NewType
from uuid import UUID

from shared.events import Environment, Store
from shared.ids import AppId, PurchaseId, TransactionId, UserId
from shared.money import CurrencyId

ALL_MILLI: Final = 100_000
"""A whole purchase, in the unit of Apple's `revocationPercentage`: thousandths of a percent."""

AccountId = NewType("AccountId", int)
WalletId = NewType("WalletId", int)
TransferId = NewType("TransferId", UUID)

AccountKind = Literal["wallet", "issuance", "write_off"]
TransferKind = Literal["purchase", "refund"]
Amounts = Mapping[CurrencyId, int]


def part(amount: int, milli: int) -> int:
    """So many thousandths of a percent of the amount, rounded down: in doubt the user keeps the last unit."""
    return amount * milli // ALL_MILLI


def positive(amounts: Amounts) -> Amounts:
    """The amounts without those that are nothing."""
    return {currency: amount for currency, amount in amounts.items() if amount > 0}


class TransactionKey(NamedTuple):
    """One transaction of a store, for ever and everywhere."""

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

    @property
    def wallet(self) -> WalletKey | None:
        return None if self.user_id is None else WalletKey(self.app, self.environment, self.user_id)


@dataclass(frozen=True, slots=True)
class KnownTransaction:
    """How a store transaction stands in the books.

    `awaited`: nothing is known of its purchase (a refund may be); `parked`: it cannot be granted, `parked_reason` says
    why; `granted`. `due` is what the purchase gives in all, `granted` the part that was not refunded beforehand.
    """

    state: Literal["awaited", "parked", "granted"] = "awaited"
    user_id: UserId | None = None
    purchase_id: PurchaseId | None = None
    due: Amounts = field(default_factory=dict)
    granted: Amounts = field(default_factory=dict)
    refunded_milli: int = 0
    refunds: int = 0
    parked_reason: str | None = None

    @property
    def refunded(self) -> Amounts:
        """What was taken back after the grant, in all: refunded of what is due, less what was never granted."""
        return positive(
            {
                currency: part(amount, self.refunded_milli) - (amount - self.granted.get(currency, 0))
                for currency, amount in self.due.items()
            }
        )


UNKNOWN: Final = KnownTransaction()


@dataclass(frozen=True, slots=True)
class Wallet:
    """A wallet as it is locked. `version` counts its entries."""

    id: WalletId
    version: int


@dataclass(frozen=True, slots=True)
class Account:
    """An account as it is locked. `version` counts its entries, `balance` is their sum."""

    id: AccountId
    balance: int
    version: int


@dataclass(frozen=True, slots=True)
class Locked:
    """Accounts and wallets that nobody else changes until the transaction ends."""

    accounts: Mapping[AccountKey, Account]
    wallets: Mapping[WalletKey, Wallet]
