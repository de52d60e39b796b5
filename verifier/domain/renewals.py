"""One renewal info as the App Store states it: what becomes of an auto-renewable subscription at its next renewal.

It names no app: whose it is shows only beside a transaction of the same subscription (`notifications.check_inner`).

Source of names, units and meanings: developer.apple.com, appstoreserverapi/jwsrenewalinfodecodedpayload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from shared.clock import from_unix_ms
from shared.events import Environment, Renewal
from shared.ids import TransactionId
from verifier.domain.kinds import mistaken
from verifier.domain.transactions import (
    ENVIRONMENTS,
    Identifier,
    Int32,
    Int64,
    Label,
    Rejected,
    UnixMs,
    account_token,
    offer,
    word,
)

AUTO_RENEW_OFF = 0

EXPIRATION_INTENTS: Mapping[int, str] = {
    1: "customer_cancelled",
    2: "billing_error",
    3: "price_increase_not_consented",
    4: "product_not_available",
    5: "other",
}

PRICE_INCREASE_STATUSES: Mapping[int, str] = {0: "pending", 1: "accepted"}


@dataclass(frozen=True, slots=True)
class AppleRenewalInfo:
    """A renewal info: what it says of the renewal, and whose it is, as far as it says. Apple's numbers are words here;
    a number of the future is kept as it is, in digits."""

    environment: Environment
    original_transaction_id: TransactionId
    app_account_token: UUID | None
    renewal: Renewal


class _Claims(msgspec.Struct, frozen=True, rename="camel"):
    original_transaction_id: Identifier
    product_id: Identifier
    auto_renew_status: Int32
    environment: str
    signed_date: UnixMs
    auto_renew_product_id: Identifier | None = None
    is_in_billing_retry_period: bool | None = None
    expiration_intent: Int32 | None = None
    grace_period_expires_date: UnixMs | None = None
    price_increase_status: Int32 | None = None
    renewal_date: UnixMs | None = None
    renewal_price: Int64 | None = None
    currency: Label | None = None
    offer_type: Int32 | None = None
    offer_identifier: Label | None = None
    offer_discount_type: Label | None = None
    offer_period: Label | None = None
    app_account_token: str | None = None
    # Nothing follows from these yet; but of another type than Apple's they make the whole doubtful.
    recent_subscription_start_date: UnixMs | None = None
    eligible_win_back_offer_ids: list[Any] | None = None
    advanced_commerce_info: dict[str, Any] | None = None
    commitment_info: dict[str, Any] | None = None


def read_renewal_info(claims: Mapping[str, Any]) -> AppleRenewalInfo | Rejected:
    """The renewal info in the claims of a verified JWS.

    Rejected: `receipt_malformed` when this is something else that Apple signs, or when a field is missing or of the
    wrong type; `wrong_environment` when it is of neither production nor sandbox.
    """
    if (complaint := mistaken(claims, expected="renewal_info")) is not None:
        return Rejected("receipt_malformed", complaint)
    try:
        stated = msgspec.convert(claims, _Claims)
    except msgspec.ValidationError as error:
        return Rejected("receipt_malformed", f"this is not a renewal info: {error}")
    environment = ENVIRONMENTS.get(stated.environment)
    if environment is None:
        return Rejected("wrong_environment", "the renewal info is neither from production nor from the sandbox")
    return AppleRenewalInfo(
        environment=environment,
        original_transaction_id=TransactionId(stated.original_transaction_id),
        app_account_token=account_token(stated.app_account_token),
        renewal=_renewal(stated),
    )


def _renewal(stated: _Claims) -> Renewal:
    return Renewal(
        signed_at=from_unix_ms(stated.signed_date),
        auto_renew=stated.auto_renew_status != AUTO_RENEW_OFF,
        product_id=stated.auto_renew_product_id,
        renews_at=moment(stated.renewal_date),
        price_milli=stated.renewal_price,
        currency=stated.currency,
        offer=offer(
            stated.offer_type,
            identifier=stated.offer_identifier,
            discount_type=stated.offer_discount_type,
            period=stated.offer_period,
        ),
        in_billing_retry=stated.is_in_billing_retry_period or False,
        grace_period_expires_at=moment(stated.grace_period_expires_date),
        expiration_reason=word_or_none(stated.expiration_intent, EXPIRATION_INTENTS),
        price_increase=word_or_none(stated.price_increase_status, PRICE_INCREASE_STATUSES),
    )


def word_or_none(code: int | None, words: Mapping[int, str]) -> str | None:
    """Apple's number as a word, if there is one."""
    return None if code is None else word(code, words)


def moment(unix_ms: float | None) -> datetime | None:
    """A time of Apple's, if there is one."""
    return None if unix_ms is None else from_unix_ms(unix_ms)
