"""The app receipt, which is opaque to everybody else, and verifyReceipt's answers in Apple's shapes.

A receipt carries its customer and its transactions under a seal, as Apple's does, so that it is still answered after
the simulator was restarted. Sources: Apple's App Store Receipts, responseBody and status.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from cryptography.hazmat.primitives import serialization

from shared.clock import to_unix_ms
from shared.events import Environment
from simulator.certificates import Authority
from simulator.domain import Customer, Transaction
from simulator.payloads import (
    ENVIRONMENT_NAMES,
    PRICE_INCREASE_STATUSES,
    auto_renew_status,
    expiration_intent,
    ownership,
)
from simulator.sales import Holdings
from simulator.subscriptions import Subscription

Answer = dict[str, Any]

_MAGIC: Final = b"purser-simulator-receipt\x00"
_SEAL_BYTES: Final = hashlib.sha256().digest_size
_PACIFIC: Final = ZoneInfo("America/Los_Angeles")
_APPLICATION_VERSION: Final = "1"
_RECEIPT_TYPES: Final[dict[Environment, str]] = {"production": "Production", "sandbox": "ProductionSandbox"}


class Status(IntEnum):
    """Apple's verifyReceipt status values, those that the store gives of itself. Others come from faults."""

    VALID = 0
    NOT_A_POST = 21000
    MALFORMED = 21002
    NOT_AUTHENTIC = 21003
    WRONG_SECRET = 21004
    SANDBOX_RECEIPT = 21007
    PRODUCTION_RECEIPT = 21008


class ReceiptMalformed(Exception):
    """The text is no receipt at all."""


class ReceiptNotAuthentic(Exception):
    """The text is a receipt, but not one that this store sealed."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is inside: the customer, and what their receipt held when it was made."""

    customer: Customer
    created_at: datetime
    transactions: tuple[Transaction, ...]


class ReceiptSeal:
    """Writes receipts and reads them back. The seal's key comes from the leaf's, so it outlives a restart."""

    def __init__(self, authority: Authority) -> None:
        self._key = _seal_key(authority)
        self._decoder = msgspec.json.Decoder(Receipt)

    def close(self, receipt: Receipt) -> str:
        """The base64 text that an app sends to its server."""
        content = msgspec.json.encode(receipt)
        return base64.b64encode(_MAGIC + self._seal(content) + content).decode("ascii")

    def open(self, text: str) -> Receipt:
        """What is inside. Raises ReceiptMalformed, or ReceiptNotAuthentic when the seal is not this store's."""
        seal, content = _split(text)
        if not hmac.compare_digest(seal, self._seal(content)):
            raise ReceiptNotAuthentic("the seal is not this store's")
        try:
            return self._decoder.decode(content)
        except msgspec.DecodeError as error:  # sealed by a simulator of another version
            raise ReceiptMalformed("not a receipt of this version") from error

    def _seal(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")


def _seal_key(authority: Authority) -> bytes:
    secret = authority.key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return hmac.digest(secret, b"receipt seal", "sha256")


def _split(text: str) -> tuple[bytes, bytes]:
    try:
        octets = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: the text is not ASCII
        raise ReceiptMalformed("not base64") from error
    if not octets.startswith(_MAGIC) or len(octets) < len(_MAGIC) + _SEAL_BYTES:
        raise ReceiptMalformed("not a receipt")
    sealed = octets[len(_MAGIC) :]
    return sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]


# ---- verifyReceipt's answers ------------------------------------------------------------------------------------


def refusal(status: int, *, environment: Environment, retryable: bool = False) -> Answer:
    """An answer that is only a status; 21100 to 21199 say whether asking again may help (Apple: is-retryable)."""
    if 21100 <= status <= 21199:
        return {"environment": ENVIRONMENT_NAMES[environment], "is-retryable": retryable, "status": status}
    return {"status": status}


def valid_answer(
    receipt: Receipt,
    *,
    holdings: Holdings,
    latest_receipt: Callable[[], str],
    exclude_old: bool,
    now: datetime,
) -> Answer:
    """The answer to a receipt that is good.

    `holdings` are all of the customer's as they are now, the receipt's own transactions among them. Apple: the
    `latest…` and `pending…` fields are there only when the receipt holds auto-renewable subscriptions.
    """
    environment = receipt.customer.environment
    answer: Answer = {
        "environment": ENVIRONMENT_NAMES[environment],
        "receipt": _receipt_fields(receipt, holdings.transactions, now=now),
        "status": int(Status.VALID),
    }
    if holdings.subscriptions:
        everything = holdings.transactions
        latest = _newest_of_each(everything) if exclude_old else everything
        answer["latest_receipt"] = latest_receipt()
        answer["latest_receipt_info"] = [_latest_row(row) for row in reversed(latest) if row.in_receipt()]
        answer["pending_renewal_info"] = [_renewal_row(each) for each in holdings.subscriptions]
    return answer


