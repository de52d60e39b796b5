"""What the documents of several subjects are made of.

Every moment is RFC 3339 in UTC with milliseconds, every amount a whole number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from gateway.domain.callers import parse_living_user_id
from shared.ids import ERASED_PREFIX, UNADDRESSABLE, UserId
from shared.money import AMOUNT_MAX, Amount

PAGE_MAX: Final = 200
PAGE_DEFAULT: Final = 50

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
UserText = Annotated[
    UserId,
    AfterValidator(parse_living_user_id),
    Field(
        description="A user of the app, as the app's own login names it.",
        json_schema_extra={
            "pattern": r"^[^\x00-\x1f\x7f]{1,128}$",
            "not": {"anyOf": [{"enum": sorted(UNADDRESSABLE)}, {"pattern": f"^{ERASED_PREFIX}"}]},
        },
    ),
]
AmountNumber = Annotated[int, Field(ge=1, le=AMOUNT_MAX, description="Whole units, 1 to 2⁵³ - 1.")]


@dataclass(frozen=True, slots=True)
class Example:
    """A body or an answer as the contract shows it, and what it is one of."""

    summary: str
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CurrencyAmount:
    """So many whole units of one currency."""

    currency: str
    amount: int

    @classmethod
    def of(cls, amount: Amount) -> CurrencyAmount:
        return cls(currency=amount.currency, amount=amount.amount)
