"""Wallets: what is asked of them and what is told.

The ledger reads and checks these bodies, the gateway hands them on: here they are what the contract says of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from gateway.api.documents.parts import PAGE_DEFAULT, PAGE_MAX, AmountNumber, Example, Moment
from shared.events import Environment

REFERENCE_LENGTH_MAX: Final = 200
REASON_LENGTH_MAX: Final = 500
HOLD_S_DEFAULT: Final = 15 * 60
HOLD_S_MAX: Final = 30 * 24 * 60 * 60

EntryKind = Literal["purchase", "refund", "refund_reversal", "spend", "spend_reversal", "grant", "write_off"]
HoldState = Literal["open", "captured", "released", "expired"]

CurrencyText = Annotated[str, Field(min_length=1, description="A currency of the catalogue.")]
Reference = Annotated[
    str,
    Field(
        max_length=REFERENCE_LENGTH_MAX,
        description="The app's own name for what it is about, an order's say; kept, and told with the wallet's entry.",
    ),
]
Item = Annotated[str, Field(max_length=REFERENCE_LENGTH_MAX, description="What the currency is spent on.")]
Reason = Annotated[str, Field(min_length=1, max_length=REASON_LENGTH_MAX, pattern=r"\S")]


# ---- what comes in ----------------------------------------------------------------------------------------------


class WalletQuery(BaseModel):
    """Which of the user's wallets."""

    environment: Environment = "production"


class WalletPageQuery(WalletQuery):
    """Which wallet, and which page of it: `after` is the `next` of the page before."""

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    after: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class NewSpend(BaseModel):
    """Currency for something that the app sells: all of it at once, or nothing."""

    currency: CurrencyText
    amount: AmountNumber
    reference: Reference | None = None
    item: Item | None = None
    environment: Environment = "production"


class SpendReversal(BaseModel):
    """So much of a spend is given back; without `amount`, all that is left of it."""

    amount: AmountNumber | None = None


class NewHold(BaseModel):
    """Currency is set aside for `expires_in_s` seconds: a spend in two steps."""

    currency: CurrencyText
    amount: AmountNumber
    expires_in_s: Annotated[int, Field(ge=1, le=HOLD_S_MAX)] = HOLD_S_DEFAULT
    reference: Reference | None = None
    environment: Environment = "production"


class HoldCapture(BaseModel):
    """So much of what is set aside is spent, and the rest is free again; without `amount`, all is spent."""

    amount: AmountNumber | None = None
    reference: Reference | None = None
    item: Item | None = None


class HoldRelease(BaseModel):
    """Nothing needs to be said."""


class NewGrant(BaseModel):
    """Goodwill: currency for nothing. The reason is kept, and which key gave it."""

    currency: CurrencyText
    amount: AmountNumber
    reason: Reason
    environment: Environment = "production"


SPEND_EXAMPLES: Final[Mapping[str, Example]] = {
    "item": Example(
        "Forty gems for a sword",
        {"currency": "gems", "amount": 40, "item": "sword-of-dawn", "reference": "order-10017"},
    ),
    "sandbox": Example(
        "From the wallet that sandbox purchases fill", {"currency": "gems", "amount": 5, "environment": "sandbox"}
    ),
}
SPEND_REVERSAL_EXAMPLES: Final[Mapping[str, Example]] = {
    "whole": Example("All of it, or what is left of it", {}),
    "part": Example("A part", {"amount": 15}),
}
HOLD_EXAMPLES: Final[Mapping[str, Example]] = {
    "bid": Example(
        "A bid that stands for an hour", {"currency": "gems", "amount": 40, "expires_in_s": 3600, "reference": "lot-77"}
    ),
}
HOLD_CAPTURE_EXAMPLES: Final[Mapping[str, Example]] = {
    "whole": Example("All that is set aside", {}),
    "part": Example("Less than was set aside", {"amount": 35, "item": "painting", "reference": "lot-77"}),
}
HOLD_RELEASE_EXAMPLES: Final[Mapping[str, Example]] = {"release": Example("All of it is free again", {})}
GRANT_EXAMPLES: Final[Mapping[str, Example]] = {
    "apology": Example("An apology", {"currency": "gems", "amount": 25, "reason": "the server was down, ticket 4711"}),
}


# ---- what goes out ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Balance:
    """One currency of a wallet. `available` may be spent: `balance` - `held` + `debt`.

    `held` is set aside by holds; `debt` is owed after a refund, and whatever comes in pays it first.
    """

    balance: int
    available: int
    held: int
    debt: int


@dataclass(frozen=True, slots=True)
class Wallet:
    """What a user has. `version` counts the wallet's entries: of two answers the one with the higher is newer."""

    user_id: str
    environment: Environment
    version: int
    balances: Mapping[str, Balance]


@dataclass(frozen=True, slots=True)
class WalletEntry:
    """One change of a wallet. What moved the currency is there by its id: a purchase, a spend, or a grant."""

    id: str
    kind: EntryKind
    currency: str
    amount: int
    balance_after: int
    version: int
    created_at: Moment
    purchase_id: str | None = None
    spend_id: str | None = None
    grant_id: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class WalletPage:
    """A wallet's entries, newest first. `next` null: there are no more."""

    entries: Sequence[WalletEntry]
    next: str | None


@dataclass(frozen=True, slots=True)
class WalletAfter:
    """The wallet in the currency at hand, after what was done. `version` as of the wallet."""

    version: int
    funds: Balance


@dataclass(frozen=True, slots=True)
class Spend:
    """Currency that was spent; `reversed` of it was given back. `hold_id`: the hold that it was captured from."""

    id: str
    user_id: str
    environment: Environment
    currency: str
    amount: int
    reversed: int
    reference: str | None
    item: str | None
    hold_id: str | None
    created_at: Moment
    wallet: WalletAfter


@dataclass(frozen=True, slots=True)
class Hold:
    """Currency that is, or was, set aside; `captured` of it became the spend `spend_id`.

    `state`: `open`, then `captured`, `released`, or `expired`, which it does by itself at `expires_at`.
    """

    id: str
    user_id: str
    environment: Environment
    currency: str
    amount: int
    captured: int
    state: HoldState
    expires_at: Moment
    reference: str | None
    created_at: Moment
    spend_id: str | None
    wallet: WalletAfter


@dataclass(frozen=True, slots=True)
class Grant:
    """Goodwill that was given; `granted_by` is `server:` and the id of the key."""

    id: str
    user_id: str
    environment: Environment
    currency: str
    amount: int
    reason: str
    granted_by: str
    created_at: Moment
    wallet: WalletAfter
