"""Where all roads meet: authentic statements of the store, our records of their transactions, and what follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from shared.events import (
    Draft,
    Event,
    Payload,
    PurchaseRejected,
    PurchaseVerified,
    ReceiptSubmitted,
    RefundDeclined,
    RefundReceived,
    RefundReversed,
    StoreTransaction,
    TransactionIdSubmitted,
    TransactionSubmitted,
    following,
)
from shared.ids import AppId, EventId, PurchaseId, TransactionId, UserId, transaction_subject
from shared.outcome import Handled, Later
from verifier.domain import AppleTransaction, Rejected, decide_claim
from verifier.domain.records import Record, TransactionKey
from verifier.handlers.ports import Records


@dataclass(frozen=True, slots=True)
class Statement:
    """An authentic statement about this app's transaction, and what became of it.

    `claimant` is who claims it (None: it is a fact, and its account token may tell whose); a claim that is `told` gets
    its rejection too, and one that is not `proven` needs the account token to say the same.
    """

    event: Event[Payload]
    transaction: AppleTransaction
    claimant: UserId | None = None
    claimed_id: TransactionId | None = None
    told: bool = False
    proven: bool = True

    @classmethod
    def claimed(
        cls,
        event: Event[Payload],
        transaction: AppleTransaction,
        *,
        claimed_id: TransactionId,
        told: bool = True,
        proven: bool = True,
    ) -> Statement:
        """A statement that came with the claim of the event's user."""
        return cls(
            event,
            transaction,
            claimant=event.user_id,
            claimed_id=claimed_id,
            told=told,
            proven=proven,
        )

    @property
    def key(self) -> TransactionKey:
        return TransactionKey.of(self.event.app, self.transaction.transaction)

    @property
    def token(self) -> tuple[AppId, UUID] | None:
        token = self.transaction.app_account_token
        return (self.event.app, token) if token is not None else None


@dataclass(frozen=True, slots=True)
class Declined:
    """The store's word that it refunds nothing to somebody who asked: told on, and on record nothing changes."""

    event: Event[Payload]
    transaction: StoreTransaction

    @property
    def key(self) -> TransactionKey:
        return TransactionKey.of(self.event.app, self.transaction)


@dataclass(slots=True)
class Findings:
    """What a batch came to, before anything is written."""

    statements: list[Statement] = field(default_factory=list)
    declined: list[Declined] = field(default_factory=list)
    rejections: list[tuple[Event[Payload], Rejected]] = field(default_factory=list)
    parked: dict[EventId, str] = field(default_factory=dict)
    later: dict[EventId, Later] = field(default_factory=dict)


Submitted = TransactionSubmitted | ReceiptSubmitted | TransactionIdSubmitted
Holders = Mapping[tuple[AppId, UUID], UserId]


def settle(findings: Findings, *, records: Records, now: datetime) -> Handled:
    """Statements meet the records, under their locks: account tokens first, then the records in their keys' order.

    The order is the same everywhere, so that no two transactions wait for each other in a circle.
    """
    tokens = {statement.token for statement in findings.statements if statement.token}
    holders = dict(records.token_holders(tokens))
    keys = {statement.key for statement in findings.statements} | {declined.key for declined in findings.declined}
    held = records.lock(keys)
    remembered = {record.token for record in held.values() if record.token}
    holders |= records.known_holders(remembered - tokens)
    before = dict(held)
    drafts: list[Draft] = []
    for statement in findings.statements:
        record, led_to = _meet(statement, held[statement.key], holders, now)
        held[statement.key] = record
        drafts += led_to
    records.save(record for key, record in held.items() if record != before[key])
    drafts += [_declined(declined, held[declined.key], now) for declined in findings.declined]
    drafts += _rejections(findings.rejections, records, now)
    return Handled(drafts, parked=findings.parked, later=findings.later)


def _meet(statement: Statement, record: Record, holders: Holders, now: datetime) -> tuple[Record, list[Draft]]:
    """One statement meets the record of its transaction: the record afterwards, and what follows."""
    drafts: list[Draft] = []
    before, record = record, record.stated(statement.transaction)
    holder = holders.get(record.token) if record.token else None
    claimant = statement.claimant or holder
    if claimant is not None:
        decided = decide_claim(
            statement=statement.transaction,
            claimed_id=statement.claimed_id or record.key.transaction_id,
            claimant=claimant,
            known=record.known,
            token_holder=holder,
            proven=statement.proven,
        )
        if isinstance(decided, Rejected):
            if statement.told and record.user_id != claimant:
                shown = statement.transaction if statement.proven else None
                drafts.append(_rejected(statement.event, decided, shown, now))
        elif record.user_id is None:
            record = record.claimed(claimant)
            drafts.append(verified(statement.event, record, now))
    if record.tells_of_refunds(before):
        drafts.append(_about_refunds(statement, record, now))
    return record, drafts


def verified(event: Event[Payload], record: Record, now: datetime) -> Draft:
    """That the owner of the record has a good claim, as it followed from an event."""
    assert record.statement is not None
    assert record.purchase_id is not None
    payload = PurchaseVerified(record.purchase_id, record.statement)
    return following(event, payload, subject=record.purchase_id, user_id=record.user_id, occurred_at=now)


def _about_refunds(statement: Statement, record: Record, now: datetime) -> Draft:
    """How far the transaction is refunded by the statement that counts; a refund of nothing leaves it as a reversal."""
    transaction, revocation = statement.transaction.transaction, statement.transaction.revocation
    if revocation is None or record.refunded_milli == 0:
        return _fact(statement.event, RefundReversed(transaction, record.purchase_id), record, now)
    payload = RefundReceived(
        transaction=transaction,
        revoked_at=revocation.at,
        reason=revocation.reason,
        percentage_milli=revocation.percentage_milli,
        purchase_id=record.purchase_id,
        cause=revocation.cause,
    )
    return _fact(statement.event, payload, record, now)


def _declined(declined: Declined, record: Record, now: datetime) -> Draft:
    return _fact(declined.event, RefundDeclined(declined.transaction, record.purchase_id), record, now)


def _fact(event: Event[Payload], payload: Payload, record: Record, now: datetime) -> Draft:
    """A fact about the owner's purchase, or about nobody's: it is not of whoever named the transaction."""
    key = record.key
    unowned = transaction_subject(
        app=key.app, store=key.store, environment=key.environment, transaction_id=key.transaction_id
    )
    draft = following(event, payload, subject=record.purchase_id or unowned, occurred_at=now)
    return replace(draft, user_id=record.user_id)


def _rejected(event: Event[Payload], rejected: Rejected, transaction: AppleTransaction | None, now: datetime) -> Draft:
    submitted = event.payload
    assert isinstance(submitted, Submitted)
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
    assert isinstance(event.payload, Submitted)
    return event.payload.transaction_id
