"""What is on record of one store transaction, and how a statement, a claim or a refund changes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from shared.events import Environment, Store, StoreTransaction
from shared.ids import AppId, PurchaseId, TransactionId, UserId, purchase_id
from verifier.domain.claims import KnownTransaction
from verifier.domain.transactions import REVOKED_WHOLLY_MILLI, AppleTransaction


class TransactionKey(NamedTuple):
    """What a store transaction is known by; the order of keys is the order in which their rows are locked."""

    app: AppId
    store: Store
    environment: Environment
    transaction_id: TransactionId

    @classmethod
    def of(cls, app: AppId, transaction: StoreTransaction) -> TransactionKey:
        return cls(app, transaction.store, transaction.environment, transaction.transaction_id)


@dataclass(frozen=True, slots=True)
class Record:
    """A store transaction: its owner, once somebody has claimed it; the store's newest statement; what is refunded.

    `account_token` is kept only where it may tell the owner: not for what a family member shares. It is that of the
    newest statement that has one (`token_signed_at`): a receipt does not show the account token of a consumable.
    `refunded_milli` likewise is that of the newest statement that says how far it is refunded (`revoked_signed_at`);
    most say nothing about that.
    """

    key: TransactionKey
    user_id: UserId | None = None
    purchase_id: PurchaseId | None = None
    account_token: UUID | None = None
    token_signed_at: datetime | None = None
    signed_at: datetime | None = None
    revoked_signed_at: datetime | None = None
    refunded_milli: int = 0
    statement: StoreTransaction | None = None

    @property
    def known(self) -> KnownTransaction:
        """The record as far as it decides a claim; what is refunded in part may still be claimed for its rest."""
        return KnownTransaction(owner=self.user_id, refunded=self.refunded_milli >= REVOKED_WHOLLY_MILLI)

    @property
    def token(self) -> tuple[AppId, UUID] | None:
        """The account token among those of all apps."""
        return None if self.account_token is None else (self.key.app, self.account_token)

    def stated(self, statement: AppleTransaction) -> Record:
        """After a statement of the store: of two, the one that was signed later counts."""
        record = self._with_token(statement)._with_refund(statement)
        signed_at = statement.transaction.signed_at
        if self.signed_at is not None and self.signed_at >= signed_at:
            return record
        return replace(record, statement=statement.transaction, signed_at=signed_at)

    def _with_token(self, statement: AppleTransaction) -> Record:
        token, signed_at = statement.app_account_token, statement.transaction.signed_at
        if token is None or statement.in_app_ownership_type != "PURCHASED":
            return self
        if self.token_signed_at is not None and self.token_signed_at >= signed_at:
            return self
        return replace(self, account_token=token, token_signed_at=signed_at)

    def _with_refund(self, statement: AppleTransaction) -> Record:
        """A refund tells the whole that is refunded by then, a reversal that nothing is: so the newest says it all, and
        it may lower the percentage. Of two that were signed in the same millisecond, that which takes more counts."""
        signed_at, milli = statement.transaction.signed_at, statement.refunded_milli
        if milli is None:
            return self
        if self.revoked_signed_at is not None and (self.revoked_signed_at, self.refunded_milli) >= (signed_at, milli):
            return self
        return replace(self, revoked_signed_at=signed_at, refunded_milli=milli)

    def tells_of_refunds(self, before: Record) -> bool:
        """That this record says something new about refunds to whoever knew the record `before`.

        A reversal that comes before its refund is news too: the refund, when it comes, counts no more.
        """
        first = before.revoked_signed_at is None and self.revoked_signed_at is not None
        return first or self.refunded_milli != before.refunded_milli

    def claimed(self, user_id: UserId) -> Record:
        """After a claim that was found good. The first claimant is the owner, for good."""
        if self.user_id is not None:
            return self
        return replace(self, user_id=user_id, purchase_id=self.purchase_id_of(user_id))

    def purchase_id_of(self, user_id: UserId) -> PurchaseId:
        """The id of this user's claim to it."""
        key = self.key
        return purchase_id(app=key.app, store=key.store, transaction_id=key.transaction_id, user_id=user_id)
