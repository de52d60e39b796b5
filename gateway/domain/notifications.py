"""Notifications of the App Store: which app a verified one is for, and what is recorded of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from shared.apps import App, Apps
from shared.events import NotificationReceived

_CARRIERS: Final = ("data", "summary", "externalPurchaseToken", "appData")
"""Apple, responseBodyV2DecodedPayload: they exclude each other, and each names the app. Looked for in this order."""
_SANDBOX_MARK: Final = "SANDBOX"
_NOTIFICATION_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_TYPE: Final = re.compile(r"[0-9A-Za-z_.-]{1,100}")  # open: Apple adds types and subtypes as it likes


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
    bundle_id = carrier.get("bundleId")
    app = apps.by_bundle_id.get(bundle_id) if isinstance(bundle_id, str) else None
    if app is None:
        raise NotificationRejected("the notification is for another app")
    if app.apple.app_apple_id is not None and not _is_sandbox(carrier):
        number = carrier.get("appAppleId")
        if type(number) is not int or number != app.apple.app_apple_id:
            raise NotificationRejected("the notification is for another app")
    return app


def notification_of(claims: Mapping[str, Any], *, signed_payload: str) -> NotificationReceived:
    """What is recorded of it. Raises NotificationInvalid."""
    return NotificationReceived(
        store="apple",
        notification_id=_text(claims, "notificationUUID", _NOTIFICATION_ID),
        notification_type=_text(claims, "notificationType", _TYPE),
        subtype=_text(claims, "subtype", _TYPE) if claims.get("subtype") is not None else None,
        signed_payload=signed_payload,
    )


def _carrier(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in _CARRIERS:
        carrier = claims.get(name)
        if isinstance(carrier, dict):
            return carrier
        if carrier is not None:
            raise NotificationInvalid(f"{name}: an object is wanted")
    raise NotificationRejected("the notification names no app")


def _is_sandbox(carrier: Mapping[str, Any]) -> bool:
    """An external purchase token has no environment; its id says it (Apple, externalPurchaseId)."""
    token = carrier.get("externalPurchaseId")
    if isinstance(token, str):
        return token.startswith(_SANDBOX_MARK)
    return bool(carrier.get("environment") == "Sandbox")


def _text(claims: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise NotificationInvalid(f"{name}: it is missing or malformed")
    return value
