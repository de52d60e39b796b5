"""What the use-cases need from outside. All of the books are within one transaction of the caller's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from ledger.domain.belongings import OwnedSubscription, SubscriptionPlace
from ledger.domain.books import AccountKey, KnownTransaction, Locked, TransactionKey, WalletKey
from ledger.domain.commands import AnswerKey, GivenAnswer
from ledger.domain.entitlements import Entitlement, Held, Holder, Source, SourceId
from ledger.domain.lots import LotsFound, LotsWanted, Reservation
from ledger.domain.postings import Posting
from ledger.domain.refund_requests import RefundRequest
from ledger.domain.spending import Hold, PostedSpend, Standing
from ledger.domain.statements import WalletEntry, WalletState
from ledger.domain.subscriptions import KnownSubscription, SubscriptionKey


class Books(Protocol):
    """The books."""

    def lock_transactions(self, keys: Collection[TransactionKey]) -> Mapping[TransactionKey, KnownTransaction]:
        """How these transactions stand; nobody else decides about them before the caller's transaction ends."""
        ...

    def lock_accounts(self, keys: Collection[AccountKey]) -> Locked:
        """These accounts and their wallets, opened where there were none, locked."""
        ...

    def load_lots(self, wanted: LotsWanted) -> LotsFound:
        """Lots and debits of accounts that are locked."""
        ...

    def write(self, posting: Posting, known: Mapping[TransactionKey, KnownTransaction]) -> None:
        """Writes a posting on locked accounts, and how locked transactions stand: with the credits of the posting."""
        ...


class Requests(Protocol):
    """The users' requests for refunds, with the holds that they have placed."""

    def open_of(self, keys: Collection[TransactionKey]) -> Mapping[TransactionKey, RefundRequest]:
        """The open requests about these transactions, which are locked."""
        ...

    def holds_of(self, requests: Collection[UUID]) -> Sequence[Hold]:
        """The open holds of these requests."""
        ...

    def save(self, requests: Collection[RefundRequest]) -> None:
        """Writes them down, new or changed."""
        ...


class Commissions(Protocol):
    """The spends and holds that were asked for."""

    def standing(self, *, spends: Collection[UUID], holds: Collection[UUID]) -> Standing:
        """How these stand; those that exist. What holds have reserved comes with `Books.load_lots`."""
        ...

    def due_holds(self, *, now: datetime, limit: int) -> Sequence[UUID]:
        """Open holds whose time is over, those of requests for refunds left out; the oldest first."""
        ...

    def save(
        self, *, spends: Collection[PostedSpend], holds: Collection[Hold], reservations: Collection[Reservation]
    ) -> None:
        """Writes them down, new or changed. Their accounts are locked."""
        ...


class Subscriptions(Protocol):
    """The subscriptions."""

    def lock(self, keys: Collection[SubscriptionKey]) -> Mapping[SubscriptionKey, KnownSubscription]:
        """How these stand; nobody else hears of them before the caller's transaction ends."""
        ...

    def save(self, changed: Mapping[SubscriptionKey, tuple[KnownSubscription, datetime | None]]) -> None:
        """Writes them down; beside each, when time alone makes its status another one."""
        ...

    def due(self, *, now: datetime, limit: int) -> Sequence[SubscriptionKey]:
        """Those whose status is another one by now, the oldest first."""
        ...


class Entitlements(Protocol):
    """What users may use."""

    def lock(self, holders: Collection[Holder]) -> Mapping[Holder, Held]:
        """What these users have; nobody else changes it before the caller's transaction ends.

        To be called last: whoever holds it waits for nothing more.
        """
        ...

    def replace(self, sources: Mapping[tuple[Holder, SourceId], Sequence[Source]]) -> None:
        """All that each of these gives to its holder, instead of what it gave before."""
        ...

    def tell(self, changed: Sequence[tuple[Holder, Entitlement]], *, now: datetime) -> None:
        """Writes down what is told of them."""
        ...

    def due(self, *, now: datetime, limit: int) -> Sequence[Holder]:
        """Those who were told that they may use something until a time that is over, the oldest first."""
        ...


class Answers(Protocol):
    """The answers that were given to requests with a key of the caller's."""

    def given(self, keys: Collection[AnswerKey]) -> Mapping[AnswerKey, GivenAnswer]:
        """Those that were. Nobody else answers a request with one of these keys before the caller's transaction ends.

        To be called before anything is locked.
        """
        ...

    def keep(self, answers: Mapping[AnswerKey, GivenAnswer], *, now: datetime) -> None:
        """Keeps them."""
        ...


class Wallets(Protocol):
    """The wallets, for reading."""

    def wallet(self, key: WalletKey) -> WalletState | None: ...

    def entries(self, key: WalletKey, *, before: int | None, limit: int) -> Sequence[WalletEntry]:
        """Newest first, of versions less than `before`."""
        ...


class Belongings(Protocol):
    """What users have beside wallets, for reading."""

    def subscriptions(
        self, holder: Holder, *, after: SubscriptionPlace | None, limit: int
    ) -> Sequence[OwnedSubscription]:
        """Those of the user, the newest period first, from the one behind `after` on."""
        ...

    def entitlements(self, holder: Holder) -> Sequence[Entitlement]:
        """What the user was told of each, by the entitlement's id."""
        ...


@dataclass(frozen=True, slots=True)
class Tables:
    """All that facts of the stores change, within one transaction."""

    books: Books
    requests: Requests
    commissions: Commissions
    subscriptions: Subscriptions
    entitlements: Entitlements
