"""The use-cases: a client's proof, the store's answer about a receipt, a notification, an account token.

All of them end in the same place: a statement of the store about one transaction, checked to be authentic and about
this app, meets our record of it under the record's lock. So it does not matter which road a purchase came by, how
often, and in which order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from shared.apps import App, Apps
from shared.events import (
    AccountTokenIssued,
    Draft,
    Event,
    NotificationReceived,
    Payload,
    PurchaseRejected,
    PurchaseVerified,
    ReceiptSubmitted,
    RefundReceived,
    TransactionSubmitted,
    following,
)
from shared.ids import AppId, EventId, PurchaseId, TransactionId, UserId, transaction_subject
from shared.jws import JwsError, JwsMalformed, SignedPayload
from shared.outcome import Handled, Parked, TryLater
from verifier.domain import (
    AppleTransaction,
    ReceiptRefused,
    ReceiptValid,
    Rejected,
    Revocation,
    StoreBusy,
    StoreMisconfigured,
    check_app,
    decide_claim,
    read_notification,
    read_transaction,
)
from verifier.domain.records import Record, TransactionKey

UNREADABLE_TRIES_MAX: Final = 5
"""verifyReceipt's 21002 means a broken receipt or a passing trouble of the store. After so many tries, the receipt."""


class Signatures(Protocol):
    """Checks the store's signatures."""

    def verify(self, token: str, *, now: datetime) -> SignedPayload:
        """Raises JwsError."""
        ...


class ReceiptStore(Protocol):
    """Asks the store about a receipt."""

    def verify(self, receipt: str, *, app: App) -> ReceiptValid | ReceiptRefused | StoreBusy | StoreMisconfigured: ...


class Records(Protocol):
    """Our records of store transactions and of account tokens, in one database transaction."""

    def token_holders(self, tokens: Iterable[tuple[AppId, UUID]]) -> Mapping[tuple[AppId, UUID], UserId]:
        """The users to whom these tokens were issued. Issuing one of them waits until this transaction has ended."""
        ...

    def issue_tokens(self, tokens: Mapping[tuple[AppId, UUID], UserId]) -> None:
        """Records to whom tokens were issued."""
        ...

    def lock(self, keys: Iterable[TransactionKey]) -> dict[TransactionKey, Record]:
        """The records of these transactions, new ones for those that had none, held until this transaction ends."""
        ...

    def lock_unclaimed(self, tokens: Iterable[tuple[AppId, UUID]]) -> dict[TransactionKey, Record]:
        """The records that nobody has claimed and whose account token is one of these, held likewise."""
        ...

    def save(self, records: Iterable[Record]) -> None: ...

    def claimed(self, purchase_ids: Mapping[PurchaseId, tuple[AppId, TransactionId]]) -> frozenset[PurchaseId]:
        """Those of the claims that were found good before."""
        ...


@dataclass(frozen=True, slots=True)
class Statement:
    """An authentic statement about this app's transaction, and what became of it.

    `claimant` is who claims it (None: it is a fact, and its account token may tell whose); a claim that is `told` gets
    its rejection too. `revocation` is what the store took back, if it says so.
    """

    event: Event[Payload]
    transaction: AppleTransaction
    claimant: UserId | None = None
    claimed_id: TransactionId | None = None
    told: bool = False
    revocation: Revocation | None = None

    @property
    def key(self) -> TransactionKey:
        return TransactionKey.of(self.event.app, self.transaction.transaction)

    @property
    def token(self) -> tuple[AppId, UUID] | None:
        token = self.transaction.app_account_token
        return (self.event.app, token) if token is not None else None


@dataclass(slots=True)
class _Findings:
    """What a batch came to, before anything is written."""

    statements: list[Statement] = field(default_factory=list)
    rejections: list[tuple[Event[Payload], Rejected]] = field(default_factory=list)
    parked: dict[EventId, str] = field(default_factory=dict)


def verify_transactions(
    events: Sequence[Event[TransactionSubmitted]],
    *,
    records: Records,
    signatures: Signatures,
    apps: Apps,
    now: datetime,
) -> Handled:
    """StoreKit 2 transactions that clients sent: verified here, the store is not asked."""
    findings = _Findings()
    for event in events:
        read = _signed_transaction(event.payload.signed_transaction, event.app, signatures, apps, now)
        if isinstance(read, Rejected):
            findings.rejections.append((event, read))
        else:
            findings.statements.append(_claim(event, read, event.payload.transaction_id))
    return _settle(findings, records=records, now=now)


def ask_store(
    event: Event[ReceiptSubmitted], tries_before: int, *, store: ReceiptStore, apps: Apps
) -> ReceiptValid | ReceiptRefused:
    """What the store says of a receipt. With no transaction open.

    Raises TryLater when it does not say, Parked when it says that we are wrong.
    """
    answer = store.verify(event.payload.receipt, app=_app(apps, event.app))
    match answer:
        case StoreMisconfigured():
            raise Parked(f"verifyReceipt {answer.status}: {answer.detail}")
        case StoreBusy(persisting=refused) if refused is not None and tries_before >= UNREADABLE_TRIES_MAX:
            return refused
        case StoreBusy():
            status = "" if answer.status is None else f"verifyReceipt {answer.status}: "
            raise TryLater(status + answer.reason, after_s=answer.retry_after_s)
    return answer


