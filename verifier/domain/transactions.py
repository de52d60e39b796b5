"""One transaction as the App Store states it: the claims of a JWSTransactionDecodedPayload, checked and typed.

Source of names, units and meanings: developer.apple.com, appstoreserverapi/jwstransactiondecodedpayload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from shared.clock import from_unix_ms
from shared.events import Environment, ProductType, RejectionCode, RevocationCause, StoreTransaction
from shared.ids import TransactionId
from verifier.domain.kinds import mistaken

Identifier = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,128}\Z")]  # `$` would let a line feed follow
"""Apple's ids are digits or names in reverse DNS; what is not printable ASCII is none, and does not enter a table."""

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""As Apple documents its numbers: a larger one is none of Apple's, and has no place in a table either."""

UnixMs = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_799_000)]
"""UNIX milliseconds up to the year 9999. Xcode writes them as floats."""

PRODUCT_TYPES: Mapping[str, ProductType] = {
    "Consumable": "consumable",
    "Non-Consumable": "non_consumable",
    "Auto-Renewable Subscription": "auto_renewable",
    "Non-Renewing Subscription": "non_renewing",
}

ENVIRONMENTS: Mapping[str, Environment] = {"Production": "production", "Sandbox": "sandbox"}
"""`Xcode` and `LocalTesting` are not among them: nobody but the developer's own machine signs those."""

REVOCATION_REASONS: Mapping[int, str] = {1: "app_issue", 0: "other"}

FAMILY_REVOKE = "FAMILY_REVOKE"
"""The revocationType of what a family member shared and shares no longer: nobody's money was returned."""

REVOKED_WHOLLY_MILLI = 100_000


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused for good. `detail` names nobody and may be shown to whoever asked."""

    code: RejectionCode
    detail: str


@dataclass(frozen=True, slots=True)
class Revocation:
    """The purchase was taken back. `type` is Apple's own word (`REFUND_FULL`, `REFUND_PRORATED`, `FAMILY_REVOKE`, or
    one of the future; older statements have none); `percentage_milli` is of the whole quantity, 100,000 = all of it."""

    at: datetime
    reason: str
    type: str | None = None
    percentage_milli: int = REVOKED_WHOLLY_MILLI

    @property
    def cause(self) -> RevocationCause:
        return "family_sharing_ended" if self.type == FAMILY_REVOKE else "refund"


@dataclass(frozen=True, slots=True)
class AppleTransaction:
    """A transaction with what is Apple's own: whose app, for which account, shared or bought, taken back or not.

    `refund_reversed`: the store says that it took its refund back, which only a notification does. Without it and
    without a `revocation` a statement says nothing about refunds: verifyReceipt shows none of consumables, and Apple
    does not document which fields a reversed refund leaves behind.
    """

    transaction: StoreTransaction
    bundle_id: str
    app_account_token: UUID | None
    in_app_ownership_type: str
    revocation: Revocation | None
    refund_reversed: bool = False

    @property
    def environment(self) -> Environment:
        return self.transaction.environment

    @property
    def refunded_milli(self) -> int | None:
        """How far it is refunded by this statement (100,000 = wholly); None when the statement does not say."""
        if self.refund_reversed:
            return 0
        return None if self.revocation is None else self.revocation.percentage_milli


class _Claims(msgspec.Struct, frozen=True, rename="camel"):
    transaction_id: Identifier
    product_id: Identifier
    bundle_id: Identifier
    type: str
    environment: str
    purchase_date: UnixMs
    signed_date: UnixMs
    original_transaction_id: Identifier | None = None
    quantity: Int32 = 1
    app_account_token: str | None = None
    in_app_ownership_type: str = "PURCHASED"
    revocation_date: UnixMs | None = None
    revocation_reason: Int32 | None = None
    revocation_type: str | None = None
    revocation_percentage: Annotated[float, msgspec.Meta(ge=0, le=REVOKED_WHOLLY_MILLI)] | None = None
    # Nothing follows from these yet; but of another type than Apple's they make the whole doubtful.
    original_purchase_date: UnixMs | None = None
    expires_date: UnixMs | None = None
    price: Int64 | None = None
    offer_type: Int32 | None = None
    advanced_commerce_info: dict[str, Any] | None = None
    commitment_info: dict[str, Any] | None = None


def read_transaction(claims: Mapping[str, Any]) -> AppleTransaction | Rejected:
    """The transaction in the claims of a verified JWS.

    Rejected: `receipt_malformed` when this is something else that Apple signs, or when a field is missing or wrong;
    `wrong_environment` when it is of neither production nor sandbox.
    """
    if (complaint := mistaken(claims, expected="transaction")) is not None:
        return Rejected("receipt_malformed", complaint)
    try:
        stated = msgspec.convert(claims, _Claims)
    except msgspec.ValidationError as error:
        return Rejected("receipt_malformed", f"this is not a transaction: {error}")
    environment = ENVIRONMENTS.get(stated.environment)
    if environment is None:
        return Rejected("wrong_environment", "the transaction is neither from production nor from the sandbox")
    product_type = PRODUCT_TYPES.get(stated.type)
    if product_type is None:
        return Rejected("receipt_malformed", "the transaction's product is of an unknown type")
    return AppleTransaction(
        transaction=StoreTransaction(
            store="apple",
            environment=environment,
            transaction_id=TransactionId(stated.transaction_id),
            original_transaction_id=TransactionId(stated.original_transaction_id or stated.transaction_id),
            product_id=stated.product_id,
            product_type=product_type,
            quantity=stated.quantity,
            purchased_at=from_unix_ms(stated.purchase_date),
            signed_at=from_unix_ms(stated.signed_date),
        ),
        bundle_id=stated.bundle_id,
        app_account_token=account_token(stated.app_account_token),
        in_app_ownership_type=stated.in_app_ownership_type,
        revocation=_revocation(stated),
    )


def _revocation(stated: _Claims) -> Revocation | None:
    if stated.revocation_date is None:
        return None
    percentage = stated.revocation_percentage
    return Revocation(
        at=from_unix_ms(stated.revocation_date),
        reason=revocation_reason(stated.revocation_reason),
        type=stated.revocation_type,
        percentage_milli=REVOKED_WHOLLY_MILLI if percentage is None else int(percentage),
    )


def revocation_reason(code: int | None) -> str:
    """Apple's number as a word; a number of the future is kept as it is."""
    if code is None:
        return "unstated"
    return REVOCATION_REASONS.get(code, str(code))


def account_token(text: str | None) -> UUID | None:
    """The UUID that the app gave StoreKit. Text that is no UUID was never issued to anybody, so it binds to nobody."""
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
