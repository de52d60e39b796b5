"""Notifications of the App Store: which app a verified one is for, and what is recorded of it.

What the App Store has signed for one of our apps is recorded, whatever it is: Apple adds types, subtypes and fields as
it likes, and repeats what is refused. What to make of it is the verifier's to say, who has the whole text.

A notification comes by two roads, when the App Store calls (the gateway) and when it is asked what it had said (the
verifier's reconciliation), and is one event all the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from shared.apps import App, Apps
from shared.events import Draft, NotificationReceived
from shared.ids import TransactionId, notification_subject
from shared.jws import JwsMalformed, peek_claims

_CARRIERS: Final = ("data", "summary", "externalPurchaseToken", "appData")
"""Apple, responseBodyV2DecodedPayload: they exclude each other, and each names the app. Looked for in this order."""
_SANDBOX_MARK: Final = "SANDBOX"
_NOTIFICATION_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_WORD: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,100}")
_TRANSACTION_ID: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")
UNSTATED: Final = "UNSTATED"
"""The type of a notification that states none: what is recorded has one."""


class NotificationInvalid(ValueError):
    """It is signed, but not a notification as Apple describes it (400). The message names the field."""


class NotificationRejected(Exception):
    """It is signed, but for no app of this installation (401)."""


def addressee(claims: Mapping[str, Any], *, apps: Apps) -> App:
    """The app that verified claims are for. Raises NotificationInvalid, NotificationRejected.

    In production the App Store's own number of the app has to agree too, where it is configured: whoever owns a bundle
    id elsewhere has another number.
    """
    carrier = _carrier(claims)
    app = _named(carrier, apps)
    if app is None:
        raise NotificationRejected("the notification is for another app")
    if app.apple.app_apple_id is not None and not _is_sandbox(carrier) and _number(carrier) != app.apple.app_apple_id:
        raise NotificationRejected("the notification is for another app")
    return app


def notification_of(claims: Mapping[str, Any], *, signed_payload: str) -> NotificationReceived:
    """What is recorded of it, beside its text."""
    return NotificationReceived(
        store="apple",
        notification_id=_text(claims, "notificationUUID", _NOTIFICATION_ID) or _digest(signed_payload),
        notification_type=_text(claims, "notificationType", _WORD) or UNSTATED,
        subtype=_text(claims, "subtype", _WORD),
        signed_payload=signed_payload,
        original_transaction_id=_original_transaction_id(claims),
    )


def draft_of(notification: NotificationReceived, *, app: App, trace_id: str, now: datetime) -> Draft:
    """What goes into the journal, once for each subject: by whichever road it comes, and however often."""
    subject = notification_subject(app=app.id, store=notification.store, notification_id=notification.notification_id)
    return Draft(payload=notification, app=app.id, subject=subject, user_id=None, occurred_at=now, trace_id=trace_id)


def _carrier(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in _CARRIERS:
        carrier = claims.get(name)
        if isinstance(carrier, dict):
            return carrier
        if carrier is not None:
            raise NotificationInvalid(f"{name}: an object is wanted")
    raise NotificationRejected("the notification names no app")


def _named(carrier: Mapping[str, Any], apps: Apps) -> App | None:
    """By its bundle id, or where there is none (all members of a carrier are optional) by the App Store's number."""
    bundle_id = carrier.get("bundleId")
    if bundle_id is None and (number := _number(carrier)) is not None:
        return next((app for app in apps if app.apple.app_apple_id == number), None)
    return apps.by_bundle_id.get(bundle_id) if isinstance(bundle_id, str) else None


def _number(carrier: Mapping[str, Any]) -> int | None:
    number = carrier.get("appAppleId")
    return number if type(number) is int else None


def _is_sandbox(carrier: Mapping[str, Any]) -> bool:
    """An external purchase token has no environment; its id says it (Apple, externalPurchaseId)."""
    environment, token = carrier.get("environment"), carrier.get("externalPurchaseId")
    if environment is None and isinstance(token, str):
        return token.startswith(_SANDBOX_MARK)
    return bool(environment == "Sandbox")


def _text(claims: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str | None:
    """None for what is not there, or cannot be kept as a word of its own."""
    value = claims.get(name)
    return value if isinstance(value, str) and pattern.fullmatch(value) is not None else None


def _original_transaction_id(claims: Mapping[str, Any]) -> TransactionId | None:
    """Of the transaction inside, which whoever signed the notification has signed with it."""
    data = claims.get("data")
    signed = data.get("signedTransactionInfo") if isinstance(data, dict) else None
    try:
        said = peek_claims(signed) if isinstance(signed, str) else {}
    except JwsMalformed:
        return None
    found = _text(said, "originalTransactionId", _TRANSACTION_ID)
    return None if found is None else TransactionId(found)


def _digest(signed_payload: str) -> str:
    """An id for a notification without one: of what is signed, since one thing may be signed in many ways."""
    signed, _, _ = signed_payload.rpartition(".")
    return hashlib.sha256(signed.encode()).hexdigest()
