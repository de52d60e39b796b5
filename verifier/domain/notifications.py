"""One App Store Server Notification (version 2) as the App Store states it, typed; and what is to be done about it.

Apple adds types, subtypes and fields every year. What is not known is kept as it came, and what is missing is None: a
notification that cannot be acted on is recorded, never an error. A known field of another type is refused: Apple does
not write that.

Source: developer.apple.com, appstoreservernotifications/responsebodyv2decodedpayload, …/notificationtype, …/subtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import msgspec

from shared.clock import from_unix_ms
from shared.events import Environment
from verifier.domain.kinds import mistaken
from verifier.domain.renewals import AppleRenewalInfo
from verifier.domain.transactions import (
    ENVIRONMENTS,
    FAMILY_REVOKE,
    AppleTransaction,
    Identifier,
    Int32,
    Int64,
    Rejected,
    Revocation,
    UnixMs,
)

SANDBOX_TOKEN_PREFIX = "SANDBOX"  # noqa: S105 — an externalPurchaseId of the sandbox starts with it


@dataclass(frozen=True, slots=True)
class AppleNotification:
    """A notification. `notification_id` stays the same when the App Store sends it again.

    `environment` None: it names none, or one that is never accepted. The signed parts (`signed_…`) are JWS of their own
    and are not verified yet.
    """

    notification_id: str
    notification_type: str
    subtype: str | None
    signed_at: datetime | None
    environment: Environment | None
    bundle_id: str | None
    app_apple_id: int | None
    signed_transaction: str | None
    signed_renewal_info: str | None
    subscription_status: int | None


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    """What stands under any of the four names of a body; none has all of it."""

    bundle_id: str | None = None
    app_apple_id: Int64 | None = None
    environment: str | None = None
    external_purchase_id: str | None = None
    signed_transaction_info: str | None = None
    signed_renewal_info: str | None = None
    status: Int32 | None = None


class _Claims(msgspec.Struct, frozen=True, rename="camel"):
    notification_type: Identifier
    notification_id: Identifier = msgspec.field(name="notificationUUID")
    subtype: str | None = None
    signed_date: UnixMs | None = None
    data: _Body | None = None
    summary: _Body | None = None
    external_purchase_token: _Body | None = None
    app_data: _Body | None = None

    @property
    def body(self) -> _Body:
        """Which app it is about, and the rest. There is one; of several the first counts, as in Apple's library."""
        return self.data or self.summary or self.external_purchase_token or self.app_data or _Body()


def read_notification(claims: Mapping[str, Any]) -> AppleNotification | Rejected:
    """The notification in the claims of a verified JWS.

    Rejected (`receipt_malformed`) when this is something else that Apple signs, when type or id is missing, or when
    anything is of a wrong type.
    """
    if (complaint := mistaken(claims, expected="notification")) is not None:
        return Rejected("receipt_malformed", complaint)
    try:
        stated = msgspec.convert(claims, _Claims)
    except msgspec.ValidationError as error:
        return Rejected("receipt_malformed", f"this is not a notification: {error}")
    body = stated.body
    return AppleNotification(
        notification_id=stated.notification_id,
        notification_type=stated.notification_type,
        subtype=stated.subtype or None,
        signed_at=None if stated.signed_date is None else from_unix_ms(stated.signed_date),
        environment=_environment(body, of_token=body is stated.external_purchase_token),
        bundle_id=body.bundle_id,
        app_apple_id=body.app_apple_id,
        signed_transaction=body.signed_transaction_info,
        signed_renewal_info=body.signed_renewal_info,
        subscription_status=body.status,
    )


def _environment(body: _Body, *, of_token: bool) -> Environment | None:
    """An external purchase token has no environment field: its id says it."""
    if not of_token:
        return ENVIRONMENTS.get(body.environment or "")
    if body.external_purchase_id is None:
        return None
    return "sandbox" if body.external_purchase_id.startswith(SANDBOX_TOKEN_PREFIX) else "production"


# ---- what is to be done ------------------------------------------------------------------------------------------

Action = Literal[
    "purchase",
    "subscription",  # how a subscription stands: a period of it, and its next renewal
    "refund",
    "reversed_refund",  # what was taken back is to be given again
    "declined_refund",  # somebody asked for a refund and was denied it: the purchase stands as it did
    "revocation",  # a family member lost what was shared
]

Why = Literal[
    "refund_request",  # somebody asks the store for a refund: the purchase stands
    "extension",  # the developer asked for later renewal dates, and this is what came of it
    "commerce",  # the developer asked for it by the Advanced Commerce API
    "external_purchase",  # bought elsewhere: the App Store has no transaction of it
    "consent",  # a parent withdrew consent to the app
    "test",  # somebody asked for it
]


@dataclass(frozen=True, slots=True)
class Act:
    """It states a fact that others wait for, most of them one that changes what somebody has: `action` says which."""

    action: Action


@dataclass(frozen=True, slots=True)
class RecordOnly:
    """It is known, and nothing follows from it. `why`: what it is about, in a word."""

    why: Why


@dataclass(frozen=True, slots=True)
class RecordUnknown:
    """Its type, or its subtype, is not known here: recorded, so that it is found when it is."""


Intent = Act | RecordOnly | RecordUnknown


@dataclass(frozen=True, slots=True)
class KnownType:
    """A type that Apple documents: what is to be done about it, and the subtypes that it comes with.

    `of_transaction`: what is to be done instead when it carries a transaction, which Apple does not say of all of them.
    """

    intent: Act | RecordOnly
    subtypes: frozenset[str] = frozenset()
    of_transaction: Act | None = None


