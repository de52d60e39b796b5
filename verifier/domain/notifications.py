"""One App Store Server Notification (version 2) as the App Store states it, typed.

Apple adds types, subtypes and fields every year. What is not known is kept as it came, and what is missing is None: a
notification that cannot be acted on is recorded, never an error.

Source: developer.apple.com, appstoreservernotifications/responsebodyv2decodedpayload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from shared.clock import from_unix_ms
from shared.events import Environment
from verifier.domain.transactions import ENVIRONMENTS, Identifier, Rejected, UnixMs

SANDBOX_TOKEN_PREFIX = "SANDBOX"  # noqa: S105 — an externalPurchaseId of the sandbox starts with it

_BODIES = ("data", "summary", "externalPurchaseToken", "appData")
"""Where a notification says which app it is about; it has one of them. The order is that of Apple's library."""


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


class _Head(msgspec.Struct, frozen=True, rename={"notification_id": "notificationUUID"}):
    notification_id: Identifier
    notification_type: Identifier = msgspec.field(name="notificationType")


def read_notification(claims: Mapping[str, Any]) -> AppleNotification | Rejected:
    """The notification in the claims of a verified JWS.

    Rejected (`receipt_malformed`) when this is something else that Apple signs: a transaction, or a thing without type
    or id.
    """
    if "transactionId" in claims:
        return Rejected("receipt_malformed", "this is a transaction, not a notification")
    try:
        head = msgspec.convert(claims, _Head)
    except msgspec.ValidationError as error:
        return Rejected("receipt_malformed", f"this is not a notification: {error}")
    body = _body(claims)
    return AppleNotification(
        notification_id=head.notification_id,
        notification_type=head.notification_type,
        subtype=_text(claims, "subtype"),
        signed_at=_moment(claims, "signedDate"),
        environment=_environment(body),
        bundle_id=_text(body, "bundleId"),
        app_apple_id=_number(body, "appAppleId"),
        signed_transaction=_text(body, "signedTransactionInfo"),
        signed_renewal_info=_text(body, "signedRenewalInfo"),
        subscription_status=_number(body, "status"),
    )


def _body(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    found = next((claims[name] for name in _BODIES if claims.get(name) is not None), None)
    return found if isinstance(found, dict) else {}


def _environment(body: Mapping[str, Any]) -> Environment | None:
    """An external purchase token has no environment field: its id says it."""
    token_id = _text(body, "externalPurchaseId")
    if token_id is not None:
        return "sandbox" if token_id.startswith(SANDBOX_TOKEN_PREFIX) else "production"
    return ENVIRONMENTS.get(_text(body, "environment") or "")


def _text(stated: Mapping[str, Any], name: str) -> str | None:
    value = stated.get(name)
    return value if isinstance(value, str) else None


def _number(stated: Mapping[str, Any], name: str) -> int | None:
    value = stated.get(name)
    return value if type(value) is int else None


def _moment(stated: Mapping[str, Any], name: str) -> datetime | None:
    try:
        return from_unix_ms(msgspec.convert(stated.get(name), UnixMs))
    except msgspec.ValidationError:
        return None
