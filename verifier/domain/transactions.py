"""One transaction as the App Store states it: the claims of a JWSTransactionDecodedPayload, checked and typed.

Source of names, units and meanings: developer.apple.com, appstoreserverapi/jwstransactiondecodedpayload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec

from shared.clock import from_unix_ms, to_unix_ms
from shared.events import (
    Environment,
    Offer,
    Period,
    ProductType,
    RejectionCode,
    RevocationCause,
    Revoked,
    StoreTransaction,
)
from shared.ids import TransactionId
from verifier.domain.kinds import mistaken

Identifier = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,128}\Z")]  # `$` would let a line feed follow
"""Apple's ids are digits or names in reverse DNS; what is not printable ASCII is none, and does not enter a table."""

Reference = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{0,128}\Z")]
"""An identifier that is not always there; empty text is none."""

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""As Apple documents its numbers: a larger one is none of Apple's, and has no place in a table either."""

Label = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00\ud800-\udfff]{0,256}\Z")]
"""Text that a developer chose, or a word of Apple's: whatever a table can hold."""

UnixMs = Annotated[float, msgspec.Meta(ge=0, le=253_370_764_799_999)]
"""UNIX milliseconds up to the year 9998, so that what is counted on from one is within what a datetime holds. Xcode
writes them as floats."""

PRODUCT_TYPES: Mapping[str, ProductType] = {
    "Consumable": "consumable",
    "Non-Consumable": "non_consumable",
    "Auto-Renewable Subscription": "auto_renewable",
    "Non-Renewing Subscription": "non_renewing",
}

ENVIRONMENTS: Mapping[str, Environment] = {"Production": "production", "Sandbox": "sandbox"}
"""`Xcode` and `LocalTesting` are not among them: nobody but the developer's own machine signs those."""

OFFER_TYPES: Mapping[int, str] = {1: "introductory", 2: "promotional", 3: "offer_code", 4: "win_back"}

REVOCATION_REASONS: Mapping[int, str] = {1: "app_issue", 0: "other"}

FAMILY_SHARED = "FAMILY_SHARED"
"""The inAppOwnershipType of what a family member bought and shares."""

FAMILY_REVOKE = "FAMILY_REVOKE"
"""The revocationType of what a family member shared and shares no longer: nobody's money was returned."""

REVOKED_WHOLLY_MILLI = 100_000

_A_MOMENT = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused for good. `detail` names nobody and may be shown to whoever asked."""

    code: RejectionCode
    detail: str


@dataclass(frozen=True, slots=True)
class Revocation:
    """The purchase was taken back. `type` is Apple's own word (`REFUND_FULL`, `REFUND_PRORATED`, `FAMILY_REVOKE`, or
    one of the future; older statements have none); `percentage_milli` is of the whole quantity, 100,000 = all of it.

    `says_how_much` false: it shows that something was taken back, and not how much, as receipts do.
    """

    at: datetime
    reason: str
    type: str | None = None
    percentage_milli: int = REVOKED_WHOLLY_MILLI
    says_how_much: bool = True

    @property
    def cause(self) -> RevocationCause:
        return "family_sharing_ended" if self.type == FAMILY_REVOKE else "refund"


@dataclass(frozen=True, slots=True)
class AppleTransaction:
    """A transaction with what is Apple's own: whose app, for which account, shared or bought, taken back or not.

    `refund_reversed`: the store says that it took its refund back, which only a notification does. `stands`: asked
    about it, the store says that no refund stands, whether or not there ever was one. Without them and without a
    `revocation` a statement says nothing about refunds: verifyReceipt shows none of consumables, and Apple does not
    document which fields a reversed refund leaves behind.
    """

    transaction: StoreTransaction
    bundle_id: str
    app_account_token: UUID | None
    in_app_ownership_type: str
    revocation: Revocation | None
    refund_reversed: bool = False
    stands: bool = False

    @property
    def environment(self) -> Environment:
        return self.transaction.environment

    @property
    def revoked(self) -> Revoked | None:
        """How far it is refunded by this statement (nothing of it counts too); None when the statement does not say."""
        signed_at = self.transaction.signed_at
        if self.refund_reversed or self.stands:
            return Revoked(signed_at, 0, at=signed_at)
        if self.revocation is None:
            return None
        if not self.revocation.says_how_much:  # the refund's own notification, which does, counts more, however old
            signed_at = min(signed_at, self.revocation.at - _A_MOMENT)
        return Revoked(signed_at, self.revocation.percentage_milli, self.revocation.at, self.revocation.cause)


class _Claims(msgspec.Struct, frozen=True, rename="camel"):
    transaction_id: Identifier
    product_id: Identifier
    bundle_id: Identifier
    type: str
    environment: str
    purchase_date: UnixMs
    signed_date: UnixMs
    original_transaction_id: Identifier | None = None
    web_order_line_item_id: Reference | None = None
    subscription_group_identifier: Reference | None = None
    expires_date: UnixMs | None = None
    price: Int64 | None = None
    currency: Label | None = None
    offer_type: Int32 | None = None
    offer_identifier: Label | None = None
    offer_discount_type: Label | None = None
    offer_period: Label | None = None
    quantity: Int32 = 1
    app_account_token: str | None = None
    in_app_ownership_type: str = "PURCHASED"
    revocation_date: UnixMs | None = None
    revocation_reason: Int32 | None = None
    revocation_type: str | None = None
    revocation_percentage: Annotated[float, msgspec.Meta(ge=0, le=REVOKED_WHOLLY_MILLI)] | None = None
    # Nothing follows from these yet; but of another type than Apple's they make the whole doubtful.
    original_purchase_date: UnixMs | None = None
    advanced_commerce_info: dict[str, Any] | None = None
    commitment_info: dict[str, Any] | None = None


def read_transaction(claims: Mapping[str, Any]) -> AppleTransaction | Rejected:
    """The transaction in the claims of a verified JWS.

    Rejected: `receipt_malformed` when this is something else that Apple signs, or when a field is missing or wrong (an
    auto-renewable subscription always has its `expiresDate`); `wrong_environment` when it is of neither production nor
    sandbox.
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
    if product_type == "auto_renewable" and stated.expires_date is None:
        return Rejected("receipt_malformed", "the transaction of a subscription does not say when its period ends")
    return AppleTransaction(
        transaction=_transaction(stated, environment, product_type),
        bundle_id=stated.bundle_id,
        app_account_token=account_token(stated.app_account_token),
        in_app_ownership_type=stated.in_app_ownership_type,
        revocation=_revocation(stated),
    )


