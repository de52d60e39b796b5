"""Answers of verifyReceipt, read: what they say, and whether it is worth asking again.

Source: developer.apple.com, appstorereceipts (deprecated, still what old clients send). Numbers are strings there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from shared.clock import from_unix_ms
from shared.events import Environment, Offer, Period, ProductType, RejectionCode, Renewal, StoreTransaction
from shared.events.store import FREE_TRIAL
from shared.ids import TransactionId
from verifier.domain.renewals import AUTO_RENEW_OFF, EXPIRATION_INTENTS, PRICE_INCREASE_STATUSES, moment, word_or_none
from verifier.domain.transactions import (
    ENVIRONMENTS,
    FAMILY_SHARED,
    AppleTransaction,
    Identifier,
    Int32,
    Int64,
    Label,
    Reference,
    Rejected,
    Revocation,
    UnixMs,
    account_token,
    charge_id,
    revocation_reason,
    revocation_type,
)

ProductTypes = Callable[[str], ProductType | None]
"""A product id's type, from the catalogue: a receipt does not say. None: the catalogue does not know the product."""


@dataclass(frozen=True, slots=True)
class ReceiptValid:
    """The store vouches for the receipt: each of its transactions once, and what it says of the next renewals, by the
    subscriptions' original transactions. `app_apple_id` is its `adam_id`."""

    transactions: tuple[AppleTransaction, ...]
    environment: Environment
    bundle_id: str
    app_apple_id: int | None
    renewals: Mapping[TransactionId, Renewal] = field(default_factory=dict)

    def find(self, transaction_id: TransactionId) -> AppleTransaction | Rejected:
        """The transaction that is claimed; `transaction_not_found` when the receipt does not hold it."""
        for statement in self.transactions:
            if statement.transaction.transaction_id == transaction_id:
                return statement
        return Rejected("transaction_not_found", "the receipt does not hold this transaction")


@dataclass(frozen=True, slots=True)
class UseSandbox:
    """21007: the receipt is from the sandbox, ask there."""


@dataclass(frozen=True, slots=True)
class UseProduction:
    """21008: the receipt is from production, ask there."""


@dataclass(frozen=True, slots=True)
class ReceiptRefused:
    """The store refuses the receipt for good. `status` is the store's own; `detail` may be shown."""

    status: int
    code: RejectionCode
    detail: str


@dataclass(frozen=True, slots=True)
class StoreBusy:
    """No answer that says anything about the receipt: ask again, after `retry_after_s` if the store said when.

    `persisting` is what it means when the store still says so after a bounded number of tries; None: it never means
    anything but that the store is away, so the claim waits for as long as it takes.
    """

    reason: str
    status: int | None = None
    persisting: ReceiptRefused | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class StoreMisconfigured:
    """The store answers that *we* are wrong (the shared secret, the address): an operator mends it, then ask again.
    The user has nothing to do with it."""

    status: int
    detail: str


ReceiptAnswer = ReceiptValid | UseSandbox | UseProduction | ReceiptRefused | StoreBusy | StoreMisconfigured


class _Status(msgspec.Struct, frozen=True):
    """The one thing that every answer has; what else it has depends on it."""

    status: Int32


class _InternalError(msgspec.Struct, frozen=True):
    is_retryable: bool | None = None
    is_retryable_hyphened: bool | None = msgspec.field(name="is-retryable", default=None)  # both spellings are seen


class _Valid(msgspec.Struct, frozen=True):
    receipt: dict[str, Any]
    environment: str | None = None
    latest_receipt_info: list[Any] | None = None
    pending_renewal_info: Any = None


class _Receipt(msgspec.Struct, frozen=True):
    bundle_id: Identifier
    adam_id: Int64 | None = None
    request_date_ms: UnixMs | None = None
    in_app: list[Any] = msgspec.field(default_factory=list)


class _Row(msgspec.Struct, frozen=True):
    transaction_id: Identifier
    product_id: Identifier
    purchase_date_ms: UnixMs
    original_transaction_id: Identifier | None = None
    web_order_line_item_id: Reference | None = None
    subscription_group_identifier: Reference | None = None
    quantity: Int32 = 1
    expires_date_ms: UnixMs | None = None
    is_trial_period: bool | None = None
    is_in_intro_offer_period: bool | None = None
    promotional_offer_id: Label | None = None
    offer_code_ref_name: Label | None = None
    cancellation_date: str | None = None
    cancellation_date_ms: UnixMs | None = None
    cancellation_reason: Int32 | None = None
    is_upgraded: bool | None = None
    app_account_token: str | None = None
    in_app_ownership_type: str = "PURCHASED"


class _PendingRenewal(msgspec.Struct, frozen=True):
    original_transaction_id: Identifier
    auto_renew_status: Int32
    auto_renew_product_id: Identifier | None = None
    expiration_intent: Int32 | None = None
    is_in_billing_retry_period: bool | None = None
    grace_period_expires_date_ms: UnixMs | None = None
    price_increase_status: Int32 | None = None
    price_consent_status: Int32 | None = None
    promotional_offer_id: Label | None = None
    offer_code_ref_name: Label | None = None


