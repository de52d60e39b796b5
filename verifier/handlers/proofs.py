"""Use-case: StoreKit 2 transactions that clients sent. They carry their own proof, so the store is not asked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.apps import App, Apps
from shared.events import Event, TransactionSubmitted
from shared.ids import AppId
from shared.jws import JwsError, JwsMalformed, JwsUnconfirmed
from shared.outcome import Handled, Later, Parked
from verifier.domain import AppleTransaction, Rejected, check_app, read_transaction
from verifier.handlers.ports import Records, Signatures
from verifier.handlers.settling import Findings, Statement, settle


def verify_transactions(
    events: Sequence[Event[TransactionSubmitted]],
    *,
    records: Records,
    signatures: Signatures,
    apps: Apps,
    now: datetime,
) -> Handled:
    """Each is verified, and meets our record of its transaction."""
    findings = Findings()
    for event in events:
        app = app_of(apps, event.app)
        try:
            read = signed_transaction(event.payload.signed_transaction, app=app, signatures=signatures, now=now)
        except JwsUnconfirmed as unconfirmed:
            findings.later[event.id] = Later(str(unconfirmed), after_s=unconfirmed.retry_after_s)
            continue
        if isinstance(read, Rejected):
            findings.rejections.append((event, read))
        else:
            findings.statements.append(Statement.claimed(event, read, claimed_id=event.payload.transaction_id))
    return settle(findings, records=records, now=now)


def app_of(apps: Apps, app_id: AppId) -> App:
    """Raises Parked: the file has lost an app whose purchases are still on their way."""
    app = apps.by_id.get(app_id)
    if app is None:
        raise Parked(f"the app {app_id!r} is not in the apps file")
    return app


def signed_transaction(token: str, *, app: App, signatures: Signatures, now: datetime) -> AppleTransaction | Rejected:
    """The transaction in a JWS, authentic and about this app, or why it is not. Raises JwsUnconfirmed."""
    try:
        signed = signatures.verify(token, now=now)
    except JwsMalformed as error:
        return Rejected("receipt_malformed", str(error))
    except JwsError as error:
        return Rejected("receipt_unauthentic", str(error))
    transaction = read_transaction(signed.claims)
    if isinstance(transaction, Rejected):
        return transaction
    return check_app(transaction, app=app.apple) or transaction
