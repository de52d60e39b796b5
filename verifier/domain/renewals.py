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
from shared.events import Environment
from shared.ids import TransactionId
from verifier.domain.kinds import mistaken
from verifier.domain.transactions import ENVIRONMENTS, Identifier, Int32, Int64, Rejected, UnixMs, account_token

AUTO_RENEW_STATUSES: Mapping[int, str] = {0: "off", 1: "on"}

EXPIRATION_INTENTS: Mapping[int, str] = {
    1: "customer_cancelled",
    2: "billing_error",
    3: "price_increase_not_consented",
    4: "product_not_available",
    5: "other",
}

PRICE_INCREASE_STATUSES: Mapping[int, str] = {0: "not_responded", 1: "consented"}

OFFER_TYPES: Mapping[int, str] = {1: "introductory", 2: "promotional", 3: "offer_code", 4: "win_back"}


@dataclass(frozen=True, slots=True)
class RenewalOffer:
    """The offer that the next renewal is under. `discount_type` and `period` (ISO 8601) are Apple's own words."""

    type: str
    identifier: str | None
    discount_type: str | None
    period: str | None


@dataclass(frozen=True, slots=True)
class AppleRenewalInfo:
    """A renewal info. Apple's numbers are words here; a number of the future is kept as it is, in digits.

    `auto_renew_product_id` is what it will be renewed as, `product_id` what it is now. `renewal_price_milli` is in
    thousandths of `currency` (ISO 4217). `expiration_intent` is why it expired, None while it has not.
    `price_increase_status` None: no increase that the customer has been told of.
    """

    environment: Environment
    original_transaction_id: TransactionId
    product_id: str
    auto_renew_product_id: str | None
    auto_renew_status: str
    is_in_billing_retry_period: bool
    expiration_intent: str | None
    grace_period_expires_at: datetime | None
    price_increase_status: str | None
    renewal_at: datetime | None
    renewal_price_milli: int | None
    currency: str | None
    offer: RenewalOffer | None
    recent_subscription_started_at: datetime | None
    app_account_token: UUID | None
    signed_at: datetime


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
    currency: str | None = None
    offer_type: Int32 | None = None
    offer_identifier: str | None = None
    offer_discount_type: str | None = None
    offer_period: str | None = None
    recent_subscription_start_date: UnixMs | None = None
    app_account_token: str | None = None
    # Nothing follows from these yet; but of another type than Apple's they make the whole doubtful.
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
        product_id=stated.product_id,
        auto_renew_product_id=stated.auto_renew_product_id,
        auto_renew_status=_word(stated.auto_renew_status, AUTO_RENEW_STATUSES),
        is_in_billing_retry_period=stated.is_in_billing_retry_period or False,
        expiration_intent=_word_or_none(stated.expiration_intent, EXPIRATION_INTENTS),
        grace_period_expires_at=_moment(stated.grace_period_expires_date),
        price_increase_status=_word_or_none(stated.price_increase_status, PRICE_INCREASE_STATUSES),
        renewal_at=_moment(stated.renewal_date),
        renewal_price_milli=stated.renewal_price,
        currency=stated.currency,
        offer=_offer(stated),
        recent_subscription_started_at=_moment(stated.recent_subscription_start_date),
        app_account_token=account_token(stated.app_account_token),
        signed_at=from_unix_ms(stated.signed_date),
    )


def _offer(stated: _Claims) -> RenewalOffer | None:
    if stated.offer_type is None:
        return None
    return RenewalOffer(
        type=_word(stated.offer_type, OFFER_TYPES),
        identifier=stated.offer_identifier,
        discount_type=stated.offer_discount_type,
        period=stated.offer_period,
    )


def _word(code: int, words: Mapping[int, str]) -> str:
    return words.get(code, str(code))


def _word_or_none(code: int | None, words: Mapping[int, str]) -> str | None:
    return None if code is None else _word(code, words)


def _moment(unix_ms: float | None) -> datetime | None:
    return None if unix_ms is None else from_unix_ms(unix_ms)