def read_receipt_answer(
    body: bytes, *, asked: Environment, answered_at: datetime, product_types: ProductTypes
) -> ReceiptAnswer:
    """What an answer (HTTP 200) says. `asked` is whose address it came from; `answered_at` dates it if it has no date.

    Anything that is not an answer of verifyReceipt (no JSON, a field missing or of the wrong type) is StoreBusy:
    something stands in between, and nobody is refused for that.
    """
    try:
        content = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return StoreBusy("the store's answer is not JSON")
    try:
        status = msgspec.convert(content, _Status, strict=False).status
        if status != 0:
            return _read_status(status, content)
        valid = msgspec.convert(content, _Valid, strict=False)
        return _read_valid(valid, asked=asked, answered_at=answered_at, product_types=product_types)
    except msgspec.ValidationError as error:
        return StoreBusy(f"the store's answer cannot be read: {error}")


def _read_status(status: int, content: Any) -> ReceiptAnswer:
    """The table of appstorereceipts/status."""
    match status:
        case 21000:  # "not a POST request": something between us and the store changed it
            return StoreMisconfigured(status, "the request did not reach the store as it was sent")
        case 21002:  # "malformed, or the service experienced a temporary issue. Try again."
            refused = ReceiptRefused(status, "receipt_malformed", "the store cannot read the receipt")
            return StoreBusy("the store cannot read the receipt, or not now", status, refused)
        case 21003:
            return ReceiptRefused(status, "receipt_unauthentic", "the store cannot authenticate the receipt")
        case 21004:
            return StoreMisconfigured(status, "the shared secret is not that of the app's account")
        case 21005 | 21009:
            return StoreBusy("the store is not available", status)
        case 21006:  # comes with receipts in the style of iOS 6 only, which have no list of transactions
            return ReceiptRefused(status, "store_refused", "the subscription of this receipt has expired")
        case 21007:
            return UseSandbox()
        case 21008:
            return UseProduction()
        case 21010:
            return ReceiptRefused(status, "store_refused", "the store knows no account for this receipt")
        case _ if 21100 <= status <= 21199:
            return _read_internal_error(status, content)
    refused = ReceiptRefused(status, "store_refused", f"the store refuses the receipt with status {status}")
    return StoreBusy(f"the store answered with the unknown status {status}", status, refused)


def _read_internal_error(status: int, content: Any) -> ReceiptAnswer:
    """21100 to 21199: the store says whether trying again helps. If it does not say, trying again does no harm."""
    answer = msgspec.convert(content, _InternalError, strict=False)
    if answer.is_retryable is False or answer.is_retryable_hyphened is False:
        return ReceiptRefused(status, "store_refused", f"the store refuses the receipt with status {status}")
    return StoreBusy("the store has an internal error", status)


def _read_valid(
    answer: _Valid, *, asked: Environment, answered_at: datetime, product_types: ProductTypes
) -> ReceiptAnswer:
    receipt = msgspec.convert(answer.receipt, _Receipt, strict=False)
    environment = asked if answer.environment is None else ENVIRONMENTS.get(answer.environment)
    if environment is None:
        return ReceiptRefused(0, "wrong_environment", "the receipt is neither from production nor from the sandbox")
    if environment != asked:
        return StoreMisconfigured(0, f"the address of the {asked} store is answered by the {environment} store")
    rows = [msgspec.convert(row, _Row, strict=False) for row in (*receipt.in_app, *(answer.latest_receipt_info or ()))]
    stated = _Stated(
        environment,
        receipt.bundle_id,
        _or(receipt.request_date_ms, answered_at),
        product_types,
        upgraded=frozenset(TransactionId(row.transaction_id) for row in rows if row.is_upgraded),
    )
    transactions = _once_each(stated.transaction(row) for row in rows)
    if transactions is None:
        return StoreBusy("the store's answer contradicts itself about a transaction")
    return ReceiptValid(
        transactions=transactions,
        environment=environment,
        bundle_id=receipt.bundle_id,
        app_apple_id=receipt.adam_id,
        renewals=dict(_renewals(answer.pending_renewal_info, signed_at=stated.signed_at)),
    )


def _or(unix_ms: float | None, otherwise: datetime) -> datetime:
    return otherwise if unix_ms is None else from_unix_ms(unix_ms)


def _once_each(statements: Iterable[AppleTransaction]) -> tuple[AppleTransaction, ...] | None:
    """The receipt's lists overlap. Of two rows of one transaction that with a cancellation is the newer; of equals, the
    later, because `latest_receipt_info` says more. None: two rows of one transaction would grant different things.
    """
    found: dict[TransactionId, AppleTransaction] = {}
    for statement in statements:
        before = found.get(statement.transaction.transaction_id)
        if before is not None and _bought(before) != _bought(statement):
            return None
        if before is None or before.revocation is None or statement.revocation is not None:
            found[statement.transaction.transaction_id] = statement
    return tuple(found.values())


def _bought(statement: AppleTransaction) -> tuple[str, int]:
    return statement.transaction.product_id, statement.transaction.quantity