def _receipt_fields(receipt: Receipt, everything: Iterable[Transaction], *, now: datetime) -> Answer:
    environment = receipt.customer.environment
    ids = {each.transaction_id for each in receipt.transactions}
    held = [each for each in everything if each.transaction_id in ids]
    app_item_id = (receipt.customer.app_apple_id or 0) if environment == "production" else 0  # Apple: 0 in the sandbox
    return {
        "receipt_type": _RECEIPT_TYPES[environment],
        "adam_id": app_item_id,
        "app_item_id": app_item_id,
        "bundle_id": receipt.customer.bundle_id,
        "application_version": _APPLICATION_VERSION,
        "download_id": int(receipt.customer.app_transaction_id),
        "version_external_identifier": 0,
        **_dates("receipt_creation_date", receipt.created_at),
        **_dates("request_date", now),
        **_dates("original_purchase_date", receipt.created_at),
        "original_application_version": _APPLICATION_VERSION,
        "in_app": [_row(transaction) for transaction in held if transaction.in_receipt()],
    }


def _row(transaction: Transaction) -> Answer:
    """One entry of `in_app`: every number and every flag is a string."""
    offer = transaction.offer
    row: Answer = {
        "quantity": str(transaction.quantity),
        "product_id": transaction.product_id,
        "transaction_id": transaction.transaction_id,
        "original_transaction_id": transaction.original_transaction_id,
        **_dates("purchase_date", transaction.purchased_at),
        **_dates("original_purchase_date", transaction.original_purchased_at),
        "is_trial_period": _flag(offer is not None and offer.discount == "free_trial"),
        "in_app_ownership_type": ownership(transaction),
    }
    if transaction.expires_at is not None:
        intro = offer is not None and offer.type == "introductory" and offer.discount != "free_trial"
        row |= _dates("expires_date", transaction.expires_at) | {"is_in_intro_offer_period": _flag(intro)}
    if offer is not None and offer.type in ("promotional", "win_back"):
        row["promotional_offer_id"] = offer.identifier
    if transaction.web_order_line_item_id is not None:
        row["web_order_line_item_id"] = transaction.web_order_line_item_id
    if transaction.revocation is not None:
        row |= _dates("cancellation_date", transaction.revocation.at)
        row["cancellation_reason"] = str(transaction.revocation.reason)
    return row


def _latest_row(transaction: Transaction) -> Answer:
    row = _row(transaction)
    if transaction.app_account_token is not None:
        row["app_account_token"] = transaction.app_account_token
    if transaction.group is not None:
        row["subscription_group_identifier"] = transaction.group
    if transaction.offer is not None and transaction.offer.type == "offer_code":
        row["offer_code_ref_name"] = transaction.offer.identifier
    if transaction.upgraded:
        row["is_upgraded"] = "true"  # Apple: present only when it is true
    return row


def _renewal_row(subscription: Subscription) -> Answer:
    """One entry of `pending_renewal_info`: every number is a string."""
    row: Answer = {
        "auto_renew_product_id": subscription.renews_as,
        "product_id": subscription.period.product_id,
        "original_transaction_id": subscription.id,
        "auto_renew_status": str(auto_renew_status(subscription)),
    }
    intent = expiration_intent(subscription)
    if intent is not None:
        row["expiration_intent"] = str(intent)
    if intent is not None or subscription.billing != "ok":
        row["is_in_billing_retry_period"] = str(int(subscription.billing != "ok"))
    if subscription.grace_until is not None:
        row |= _dates("grace_period_expires_date", subscription.grace_until)
    if subscription.price_increase is not None:
        status = str(PRICE_INCREASE_STATUSES[subscription.price_increase])
        row |= {"price_consent_status": status, "price_increase_status": status}
    offer = subscription.renewal_offer
    if offer is not None:
        row["offer_code_ref_name" if offer.type == "offer_code" else "promotional_offer_id"] = offer.identifier
    return row


def _flag(is_so: bool) -> str:
    return "true" if is_so else "false"


def _newest_of_each(transactions: Iterable[Transaction]) -> list[Transaction]:
    """Of the transactions with one original only the newest; what is no subscription is its own original, and stays."""
    newest: dict[str, Transaction] = {}
    for transaction in transactions:
        newest.pop(transaction.original_transaction_id, None)
        newest[transaction.original_transaction_id] = transaction
    return list(newest.values())


def _dates(name: str, moment: datetime) -> dict[str, str]:
    """Apple writes each date three times: GMT, milliseconds, and Pacific time."""
    gmt, unix_ms, pacific = _written(moment)
    return {name: gmt, f"{name}_ms": unix_ms, f"{name}_pst": pacific}


@lru_cache(maxsize=4_096)  # a receipt has the same moments again and again, and they cost more than the rest of it
def _written(moment: datetime) -> tuple[str, str, str]:
    return (
        f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} Etc/GMT",
        str(to_unix_ms(moment)),
        f"{moment.astimezone(_PACIFIC):%Y-%m-%d %H:%M:%S} America/Los_Angeles",
    )
