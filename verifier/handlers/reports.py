"""Use-case: what the App Store answered when it was asked how a subscription stands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from shared.apps import App, Apps
from shared.catalog import Catalog
from shared.events import Event, SubscriptionReported
from shared.outcome import Handled, Parked
from verifier.domain import AppleTransaction, as_reported, check_report
from verifier.domain.reports import ENDED
from verifier.handlers.holding import Statement
from verifier.handlers.ports import Records, Signatures
from verifier.handlers.proofs import app_of, kept, signed_renewal_info, signed_transaction, sound
from verifier.handlers.settling import Findings, settle

_REPORT = "Get All Subscription Statuses"


def receive_reports(
    events: Sequence[Event[SubscriptionReported]],
    *,
    records: Records,
    signatures: Signatures,
    apps: Apps,
    catalog: Catalog,
    now: datetime,
) -> Handled:
    """Each part is verified, and what it says meets our record, as if a notification had told it.

    Nobody but the store was asked, so one that does not hold is parked, and somebody should look at it.
    """
    findings = Findings()
    for event in events:
        statement = findings.read(event, partial(_reported, event, signatures=signatures, apps=apps, now=now))
        findings.statements += [statement] if statement else []
    return settle(findings, records=records, catalog=catalog, now=now)


def _reported(
    event: Event[SubscriptionReported], *, signatures: Signatures, apps: Apps, now: datetime
) -> Statement | None:
    """None when the app takes nothing from the sandbox any more. Raises JwsError, Parked and JwsUnconfirmed."""
    report, app = event.payload, app_of(apps, event.app)
    if report.environment == "sandbox" and app.apple.sandbox == "refuse":
        return None
    transaction = _transaction(event, signatures=signatures, app=app, now=now)
    renewal_info = None
    if report.signed_renewal_info is not None:
        read = signed_renewal_info(report.signed_renewal_info, signatures=signatures, now=now)
        renewal_info = sound(read, f"{_REPORT}: its renewal info")
    if (refused := check_report(report.original_transaction_id, transaction, renewal_info)) is not None:
        raise Parked(f"{_REPORT}: {refused.detail}")
    return Statement(
        event,
        as_reported(transaction, status=report.status),
        renewal=renewal_info.renewal if renewal_info else None,
        over=report.status in ENDED,
    )


def _transaction(
    event: Event[SubscriptionReported], *, signatures: Signatures, app: App, now: datetime
) -> AppleTransaction:
    report = event.payload
    read = signed_transaction(kept(report.signed_transaction), app=app, signatures=signatures, now=now)
    transaction = sound(read, f"{_REPORT}: its transaction")
    if transaction.environment != report.environment:
        raise Parked(f"{_REPORT}: the {report.environment} store states a transaction of the {transaction.environment}")
    return transaction