def _transaction(stated: _Claims, environment: Environment, product_type: ProductType) -> StoreTransaction:
    transaction_id = TransactionId(stated.transaction_id)
    original_id = TransactionId(stated.original_transaction_id or transaction_id)
    purchased_at = from_unix_ms(stated.purchase_date)
    return StoreTransaction(
        store="apple",
        environment=environment,
        transaction_id=transaction_id,
        original_transaction_id=original_id,
        product_id=stated.product_id,
        product_type=product_type,
        quantity=stated.quantity,
        purchased_at=purchased_at,
        signed_at=from_unix_ms(stated.signed_date),
        charge_id=charge_id(
            transaction_id,
            original_id=original_id,
            product_type=product_type,
            purchased_at=purchased_at,
            order_item_id=stated.web_order_line_item_id,
        ),
        family_shared=stated.in_app_ownership_type == FAMILY_SHARED,
        period=_period(stated, product_type),
    )


def charge_id(
    transaction_id: TransactionId,
    *,
    original_id: TransactionId,
    product_type: ProductType | None,
    purchased_at: datetime,
    order_item_id: str | None,
) -> TransactionId | None:
    """What Apple charged once, however many transactions show it; None: the transaction is the charge.

    Apple: whoever restores what he bought gets a transaction with an id of its own. A period of a subscription is known
    by its `webOrderLineItemId` (`order_item_id`), or, without one, by when it was bought; what is bought once for ever,
    by its first transaction.
    """
    if product_type == "auto_renewable":
        return TransactionId(
            f"{original_id}/{order_item_id}" if order_item_id else f"{original_id}@{to_unix_ms(purchased_at)}"
        )
    if product_type == "non_consumable" and original_id != transaction_id:
        return original_id
    return None


def _period(stated: _Claims, product_type: ProductType) -> Period | None:
    if product_type != "auto_renewable" or stated.expires_date is None:
        return None
    return Period(
        expires_at=from_unix_ms(stated.expires_date),
        group=stated.subscription_group_identifier or None,
        offer=offer(
            stated.offer_type,
            identifier=stated.offer_identifier,
            discount_type=stated.offer_discount_type,
            period=stated.offer_period,
        ),
        price_milli=stated.price,
        currency=stated.currency,
    )


def offer(
    offer_type: int | None, *, identifier: str | None, discount_type: str | None, period: str | None
) -> Offer | None:
    """An offer in the words of all stores; a number or a word of the future is kept as it is. None without its type."""
    if offer_type is None:
        return None
    return Offer(
        type=word(offer_type, OFFER_TYPES),
        identifier=identifier or None,
        discount_type=discount_type.lower() if discount_type else None,
        period=period or None,
    )


def word(code: int, words: Mapping[int, str]) -> str:
    """Apple's number as a word; a number of the future is kept as it is."""
    return words.get(code, str(code))


def _revocation(stated: _Claims) -> Revocation | None:
    if stated.revocation_date is None:
        return None
    percentage = stated.revocation_percentage
    return Revocation(
        at=from_unix_ms(stated.revocation_date),
        reason=revocation_reason(stated.revocation_reason),
        type=revocation_type(stated.revocation_type, stated.in_app_ownership_type),
        percentage_milli=REVOKED_WHOLLY_MILLI if percentage is None else int(percentage),
    )


def revocation_type(stated: str | None, ownership: str) -> str | None:
    """Apple's word. Statements of before December 2025 have none, and what was shared can only be shared no longer."""
    return stated or (FAMILY_REVOKE if ownership == FAMILY_SHARED else None)


def revocation_reason(code: int | None) -> str:
    """Apple's number as a word; without one, that there was none."""
    return "unstated" if code is None else word(code, REVOCATION_REASONS)


def account_token(text: str | None) -> UUID | None:
    """The UUID that the app gave StoreKit. Text that is no UUID was never issued to anybody, so it binds to nobody."""
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
