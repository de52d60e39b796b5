"""Use-case: StoreKit 2 transactions that clients sent. They carry their own proof, so the store is not asked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from shared.apps import App, Apps
from shared.catalog import Catalog
from shared.events import PROOF_REMOVED, Event, TransactionSubmitted
from shared.ids import AppId
from shared.jws import JwsError, JwsMalformed, JwsUnconfirmed
from shared.outcome import Handled, Later, Parked
from verifier.domain import (
    AppleRenewalInfo,
    AppleTransaction,
    Rejected,
    check_app,
    read_renewal_info,
    read_transaction,
)
from verifier.handlers.holding import Statement
from verifier.handlers.ports import Records, Signatures
from verifier.handlers.settling import Findings, settle


def verify_transactions(
    events: Sequence[Event[TransactionSubmitted]],
    *,
    records: Records,
    signatures: Signatures,
    apps: Apps,
    catalog: Catalog,
    now: datetime,
) -> Handled:
    """Each is verified, and meets our record of its transaction."""
    findings = Findings()
    for event in events:
        app, token = app_of(apps, event.app), kept(event.payload.signed_transaction)
        try:
            read = signed_transaction(token, app=app, signatures=signatures, now=now)
        except JwsUnconfirmed as unconfirmed:
            findings.later[event.id] = Later(str(unconfirmed), after_s=unconfirmed.retry_after_s)
            continue
        if isinstance(read, Rejected):
            findings.rejections.append((event, read))
        else:
            findings.statements.append(Statement.claimed(event, read, claimed_id=event.payload.transaction_id))
    return settle(findings, records=records, catalog=catalog, now=now)


def app_of(apps: Apps, app_id: AppId) -> App:
    """Raises Parked: the file has lost an app whose purchases are still on their way."""
    app = apps.by_id.get(app_id)
    if app is None:
        raise Parked(f"the app {app_id!r} is not in the apps file")
    return app


def kept(proof: str) -> str:
    """The proof that an event carries. Raises Parked: it was removed while it waited for an operator."""
    if proof == PROOF_REMOVED:
        raise Parked("its proof is not kept any more: drop it")
    return proof


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


def signed_renewal_info(token: str, *, signatures: Signatures, now: datetime) -> AppleRenewalInfo | Rejected:
    """The renewal info in a JWS, authentic; whose it is shows only beside its transaction. Raises JwsError."""
    return read_renewal_info(signatures.verify(token, now=now).claims)


T = TypeVar("T")


def sound(read: T | Rejected, what: str) -> T:
    """What was read. Raises Parked when it is refused: it came from the store, so somebody should look at it."""
    if isinstance(read, Rejected):
        raise Parked(f"{what}: {read.detail}")
    return read
