"""What comes in: the bodies of the calls, and the keys by which a repeat is known."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from typing import Annotated, Final, TypeVar

import msgspec
from flask import request
from pydantic import AfterValidator, BaseModel, Field

from ledger.domain.books import WalletKey
from ledger.domain.commands import Grant, IdempotencyKey, PlaceHold, Request, Spend
from shared.callers import Caller
from shared.events import Environment
from shared.http import IDEMPOTENCY_KEY_HEADER, malformed, read_body, read_idempotency_key
from shared.money import AMOUNT_MAX, CurrencyId

BODY_BYTES_MAX: Final = 16 * 1024
"""More than twice what any of these calls says: 500 characters of reason are 6,000 bytes, each written as an escape."""
LABEL_LENGTH_MAX: Final = 200
REASON_LENGTH_MAX: Final = 500
HOLD_S_DEFAULT: Final = 15 * 60
HOLD_S_MAX: Final = 30 * 24 * 60 * 60

M = TypeVar("M", bound=BaseModel)


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a NUL, and no text does")  # PostgreSQL's has none
    return text


def _says_something(text: str) -> str:
    if not text.strip():
        raise ValueError("it is blank")
    return text


Positive = Annotated[int, Field(ge=1, le=AMOUNT_MAX)]
Label = Annotated[str, Field(max_length=LABEL_LENGTH_MAX), AfterValidator(_storable)]
Reason = Annotated[
    str, Field(min_length=1, max_length=REASON_LENGTH_MAX), AfterValidator(_storable), AfterValidator(_says_something)
]


class WalletBody(BaseModel):
    """Something that is asked of a wallet: how much of which currency."""

    currency: CurrencyId
    amount: Positive
    environment: Environment = "production"

    @abstractmethod
    def request_of(self, wallet: WalletKey) -> Request:
        """What is asked of the ledger."""


class SpendBody(WalletBody):
    """`POST /v1/users/{user}/spends`"""

    reference: Label | None = None
    item: Label | None = None

    def request_of(self, wallet: WalletKey) -> Spend:
        return Spend(wallet, self.currency, self.amount, reference=self.reference, item=self.item)


class HoldBody(WalletBody):
    """`POST /v1/users/{user}/holds`"""

    expires_in_s: Annotated[int, Field(ge=1, le=HOLD_S_MAX)] = HOLD_S_DEFAULT
    reference: Label | None = None

    def request_of(self, wallet: WalletKey) -> PlaceHold:
        return PlaceHold(wallet, self.currency, self.amount, self.expires_in_s, reference=self.reference)


class GrantBody(WalletBody):
    """`POST /v1/users/{user}/grants`"""

    reason: Reason

    def request_of(self, wallet: WalletKey) -> Grant:
        return Grant(wallet, self.currency, self.amount, self.reason)


class ReversalBody(BaseModel):
    """`POST /v1/spends/{spend}/reverse`. No amount: what is left of it."""

    amount: Positive | None = None


class CaptureBody(BaseModel):
    """`POST /v1/holds/{hold}/capture`. No amount: all that is held."""

    amount: Positive | None = None
    reference: Label | None = None
    item: Label | None = None


class ReleaseBody(BaseModel):
    """`POST /v1/holds/{hold}/release`"""


class RefundRequestBody(BaseModel):
    """`POST /v1/purchases/{purchase}/refund-requests`"""

    reason: Reason | None = None


def read_optional_body(model: type[M]) -> M:
    """The request's body, where each member may be left out: then so may the body. Raises Problem: 400, 413."""
    return read_body(model) if request.get_data() else model()


def needed_key(caller: Caller, *, call: str, body: BaseModel) -> IdempotencyKey:
    """As optional_key; none is a Problem too."""
    key = optional_key(caller, call=call, body=body)
    if key is None:
        raise malformed(f"{IDEMPOTENCY_KEY_HEADER}: this call takes one, so that it can be repeated without harm")
    return key


def optional_key(caller: Caller, *, call: str, body: BaseModel) -> IdempotencyKey | None:
    """The caller's key for `call`, which names what it acts on. Raises Problem: 400.

    The keys of users' devices and those of the app's backend are apart: neither can answer the other's request.
    """
    key = read_idempotency_key()
    return None if key is None else IdempotencyKey(f"{caller.kind} {call}", key, _digest(body))


def _digest(body: BaseModel) -> bytes:
    """SHA-256 of what the body says: in whatever order and spacing, and of members that are known alone. What was left
    out stays out, so that a later release's defaults do not make a repeat another request.
    """
    said = body.model_dump(exclude_unset=True, exclude_none=True)
    return hashlib.sha256(msgspec.json.encode(said, order="sorted")).digest()
