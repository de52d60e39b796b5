"""What is on record of one store transaction, and how a statement, a claim or a refund changes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from shared.events import Environment, Offer, Period, Revoked, Store, StoreTransaction
from shared.ids import (
    AppId,
    PurchaseId,
    SubscriptionId,
    TransactionId,
    UserId,
    is_pseudonym,
    purchase_id,
    subscription_id,
)
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


class OriginKey(NamedTuple):
    """What a subscription, or what can be restored, is known by: its first transaction. Rows are locked in the order of
    their keys, and before those of transactions."""

    app: AppId
    store: Store
    environment: Environment
    original_transaction_id: TransactionId

    @classmethod
    def of(cls, app: AppId, transaction: StoreTransaction) -> OriginKey | None:
        """None for what has no other transactions: it is used up, or was bought for a time. Of a product whose type is
        not known it is assumed that it has."""
        if transaction.product_type in {"consumable", "non_renewing"}:
            return None
        return cls(app, transaction.store, transaction.environment, transaction.original_transaction_id)

    @property
    def subscription_id(self) -> SubscriptionId:
        """Its id outside, if it is a subscription."""
        return subscription_id(
            app=self.app,
            store=self.store,
            environment=self.environment,
            original_transaction_id=self.original_transaction_id,
        )


@dataclass(frozen=True, slots=True)
class Record:
    """A store transaction: its owner, once somebody has claimed it; the store's newest statement; what is refunded.

    `origin` is what its owner owns with it. `account_token` is kept only where it may tell the owner: not for what a
    family member shares, nor for what has an owner who was erased. It is that of the newest statement that has one
    (`token_signed_at`): a receipt does not show the account token of a consumable. `revoked` likewise is the newest
    word on how far it is refunded; most statements say nothing about that. `promised_to` is whose claim only its being
    refunded stood against: it is his if the store takes the refund back.
    """

    key: TransactionKey
    origin: OriginKey | None = None
    user_id: UserId | None = None
    purchase_id: PurchaseId | None = None
    promised_to: UserId | None = None
    account_token: UUID | None = None
    token_signed_at: datetime | None = None
    signed_at: datetime | None = None
    revoked: Revoked | None = None
    statement: StoreTransaction | None = None

    @property
    def refunded_milli(self) -> int:
        """How far it is refunded (100,000 = wholly)."""
        return 0 if self.revoked is None else self.revoked.percentage_milli

    @property
    def refunded(self) -> bool:
        """Wholly: what is refunded in part may still be claimed for its rest."""
        return self.refunded_milli >= REVOKED_WHOLLY_MILLI

    @property
    def token(self) -> tuple[AppId, UUID] | None:
        """The account token among those of all apps."""
        return None if self.account_token is None else (self.key.app, self.account_token)

    def stated(self, statement: AppleTransaction) -> Record:
        """After a statement of the store: of two, the one that was signed later counts."""
        record = self._with_token(statement)._with_refund(statement)
        newest = merged(self.statement, statement.transaction)
        origin = self.origin or OriginKey.of(self.key.app, statement.transaction)
        return replace(record, origin=origin, statement=newest, signed_at=newest.signed_at)

    @property
    def _is_of_erased(self) -> bool:
        """The store goes on stating the account token of a user who was erased; it is not kept again."""
        owner = self.user_id or self.promised_to
        return owner is not None and is_pseudonym(owner)

    def _with_token(self, statement: AppleTransaction) -> Record:
        token, signed_at = statement.app_account_token, statement.transaction.signed_at
        if token is None or statement.transaction.family_shared or self._is_of_erased:
            return self
        if self.token_signed_at is not None and self.token_signed_at >= signed_at:
            return self
        return replace(self, account_token=token, token_signed_at=signed_at)

    def _with_refund(self, statement: AppleTransaction) -> Record:
        """A refund tells the whole that is refunded by then, a reversal that nothing is: so the newest says it all, and
        it may lower the percentage. Of two that were signed in the same millisecond, that which takes more counts."""
        said = statement.revoked
        if said is None or (self.revoked is not None and _weight(self.revoked) >= _weight(said)):
            return self
        return replace(self, revoked=said)

    def tells_of_refunds(self, before: Record, statement: AppleTransaction) -> bool:
        """That this record says something new about refunds to whoever knew the record `before` the statement.

        A reversal that comes before its refund is news too: the refund, when it comes, counts no more. That a purchase
        of which no refund was ever heard stands, is not.
        """
        first = before.revoked is None and self.revoked is not None and not statement.stands
        return first or self.refunded_milli != before.refunded_milli

    def tells_of_more(self, before: Record) -> bool:
        """That this record says something else to whoever knew the record `before`, its date aside."""
        if self.statement is None or before.statement is None:
            return self.statement is not before.statement
        same = replace(self.statement, signed_at=before.statement.signed_at) == before.statement
        return not same or self.revoked != before.revoked

    def given_or_promised_to(self, holder: UserId | None) -> UserId | None:
        """Whose it is, or will be. A promise counts less than the account token, which `holder` has: nothing was given
        yet, and the store says whom it was bought for."""
        if self.user_id is not None:
            return self.user_id
        return self.promised_to if holder in (None, self.promised_to) else None

    def promised(self, user_id: UserId) -> Record:
        """After a claim that was good but for the refund."""
        return replace(self, promised_to=user_id)

    def claimed(self, user_id: UserId) -> Record:
        """After a claim that was found good. The first claimant is the owner, for good."""
        if self.user_id is not None:
            return self
        owned = replace(self, user_id=user_id, purchase_id=self.purchase_id_of(user_id), promised_to=None)
        return replace(owned, account_token=None, token_signed_at=None) if owned._is_of_erased else owned

    def purchase_id_of(self, user_id: UserId) -> PurchaseId:
        """The id of this user's claim to it."""
        key = self.key
        return purchase_id(app=key.app, store=key.store, transaction_id=key.transaction_id, user_id=user_id)


def _weight(revoked: Revoked) -> tuple[datetime, int, str, datetime]:
    """The heavier of two words counts, the newer before all: so their order cannot matter."""
    return revoked.signed_at, revoked.percentage_milli, revoked.cause, revoked.at


def merged(known: StoreTransaction | None, said: StoreTransaction) -> StoreTransaction:
    """Two statements of one transaction as one: the newer, with what only the other says, as receipts leave things out.

    What it is charged as is what was said first: by then others may know it by that.
    """
    if known is None:
        return said
    newer, older = (known, said) if known.signed_at >= said.signed_at else (said, known)
    return replace(
        newer,
        product_type=newer.product_type or older.product_type,
        charge_id=known.charge_id,
        period=_merged_period(newer.period, older.period),
    )


def _merged_period(newer: Period | None, older: Period | None) -> Period | None:
    if newer is None or older is None:
        return newer or older
    priced = older if newer.price_milli is None else newer
    return replace(
        newer,
        group=newer.group or older.group,
        offer=_merged_offer(newer.offer, older.offer),
        price_milli=priced.price_milli,
        currency=priced.currency,
    )


def _merged_offer(newer: Offer | None, older: Offer | None) -> Offer | None:
    if newer is None or older is None:
        return newer or older
    return replace(
        newer,
        identifier=newer.identifier or older.identifier,
        discount_type=newer.discount_type or older.discount_type,
        period=newer.period or older.period,
    )