def settle_receipt(
    event: Event[ReceiptSubmitted],
    answer: ReceiptValid | ReceiptRefused,
    *,
    records: Records,
    apps: Apps,
    now: datetime,
) -> Handled:
    """A receipt that the store has answered. Its other unfinished consumables are credited too: each was paid for, and
    the app is about to finish them. What a receipt keeps for ever (subscriptions, non-consumables) waits to be claimed.
    """
    findings = _Findings()
    if isinstance(answer, ReceiptRefused):
        findings.rejections.append((event, Rejected(answer.code, f"{answer.detail} (status {answer.status})")))
        return _settle(findings, records=records, now=now)
    refused = check_app(answer, app=_app(apps, event.app).apple)
    claimed = refused or answer.find(event.payload.transaction_id)
    if isinstance(claimed, Rejected):
        findings.rejections.append((event, claimed))
    else:
        findings.statements.append(_claim(event, claimed, event.payload.transaction_id))
    if refused is None:
        findings.statements += [
            _claim(event, other, other.transaction.transaction_id, told=False)
            for other in answer.transactions
            if other is not claimed and (_may_be_consumable(other) or other.revocation is not None)
        ]
    return _settle(findings, records=records, now=now)


def receive_notifications(
    events: Sequence[Event[NotificationReceived]],
    *,
    records: Records,
    signatures: Signatures,
    apps: Apps,
    now: datetime,
) -> Handled:
    """What the App Store told us. Purchases and refunds are acted on; all else stays recorded in the journal."""
    findings = _Findings()
    for event in events:
        try:
            statement = _notified(event, signatures, apps, now)
        except (JwsError, Parked) as error:
            # The gateway let it in, so it is no stranger's: somebody should look at it.
            findings.parked[event.id] = str(error)
            continue
        if statement is not None:
            findings.statements.append(statement)
    return _settle(findings, records=records, now=now)


def issue_account_tokens(events: Sequence[Event[AccountTokenIssued]], *, records: Records, now: datetime) -> Handled:
    """Tokens that were issued to users; what was bought with one of them before we knew whose it is gets its owner."""
    issued = {(event.app, event.payload.token): event for event in events}
    records.token_holders(issued)
    records.issue_tokens({token: event.user_id for token, event in issued.items() if event.user_id is not None})
    drafts: list[Draft] = []
    claimed: list[Record] = []
    for key, record in records.lock_unclaimed(issued).items():
        event = issued[key.app, record.account_token] if record.account_token else None
        if event is None or event.user_id is None or record.statement is None or record.known.refunded:
            continue
        owned = record.claimed(event.user_id)
        claimed.append(owned)
        drafts.append(_verified(event, owned, now))
    records.save(claimed)
    return Handled(drafts)


def _app(apps: Apps, app_id: AppId) -> App:
    """Raises Parked: the file has lost an app whose purchases are still on their way."""
    app = apps.by_id.get(app_id)
    if app is None:
        raise Parked(f"the app {app_id!r} is not in the apps file")
    return app


# ---- from proofs to statements ----------------------------------------------------------------------------------


def _signed_transaction(
    token: str, app_id: AppId, signatures: Signatures, apps: Apps, now: datetime
) -> AppleTransaction | Rejected:
    try:
        signed = signatures.verify(token, now=now)
    except JwsMalformed as error:
        return Rejected("receipt_malformed", str(error))
    except JwsError as error:
        return Rejected("receipt_unauthentic", str(error))
    transaction = read_transaction(signed.claims)
    if isinstance(transaction, Rejected):
        return transaction
    return check_app(transaction, app=_app(apps, app_id).apple) or transaction


def _claim(
    event: Event[Payload], transaction: AppleTransaction, claimed_id: TransactionId, *, told: bool = True
) -> Statement:
    return Statement(
        event, transaction, claimant=event.user_id, claimed_id=claimed_id, told=told, revocation=transaction.revocation
    )


def _may_be_consumable(statement: AppleTransaction) -> bool:
    return statement.transaction.product_type in {"consumable", None}


