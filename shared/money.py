"""Virtual currency: whole units, integers, never fractions and never floats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

CurrencyId = NewType("CurrencyId", str)

AMOUNT_MAX = 2**53 - 1
"""Every amount and every balance stays within what a JSON number carries exactly (RFC 8259, section 6)."""


class AmountInvalid(ValueError):
    """The amount is not a whole number within ±(2⁵³ - 1)."""


@dataclass(frozen=True, slots=True)
class Amount:
    """So many whole units of one currency."""

    currency: CurrencyId
    amount: int

    def __post_init__(self) -> None:
        if type(self.amount) is not int or abs(self.amount) > AMOUNT_MAX:
            raise AmountInvalid(f"{self.amount!r} {self.currency}: amounts are whole numbers within ±{AMOUNT_MAX}")

    def times(self, quantity: int) -> Amount:
        """That many of it."""
        return Amount(self.currency, self.amount * quantity)
