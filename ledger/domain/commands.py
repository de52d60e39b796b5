"""What may be asked of the ledger directly, beside what the stores say; and what it comes to.

A request is refused as a whole or done as a whole. Amounts are whole units, 1 to shared.money.AMOUNT_MAX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from ledger.domain.books import WalletKey
from ledger.domain.statements import Funds
from shared.events import Environment
from shared.ids import AppId, GrantId, HoldId, SpendId, UserId
from shared.money import CurrencyId

HoldState = Literal["open", "captured", "released", "expired"]


# ---- requests ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spend:
    """Currency for something that the app sells: at once, or not at all."""

    wallet: WalletKey
    currency: CurrencyId
    amount: int
    reference: str | None = None
    item: str | None = None


@dataclass(frozen=True, slots=True)
class ReverseSpend:
    """A spend is given back, into the lots that it came from: so much of it, or (None) what is left of it."""

    app: AppId
    spend: UUID
    amount: int | None = None


@dataclass(frozen=True, slots=True)
class PlaceHold:
    """Currency is set aside for `expires_in_s` seconds, to be captured or released."""

    wallet: WalletKey
    currency: CurrencyId
    amount: int
    expires_in_s: int
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class CaptureHold:
    """What a hold set aside is spent: so much of it, or (None) all; the rest is free again."""

    app: AppId
    hold: UUID
    amount: int | None = None
    reference: str | None = None
    item: str | None = None


@dataclass(frozen=True, slots=True)
class ReleaseHold:
    """What a hold set aside is free again."""

    app: AppId
    hold: UUID


@dataclass(frozen=True, slots=True)
class Grant:
    """Goodwill: currency for nothing. The reason is kept, and who gave it."""

    wallet: WalletKey
    currency: CurrencyId
    amount: int
    reason: str


Request = Spend | ReverseSpend | PlaceHold | CaptureHold | ReleaseHold | Grant


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's own key for a request. `call` is what the key is scoped to beside app and user; the digest tells a
    repeat from another request."""

    call: str
    key: str
    body_sha256: bytes


@dataclass(frozen=True, slots=True)
class Command:
    """A request and who makes it: `actor` is `client:<user id>` or `server:<key id>`.

    `only_user` is the user that a client token is bound to: what belongs to another is not there for it.
    """

    request: Request
    actor: str
    trace_id: str
    key: IdempotencyKey | None = None
    only_user: UserId | None = None


# ---- what they come to -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WalletAfter:
    """The wallet's account after it: `version` counts the wallet's entries."""

    version: int
    funds: Funds


@dataclass(frozen=True, slots=True)
class SpendDone:
    """A spend as it stands; `reversed` of it was given back."""

    id: SpendId
    user_id: UserId
    environment: Environment
    currency: CurrencyId
    amount: int
    reversed: int
    reference: str | None
    item: str | None
    created_at: datetime
    wallet: WalletAfter
    hold_id: HoldId | None = None


@dataclass(frozen=True, slots=True)
class HoldDone:
    """A hold as it stands. `spend_id`: what capturing it made."""

    id: HoldId
    user_id: UserId
    environment: Environment
    currency: CurrencyId
    amount: int
    captured: int
    state: HoldState
    expires_at: datetime
    reference: str | None
    created_at: datetime
    wallet: WalletAfter
    spend_id: SpendId | None = None


@dataclass(frozen=True, slots=True)
class GrantDone:
    """Goodwill that was given; `granted_by` is who."""

    id: GrantId
    user_id: UserId
    environment: Environment
    currency: CurrencyId
    amount: int
    reason: str
    granted_by: str
    created_at: datetime
    wallet: WalletAfter


RefusalCode = Literal[
    "insufficient-funds",  # members: currency, available
    "spend-not-reversible",  # members: reversible (what is left of it)
    "hold-not-open",  # members: state, spend_id (what it became, if it was captured)
    "hold-too-small",  # members: amount (what it holds)
    "balance-out-of-range",  # members: currency
    "idempotency-key-reused",
    "not-found",
]


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was done. `detail` may be shown to the caller; `members` are for programs."""

    code: RefusalCode
    detail: str
    members: Mapping[str, Any] = field(default_factory=dict)


Outcome = SpendDone | HoldDone | GrantDone | Refused


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller is told: an HTTP status and its JSON document. `replayed`: it was told before, word for word."""

    status: int
    document: str
    replayed: bool = False


class AnswerKey(NamedTuple):
    """What an answer is found by: the caller's key, within app, user and call."""

    app: AppId
    user_id: UserId
    call: str
    key: str


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """The first answer to a request, and the digest of the request's body."""

    body_sha256: bytes
    status: int
    document: str