@dataclass(frozen=True, slots=True)
class _Stated:
    """What a receipt says of all its rows.

    `upgraded`: the transactions whose periods an upgrade cut short. Such a row has a cancellation date too, that of the
    upgrade (Apple: Receipt Fields), and is no refund; in `in_app` it has the date, and does not say why.
    """

    environment: Environment
    bundle_id: str
    signed_at: datetime
    product_types: ProductTypes
    upgraded: frozenset[TransactionId]

    def transaction(self, row: _Row) -> AppleTransaction:
        """Raises msgspec.ValidationError."""
        return AppleTransaction(
            transaction=self._stated(row),
            bundle_id=self.bundle_id,
            app_account_token=account_token(row.app_account_token),
            in_app_ownership_type=row.in_app_ownership_type,
            revocation=None if row.transaction_id in self.upgraded else _revocation(row, signed_at=self.signed_at),
        )

    def _stated(self, row: _Row) -> StoreTransaction:
        transaction_id = TransactionId(row.transaction_id)
        original_id = TransactionId(row.original_transaction_id or transaction_id)
        product_type = _evident_type(row) or self.product_types(row.product_id)
        purchased_at = from_unix_ms(row.purchase_date_ms)
        return StoreTransaction(
            store="apple",
            environment=self.environment,
            transaction_id=transaction_id,
            original_transaction_id=original_id,
            product_id=row.product_id,
            product_type=product_type,
            quantity=row.quantity,
            purchased_at=purchased_at,
            signed_at=self.signed_at,
            charge_id=charge_id(
                transaction_id,
                original_id=original_id,
                product_type=product_type,
                purchased_at=purchased_at,
                order_item_id=row.web_order_line_item_id,
            ),
            family_shared=row.in_app_ownership_type == FAMILY_SHARED,
            period=_period(row, product_type),
        )


def _evident_type(row: _Row) -> ProductType | None:
    """Only subscriptions expire, whatever the catalogue calls the product; of others a receipt says nothing."""
    return None if row.expires_date_ms is None else "auto_renewable"


def _period(row: _Row, product_type: ProductType | None) -> Period | None:
    """Raises msgspec.ValidationError: a subscription's row always says when its period ends (appstorereceipts)."""
    if product_type != "auto_renewable":
        return None
    if row.expires_date_ms is None:
        raise msgspec.ValidationError(f"no end of the subscription {row.product_id}")
    return Period(
        expires_at=from_unix_ms(row.expires_date_ms),
        group=row.subscription_group_identifier or None,
        offer=_offer(row),
    )


def _offer(row: _Row) -> Offer | None:
    """A receipt names offers by what they are called, and says of their terms only whether the period is free."""
    discount_type = FREE_TRIAL if row.is_trial_period else None
    named = _named_offer(row, discount_type)
    if named is None and (row.is_trial_period or row.is_in_intro_offer_period):
        return Offer("introductory", discount_type=discount_type)
    return named


def _named_offer(row: _Row | _PendingRenewal, discount_type: str | None = None) -> Offer | None:
    if row.promotional_offer_id:
        return Offer("promotional", row.promotional_offer_id, discount_type)
    if row.offer_code_ref_name:
        return Offer("offer_code", row.offer_code_ref_name, discount_type)
    return None


def _revocation(row: _Row, *, signed_at: datetime) -> Revocation | None:
    """The date comes in three spellings. Without the one that can be read it is taken back all the same, by now."""
    if row.cancellation_date_ms is None and not row.cancellation_date:
        return None
    return Revocation(
        at=_or(row.cancellation_date_ms, signed_at),
        reason=revocation_reason(row.cancellation_reason),
        type=revocation_type(None, row.in_app_ownership_type),
        says_how_much=False,
    )


# ---- what it says of renewals ------------------------------------------------------------------------------------


def _renewals(rows: Any, *, signed_at: datetime) -> Iterator[tuple[TransactionId, Renewal]]:
    """What can be read of it: a purchase is not made to wait for an odd word about another's renewal."""
    for row in rows if isinstance(rows, list) else ():
        try:
            pending = msgspec.convert(row, _PendingRenewal, strict=False)
        except msgspec.ValidationError:
            continue
        yield TransactionId(pending.original_transaction_id), _renewal(pending, signed_at=signed_at)


def _renewal(row: _PendingRenewal, *, signed_at: datetime) -> Renewal:
    """Without the date and the price of the renewal: a receipt does not tell them."""
    asked, consented = row.price_increase_status, row.price_consent_status  # the same, by its newer and its older name
    return Renewal(
        signed_at=signed_at,
        auto_renew=row.auto_renew_status != AUTO_RENEW_OFF,
        product_id=row.auto_renew_product_id,
        offer=_named_offer(row),
        in_billing_retry=row.is_in_billing_retry_period or False,
        grace_period_expires_at=moment(row.grace_period_expires_date_ms),
        expiration_reason=word_or_none(row.expiration_intent, EXPIRATION_INTENTS),
        price_increase=word_or_none(consented if asked is None else asked, PRICE_INCREASE_STATUSES),
    )
