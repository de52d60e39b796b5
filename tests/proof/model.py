"""What has to become of all that was accepted. It is kept by the load, and knows nothing of how the system works."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from shared.catalog import Catalog
from shared.events import Environment
from shared.ids import AppId

GAME: Final = AppId("game")

Amounts = Mapping[str, int]
"""Whole units by currency; none is not there."""


@dataclass(slots=True)
class Sale:
    """One transaction of the store. `claims`: who may have it, each with the purchase's id where their app has posted
    it; one of several gets it, the others are refused. `refunded_percent`: by the store's newest word."""

    environment: Environment
    transaction_id: str
    product_id: str
    quantity: int
    claims: dict[str, str | None]
    refunded_percent: int = 0

    def due(self, catalog: Catalog) -> dict[str, int]:
        """What it gives, were it not refunded."""
        product = catalog.find(app=GAME, product_id=self.product_id)
        assert product is not None
        return {str(currency): amount * self.quantity for currency, amount in product.grants.items()}

    def left(self, catalog: Catalog) -> dict[str, int]:
        """What it gives in the end; what a refund takes is rounded in the user's favour. Nothing is not there."""
        left = {name: due - due * self.refunded_percent // 100 for name, due in self.due(catalog).items()}
        return {name: amount for name, amount in left.items() if amount}

    @property
    def status(self) -> str:
        """Of the purchase of whoever has it."""
        if self.refunded_percent == 100:
            return "refunded"
        return "partially_refunded" if self.refunded_percent else "completed"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A purchase that nobody may have, and why."""

    purchase_id: str
    user: str
    code: str


@dataclass(frozen=True, slots=True)
class Spent:
    """A spend that the backend asked for, and whether it was made."""

    reference: str
    user: str
    amount: int
    made: bool


@dataclass(frozen=True, slots=True)
class Subscribed:
    """How a subscription has to stand: active, in its newest period."""

    original_transaction_id: str
    user: str
    transaction_id: str
    auto_renew: bool


@dataclass(slots=True)
class Model:
    """Thread-safe. `counts`: how much of what there was. `broken`: what was not as it should be on the way already."""

    sales: list[Sale] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    spends: list[Spent] = field(default_factory=list)
    subscriptions: list[Subscribed] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self.counts[what] += number

    def keep(self, fact: Sale | Refusal | Spent | Subscribed) -> None:
        with self._lock:
            match fact:
                case Sale():
                    self.sales.append(fact)
                case Refusal():
                    self.refusals.append(fact)
                case Spent():
                    self.spends.append(fact)
                case Subscribed():
                    self.subscriptions.append(fact)

    def complain(self, sentence: str) -> None:
        with self._lock:
            self.broken.append(sentence)
