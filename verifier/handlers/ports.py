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
from verifier.domain.origins import Origin
from verifier.domain.records import OriginKey, Record, TransactionKey


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
    """Our records of store transactions, of their origins and of account tokens, in one database transaction.

    What is locked is locked in this order: account tokens, origins, transactions.
    """

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

    def unclaimed_with(self, tokens: Iterable[tuple[AppId, UUID]]) -> dict[TransactionKey, OriginKey | None]:
        """The transactions that nobody has claimed and whose account token is one of these, and their origins. They are
        not held, but no new one appears: the tokens are."""
        ...

    def unclaimed_of(self, origins: Iterable[OriginKey]) -> frozenset[TransactionKey]:
        """The transactions of these origins that nobody has claimed. They are not held, but no new one appears: the
        origins are."""
        ...

    def lock_origins(self, keys: Iterable[OriginKey]) -> dict[OriginKey, Origin]:
        """These origins, new ones for those that had none, held until this transaction ends."""
        ...

    def save_origins(self, origins: Iterable[Origin]) -> None: ...

    def save(self, records: Iterable[Record]) -> None: ...

    def claimed(self, purchase_ids: Mapping[PurchaseId, tuple[AppId, TransactionId]]) -> frozenset[PurchaseId]:
        """Those of the claims that were found good before."""
        ...
