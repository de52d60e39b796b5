"""What the views are answered from: put together by the wiring, the same for every request."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from ledger.domain.belongings import EntitlementList, SubscriptionPage, SubscriptionPlace
from ledger.domain.books import WalletKey
from ledger.domain.commands import Answer, Command
from ledger.domain.entitlements import Holder
from ledger.domain.refund_requests import NotEligible, RefundRequestView
from ledger.domain.statements import EntryPage, WalletStatement
from shared.ids import AppId, PurchaseId, UserId
from shared.money import CurrencyId


class ReadEntries(Protocol):
    """Reads a page of a wallet's entries."""

    def __call__(self, key: WalletKey, *, before: int | None, limit: int) -> EntryPage: ...


class ReadSubscriptions(Protocol):
    """Reads a page of a user's subscriptions."""

    def __call__(self, holder: Holder, *, after: SubscriptionPlace | None, limit: int) -> SubscriptionPage: ...


@dataclass(frozen=True, slots=True)
class Queries:
    """What only reads. Each raises DatabaseUnavailable. `metrics` is Prometheus' text."""

    wallet: Callable[[WalletKey], WalletStatement]
    entries: ReadEntries
    subscriptions: ReadSubscriptions
    entitlements: Callable[[Holder], EntitlementList]
    ready: Callable[[], None]
    metrics: Callable[[], bytes]


class Commands(Protocol):
    """Does what is asked, or refuses it; either is durable with its answer when it returns.

    Raises DatabaseUnavailable: it may have been done or not. The same key finds out.
    """

    def __call__(self, command: Command) -> Answer: ...


class RefundRequests(Protocol):
    """Users' requests for refunds. Raises DatabaseUnavailable. `only_user`: what belongs to another is not there."""

    def ask(
        self,
        *,
        app: AppId,
        purchase_id: PurchaseId,
        only_user: UserId | None,
        actor: str,
        reason: str | None,
        trace_id: str,
    ) -> RefundRequestView | NotEligible | None:
        """The request, opened now or open already; None: there is no such purchase."""
        ...

    def find(self, *, app: AppId, id: UUID, only_user: UserId | None) -> RefundRequestView | None: ...


@dataclass(frozen=True, slots=True)
class Services:
    """The ports, and the currencies that there are."""

    queries: Queries
    commands: Commands
    refund_requests: RefundRequests
    currencies: Collection[CurrencyId]
