"""What the use-cases need from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Protocol
from uuid import UUID

from shared.apps import App
from shared.ids import AppId, PurchaseId, TransactionId, UserId
from shared.jws import SignedPayload
from verifier.domain import LookupAnswer, ReceiptRefused, ReceiptValid, StoreBusy, StoreMisconfigured
from verifier.domain.records import Record, TransactionKey


class Signatures(Protocol):
    """Checks the store's signatures."""

    def verify(self, token: str, *, now: datetime) -> SignedPayload:
        """Raises JwsError, which is final, and JwsUnconfirmed, which is not."""
        ...


class ReceiptStore(Protocol):
    """Asks the store about a receipt."""

    def verify(self, receipt: str, *, app: App) -> ReceiptValid | ReceiptRefused | StoreBusy | StoreMisconfigured: ...


class TransactionStore(Protocol):
    """Asks the store about one transaction, for an app that has a key for such questions."""

    def find(self, transaction_id: TransactionId, *, app: App) -> LookupAnswer: ...


class Records(Protocol):
    """Our records of store transactions and of account tokens, in one database transaction."""

    def token_holders(self, tokens: Iterable[tuple[AppId, UUID]]) -> Mapping[tuple[AppId, UUID], UserId]:
        """The users to whom these tokens were issued. Issuing one of them waits until this transaction has ended."""
        ...

    def known_holders(self, tokens: Iterable[tuple[AppId, UUID]]) -> Mapping[tuple[AppId, UUID], UserId]:
        """The same, of tokens that nobody has to wait for."""
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
