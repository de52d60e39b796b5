"""What a user is told of a wallet: its balances, and its entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.events import Environment
from shared.ids import GrantId, PurchaseId, SpendId, UserId
from shared.money import CurrencyId


@dataclass(frozen=True, slots=True)
class Funds:
    """What a user has in one currency: `available` may be spent, `held` is set aside, `debt` is owed.

    balance = available + held - debt
    """

    balance: int
    available: int
    held: int
    debt: int

    @classmethod
    def of(cls, *, balance: int, held: int = 0, owed: int = 0) -> Funds:
        return cls(balance=balance, available=balance - held + owed, held=held, debt=owed)


@dataclass(frozen=True, slots=True)
class WalletState:
    """A wallet as it stands: how many entries it has had, and what is in its accounts."""

    version: int
    balances: Mapping[CurrencyId, Funds]


@dataclass(frozen=True, slots=True)
class WalletEntry:
    """One line of a wallet's statement. `version` counts them; at most one of the three ids says what it was for."""

    id: str
    kind: str
    currency: CurrencyId
    amount: int
    balance_after: int
    version: int
    purchase_id: PurchaseId | None
    created_at: datetime
    spend_id: SpendId | None = None
    grant_id: GrantId | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class WalletStatement:
    """A wallet with what may be done with each currency."""

    user_id: UserId
    environment: Environment
    version: int
    balances: Mapping[CurrencyId, Funds]


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Entries, newest first. `next_before` is the version to read on before; None: there are no more."""

    entries: Sequence[WalletEntry]
    next_before: int | None
