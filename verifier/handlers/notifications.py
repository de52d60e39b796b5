"""Use-case: what the App Store tells us. Purchases and subscriptions are acted on, and whatever becomes of their
refunds; all else stays recorded in the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from shared.apps import App, Apps
from shared.catalog import Catalog
from shared.events import Event, NotificationReceived, Renewal
from shared.outcome import Handled, Parked
from verifier.domain import (
    Act,
    AppleNotification,
    AppleRenewalInfo,
    AppleTransaction,
    as_notified,
    check_app,
    check_inner,
    intent_of,
    read_notification,
)
from verifier.domain.reports import ENDED
from verifier.handlers.holding import Statement
from verifier.handlers.ports import Records, Signatures
from verifier.handlers.proofs import app_of, kept, signed_renewal_info, signed_transaction, sound
from verifier.handlers.settling import Declined, Findings, settle


def receive_notifications(
    events: Sequence[Event[NotificationReceived]],
    *,
    records: Records,
    signatures: Signatures,
    apps: Apps,
    catalog: Catalog,
    now: datetime,
) -> Handled:
    """Each is verified again, with all that is signed inside what is acted on, and what it says meets our record.

    The gateway let it in, so it is no stranger's: one that does not hold is parked, and somebody should look at it.
    """
    findings = Findings()
    for event in events:
        told = findings.read(event, partial(_notified, event, signatures=signatures, apps=apps, now=now))
        if told is not None:
            _find(event, told, findings)
    return settle(findings, records=records, catalog=catalog, now=now)


@dataclass(frozen=True, slots=True)
class Told:
    """What a notification tells of its transaction, and of its subscription's next renewal. `is_declined`: that
    somebody was denied a refund of it. `over`: that the subscription has ended."""

    transaction: AppleTransaction
    renewal: Renewal | None
    is_declined: bool
    over: bool


def _find(event: Event[NotificationReceived], told: Told, findings: Findings) -> None:
    if told.is_declined:
        findings.declined.append(Declined(event, told.transaction.transaction))
    else:
        findings.statements.append(Statement(event, told.transaction, renewal=told.renewal, over=told.over))


def _notified(event: Event[NotificationReceived], *, signatures: Signatures, apps: Apps, now: datetime) -> Told | None:
    """What a notification that is acted on tells; None for one that is only recorded.

    Raises JwsError and Parked, which are final until somebody looks, and JwsUnconfirmed.
    """
    app = app_of(apps, event.app)
    signed = signatures.verify(kept(event.payload.signed_payload), now=now)
    notification = sound(read_notification(signed.claims), "it")
    intent = intent_of(notification)
    if not isinstance(intent, Act):
        return None
    kind = notification.notification_type
    if (refused := check_app(notification, app=app.apple)) is not None:
        if refused.code == "wrong_environment" and notification.environment is not None:
            return None  # the app takes nothing from the sandbox: it was told, and that is all
        raise Parked(f"{kind}: {refused.detail}")
    transaction = _transaction(notification, app=app, signatures=signatures, now=now)
    renewal_info = _renewal_info(notification, signatures=signatures, now=now)
    if (refused := check_inner(notification, transaction, renewal_info)) is not None:
        raise Parked(f"{kind}: {refused.detail}")
    assert transaction is not None  # check_inner: nothing is acted on without one
    return Told(
        transaction=as_notified(transaction, action=intent.action, at=notification.signed_at or now),
        renewal=renewal_info.renewal if renewal_info else None,
        is_declined=intent.action == "declined_refund",
        over=notification.subscription_status in ENDED,
    )


def _transaction(
    notification: AppleNotification, *, app: App, signatures: Signatures, now: datetime
) -> AppleTransaction | None:
    if notification.signed_transaction is None:
        return None
    read = signed_transaction(notification.signed_transaction, app=app, signatures=signatures, now=now)
    return sound(read, f"{notification.notification_type}: its transaction")


def _renewal_info(notification: AppleNotification, *, signatures: Signatures, now: datetime) -> AppleRenewalInfo | None:
    if notification.signed_renewal_info is None:
        return None
    read = signed_renewal_info(notification.signed_renewal_info, signatures=signatures, now=now)
    return sound(read, f"{notification.notification_type}: its renewal info")