def _notified(
    event: Event[NotificationReceived], signatures: Signatures, apps: Apps, now: datetime
) -> Statement | None:
    """The statement in a notification that is acted on; None for one that is only recorded. Raises JwsError, Parked."""
    notification = read_notification(signatures.verify(event.payload.signed_payload, now=now).claims)
    if isinstance(notification, Rejected):
        raise Parked(notification.detail)
    if notification.notification_type not in {"ONE_TIME_CHARGE", "REFUND"}:
        return None
    if (refused := check_app(notification, app=_app(apps, event.app).apple)) is not None:
        if refused.code == "wrong_environment":
            return None  # the app takes nothing from the sandbox: it was told, and that is all
        raise Parked(f"{notification.notification_type}: {refused.detail}")
    transaction = _signed_transaction(notification.signed_transaction or "", event.app, signatures, apps, now)
    if isinstance(transaction, Rejected):
        raise Parked(f"{notification.notification_type}: its transaction: {transaction.detail}")
    if transaction.environment != notification.environment:
        raise Parked(f"{notification.notification_type}: its transaction is from another environment")
    revocation = transaction.revocation
    if notification.notification_type == "REFUND" and revocation is None:
        revocation = Revocation(at=notification.signed_at or now, reason="unstated")
    return Statement(event, transaction, revocation=revocation)


# ---- from statements to events ----------------------------------------------------------------------------------


def _settle(findings: _Findings, *, records: Records, now: datetime) -> Handled:
    """Statements meet the records, under their locks: account tokens first, then the records in their keys' order.

    The order is the same everywhere, so that no two transactions wait for each other in a circle.
    """
    holders = records.token_holders({statement.token for statement in findings.statements if statement.token})
    held = records.lock({statement.key for statement in findings.statements})
    before = dict(held)
    drafts: list[Draft] = []
    for statement in findings.statements:
        record, led_to = _meet(statement, held[statement.key], holders, now)
        held[statement.key] = record
        drafts += led_to
    records.save(record for key, record in held.items() if record != before[key])
    drafts += _rejections(findings.rejections, records, now)
    return Handled(drafts, parked=findings.parked)


def _meet(
    statement: Statement, record: Record, holders: Mapping[tuple[AppId, UUID], UserId], now: datetime
) -> tuple[Record, list[Draft]]:
    """One statement meets the record of its transaction: the record afterwards, and what follows."""
    drafts: list[Draft] = []
    record = record.stated(statement.transaction)
    holder = holders.get(statement.token) if statement.token else None
    claimant = statement.claimant or holder
    if claimant is not None:
        decided = decide_claim(
            statement=statement.transaction,
            claimed_id=statement.claimed_id or record.key.transaction_id,
            claimant=claimant,
            known=record.known,
            token_holder=holder,
        )
        if isinstance(decided, Rejected):
            if statement.told and record.user_id != claimant:
                drafts.append(_rejected(statement.event, decided, statement.transaction, now))
        elif record.user_id is None:
            record = record.claimed(claimant)
            drafts.append(_verified(statement.event, record, now))
    if statement.revocation is not None and statement.revocation.percentage_milli > record.refunded_milli:
        record = record.refunded(statement.revocation.percentage_milli)
        drafts.append(_refund(statement, statement.revocation, record, now))
    return record, drafts


def _verified(event: Event[Payload], record: Record, now: datetime) -> Draft:
    assert record.statement is not None
    assert record.purchase_id is not None
    payload = PurchaseVerified(record.purchase_id, record.statement)
    return following(event, payload, subject=record.purchase_id, user_id=record.user_id, occurred_at=now)


def _refund(statement: Statement, revocation: Revocation, record: Record, now: datetime) -> Draft:
    key = record.key
    unowned = transaction_subject(
        app=key.app, store=key.store, environment=key.environment, transaction_id=key.transaction_id
    )
    payload = RefundReceived(
        transaction=statement.transaction.transaction,
        revoked_at=revocation.at,
        reason=revocation.reason,
        percentage_milli=revocation.percentage_milli,
        purchase_id=record.purchase_id,
    )
    subject = record.purchase_id or unowned
    return following(statement.event, payload, subject=subject, user_id=record.user_id, occurred_at=now)


def _rejected(event: Event[Payload], rejected: Rejected, transaction: AppleTransaction | None, now: datetime) -> Draft:
    submitted = event.payload
    assert isinstance(submitted, TransactionSubmitted | ReceiptSubmitted)
    payload = PurchaseRejected(
        purchase_id=PurchaseId(event.subject),
        store=submitted.store,
        transaction_id=submitted.transaction_id,
        code=rejected.code,
        detail=rejected.detail,
        environment=transaction.environment if transaction else None,
        product_id=transaction.transaction.product_id if transaction else None,
    )
    return following(event, payload, occurred_at=now)


def _rejections(rejections: Sequence[tuple[Event[Payload], Rejected]], records: Records, now: datetime) -> list[Draft]:
    """A proof that is no good takes nothing back: whoever has the purchase already is not told that it was refused."""
    if not rejections:
        return []
    had = records.claimed({PurchaseId(event.subject): (event.app, _transaction_id(event)) for event, _ in rejections})
    return [_rejected(event, rejected, None, now) for event, rejected in rejections if event.subject not in had]


def _transaction_id(event: Event[Payload]) -> TransactionId:
    assert isinstance(event.payload, TransactionSubmitted | ReceiptSubmitted)
    return event.payload.transaction_id