def _known(intent: Act | RecordOnly, *subtypes: str) -> KnownType:
    return KnownType(intent, frozenset(subtypes))


_SUBSCRIPTION = Act("subscription")
_COMMERCE = KnownType(RecordOnly("commerce"), of_transaction=_SUBSCRIPTION)

NOTIFICATION_TYPES: Mapping[str, KnownType] = {
    "ONE_TIME_CHARGE": _known(Act("purchase")),
    "REFUND": _known(Act("refund")),
    "REFUND_REVERSED": _known(Act("reversed_refund")),
    "REFUND_DECLINED": _known(Act("declined_refund")),
    "CONSUMPTION_REQUEST": _known(RecordOnly("refund_request")),
    "REVOKE": _known(Act("revocation")),
    "SUBSCRIBED": _known(_SUBSCRIPTION, "INITIAL_BUY", "RESUBSCRIBE"),
    "DID_RENEW": _known(_SUBSCRIPTION, "BILLING_RECOVERY"),
    "DID_CHANGE_RENEWAL_PREF": _known(_SUBSCRIPTION, "UPGRADE", "DOWNGRADE"),
    "DID_CHANGE_RENEWAL_STATUS": _known(_SUBSCRIPTION, "AUTO_RENEW_ENABLED", "AUTO_RENEW_DISABLED"),
    "OFFER_REDEEMED": _known(
        _SUBSCRIPTION, "INITIAL_BUY", "RESUBSCRIBE", "UPGRADE", "DOWNGRADE"
    ),  # the last two since 2024
    "DID_FAIL_TO_RENEW": _known(_SUBSCRIPTION, "GRACE_PERIOD"),
    "GRACE_PERIOD_EXPIRED": _known(_SUBSCRIPTION),
    "EXPIRED": _known(_SUBSCRIPTION, "VOLUNTARY", "BILLING_RETRY", "PRICE_INCREASE", "PRODUCT_NOT_FOR_SALE"),
    "PRICE_INCREASE": _known(_SUBSCRIPTION, "PENDING", "ACCEPTED"),
    "RENEWAL_EXTENDED": _known(_SUBSCRIPTION),
    "RENEWAL_EXTENSION": KnownType(
        RecordOnly("extension"), frozenset({"SUMMARY", "FAILURE"}), of_transaction=_SUBSCRIPTION
    ),
    "METADATA_UPDATE": _COMMERCE,
    "MIGRATION": _COMMERCE,
    "PRICE_CHANGE": _COMMERCE,
    "EXTERNAL_PURCHASE_TOKEN": _known(
        RecordOnly("external_purchase"), "UNREPORTED", "CREATED", "ACTIVE_TOKEN_REMINDER"
    ),
    "RESCIND_CONSENT": _known(RecordOnly("consent")),
    "TEST": _known(RecordOnly("test")),
}
"""Every type and subtype that Apple documents (notificationtype, subtype; as of version 2.20)."""


def intent_of(notification: AppleNotification) -> Intent:
    """What is to be done about a notification.

    A subtype says more about its type, never something else: what is acted on is acted on under a subtype of the future
    too, because a refund must not be missed for one. Of what is only recorded, that subtype is worth a look.
    """
    known = NOTIFICATION_TYPES.get(notification.notification_type)
    if known is None:
        return RecordUnknown()
    if known.of_transaction is not None and notification.signed_transaction is not None:
        return known.of_transaction
    if isinstance(known.intent, RecordOnly) and notification.subtype not in {None, *known.subtypes}:
        return RecordUnknown()
    return known.intent


# ---- what is inside ----------------------------------------------------------------------------------------------


def check_inner(
    notification: AppleNotification, transaction: AppleTransaction | None, renewal_info: AppleRenewalInfo | None
) -> Rejected | None:
    """None when what a notification carries, each verified by itself, belongs to it and together.

    That the notification is about our app is for `check_app`. A renewal info names no app, so it is bound by the
    transaction beside it. Rejected: `receipt_malformed` when what is acted on carries no transaction, or a renewal info
    is of another subscription; `wrong_app`; `wrong_environment`.
    """
    intent = intent_of(notification)
    if transaction is None and isinstance(intent, Act):
        noun = intent.action.replace("_", " ")
        return Rejected("receipt_malformed", f"a {noun} is told without its signed transaction")
    if transaction is not None and transaction.bundle_id != notification.bundle_id:
        return Rejected("wrong_app", "the notification's transaction is about another app")
    if any(part.environment != notification.environment for part in (transaction, renewal_info) if part is not None):
        return Rejected("wrong_environment", "the notification and what it carries are from different environments")
    if transaction is not None and renewal_info is not None and not same_subscription(transaction, renewal_info):
        return Rejected("receipt_malformed", "the notification's renewal info is of another subscription")
    return None


def same_subscription(transaction: AppleTransaction, renewal_info: AppleRenewalInfo) -> bool:
    """A renewal info names no app, so only this ties it to what it came with."""
    return transaction.transaction.original_transaction_id == renewal_info.original_transaction_id


def as_notified(transaction: AppleTransaction, *, action: Action, at: datetime) -> AppleTransaction:
    """The transaction as the notification that it came in has it refunded, or not; `at` is when, if it does not say.

    A notification's type counts for more than the fields of its transaction: Apple does not document which of them a
    reversed refund leaves behind, and a refund without them was one all the same.
    """
    shown = transaction.revocation or Revocation(at=at, reason="unstated")
    match action:
        case "reversed_refund":
            return replace(transaction, revocation=None, refund_reversed=True)
        case "refund":
            return replace(transaction, revocation=shown)
        case "revocation":
            return replace(transaction, revocation=replace(shown, type=FAMILY_REVOKE))
    return transaction
