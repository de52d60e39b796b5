"""What the App Store Server API answers: a customer's transactions, refunds and subscriptions, and what was notified.

It changes nothing; the only thing that it does is to send a test notification. Source: Apple, App Store Server API.
What Apple leaves open is decided here: notifications are listed oldest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from shared.apps import App
from shared.clock import Clock, to_unix_ms
from shared.events import Environment, ProductType
from shared.ids import TransactionId
from simulator.api_errors import ApiError, ApiRefused
from simulator.domain import NotificationUnknown, Transaction, TransactionUnknown
from simulator.notification_log import Notification, Wanted
from simulator.payloads import ownership, renewal_payload, transaction_payload
from simulator.signing import Signer
from simulator.state import State, whole_ms
from simulator.subscriptions import Status, Subscription
from simulator.telling import AppAddress, Teller

PAGE: Final = 20
"""Apple: how many transactions, or notifications, an answer holds at most."""

HISTORY_MAX: Final[dict[Environment, timedelta]] = {
    "production": timedelta(days=180),
    "sandbox": timedelta(days=30),
}
"""Apple, Get Notification History: how far back a question may go."""


Caller = AppAddress
"""An app, at one of the two addresses: it sees its own customers, and of them those of that environment."""


def caller_of(app: App, environment: Environment) -> Caller:
    """The app as a caller at one of the addresses."""
    return Caller(app.apple.bundle_id, app.apple.app_apple_id, environment)


class Revision(NamedTuple):
    """How far somebody has read in a list: the moment (UNIX ms) and the number of the last transaction read."""

    moment_ms: int
    number: int


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """Which transactions; empty or None wants all. `start` is included, `end` is not."""

    start: datetime | None = None
    end: datetime | None = None
    product_ids: frozenset[str] = frozenset()
    product_types: frozenset[ProductType] = frozenset()
    groups: frozenset[str] = frozenset()
    ownership: str | None = None
    revoked: bool | None = None

    def takes(self, transaction: Transaction) -> bool:
        return (
            (self.start is None or self.start <= transaction.purchased_at)
            and (self.end is None or transaction.purchased_at < self.end)
            and (not self.product_ids or transaction.product_id in self.product_ids)
            and (not self.product_types or transaction.type in self.product_types)
            and (not self.groups or transaction.group in self.groups)
            and self.ownership in (None, ownership(transaction))
            and self.revoked in (None, transaction.revocation is not None)
        )


@dataclass(frozen=True, slots=True)
class TransactionPage:
    """Transactions, signed. With `revision` one goes on: there is one always, for what comes later too."""

    signed_transactions: tuple[str, ...]
    revision: Revision
    has_more: bool


@dataclass(frozen=True, slots=True)
class LastTransaction:
    """The newest transaction of a subscription, signed, and what it and its renewal say."""

    group: str
    original_transaction_id: TransactionId
    status: Status
    signed_transaction: str
    signed_renewal: str


@dataclass(frozen=True, slots=True)
class NotificationFilter:
    """Which notifications; None wants all. Both moments are included."""

    start: datetime
    end: datetime
    type: str | None = None
    subtype: str | None = None
    transaction_id: TransactionId | None = None
    only_failures: bool = False


class NotificationLog(Protocol):
    """What is needed of whoever posts the notifications."""

    def get(self, notification_id: UUID) -> Notification:
        """Raises NotificationUnknown."""
        ...

    def oldest(self, *, limit: int, after: UUID | None, since: datetime, wanted: Wanted) -> Sequence[Notification]:
        """Raises NotificationUnknown when `after` is not known."""
        ...


class Records:
    """The store's records, for those who have a token. Thread-safe."""

    def __init__(
        self, *, state: State, signer: Signer, notifications: NotificationLog, teller: Teller, clock: Clock
    ) -> None:
        self._state, self._signer, self._notifications, self._teller = state, signer, notifications, teller
        self._clock = clock

    # ---- transactions -------------------------------------------------------------------------------------------

    def transaction(self, caller: Caller, transaction_id: TransactionId) -> str:
        """The transaction as it is now, signed. Raises ApiRefused."""
        now = whole_ms(self._clock.now())  # before reading, here and below: a change in between has a later date
        return self._signed(self._own(caller, transaction_id), now)

    def history(
        self,
        caller: Caller,
        transaction_id: TransactionId,
        *,
        wanted: HistoryFilter,
        newest_first: bool,
        after: Revision | None,
    ) -> TransactionPage:
        """A page of the customer's transactions in the order of their last change. Raises ApiRefused."""
        now = whole_ms(self._clock.now())
        chosen = filter(wanted.takes, self._of_customer(caller, transaction_id))
        return self._page(chosen, _changed_at, newest_first=newest_first, after=after, now=now)

    def refunds(self, caller: Caller, transaction_id: TransactionId, *, after: Revision | None) -> TransactionPage:
        """A page of the customer's refunded transactions in the order of their refunds. Raises ApiRefused."""
        now = whole_ms(self._clock.now())
        everything = self._of_customer(caller, transaction_id)
        refunded = (each for each in everything if each.revocation and each.revocation.kind != "FAMILY_REVOKE")
        return self._page(refunded, _refunded_at, newest_first=False, after=after, now=now)

    def subscriptions(
        self, caller: Caller, transaction_id: TransactionId, *, statuses: frozenset[int]
    ) -> list[LastTransaction]:
        """The customer's subscriptions, sorted by group; of these `statuses`, or all. Raises ApiRefused."""
        now = whole_ms(self._clock.now())
        customer = self._own(caller, transaction_id).customer
        found = [self._last(each, now) for each in self._state.holdings(customer).subscriptions]
        return sorted(
            (each for each in found if not statuses or each.status in statuses),
            key=lambda each: (each.group, each.original_transaction_id),
        )

    def _own(self, caller: Caller, transaction_id: TransactionId) -> Transaction:
        try:
            found = self._state.get(transaction_id)
        except TransactionUnknown as error:
            raise ApiRefused(ApiError.TRANSACTION_ID_NOT_FOUND) from error
        customer = found.customer
        if (customer.bundle_id, customer.environment) != (caller.bundle_id, caller.environment):
            raise ApiRefused(ApiError.TRANSACTION_ID_NOT_FOUND)
        return found

    def _of_customer(self, caller: Caller, transaction_id: TransactionId) -> Sequence[Transaction]:
        """All of the customer whose transaction it is, oldest first."""
        return self._state.of_customer(self._own(caller, transaction_id).customer)

    def _page(
        self,
        transactions: Iterable[Transaction],
        place: Callable[[Transaction], Revision],
        *,
        newest_first: bool,
        after: Revision | None,
        now: datetime,
    ) -> TransactionPage:
        in_order = sorted(transactions, key=place, reverse=newest_first)
        if after is not None:
            in_order = [each for each in in_order if (place(each) < after if newest_first else place(each) > after)]
        page = in_order[:PAGE]
        return TransactionPage(
            signed_transactions=tuple(self._signed(each, now) for each in page),
            revision=place(page[-1]) if page else after or Revision(0, 0),
            has_more=len(in_order) > PAGE,
        )

    def _last(self, subscription: Subscription, now: datetime) -> LastTransaction:
        at = max(now, subscription.stated_at)
        return LastTransaction(
            group=subscription.period.group or "",
            original_transaction_id=subscription.id,
            status=subscription.status(at),
            signed_transaction=self._signer.sign(transaction_payload(subscription.period, signed_at=at)),
            signed_renewal=self._signer.sign(renewal_payload(subscription, signed_at=at)),
        )

    def _signed(self, transaction: Transaction, now: datetime) -> str:
        return self._signer.sign(transaction_payload(transaction, signed_at=max(now, transaction.stated_at)))

    # ---- notifications ------------------------------------------------------------------------------------------

    def notifications(
        self, caller: Caller, *, wanted: NotificationFilter, after: UUID | None
    ) -> tuple[Sequence[Notification], bool]:
        """A page of what was sent, or lost, oldest first, and whether there is more. Raises ApiRefused.

        Of those that the sender still remembers.
        """
        if wanted.start < self._clock.now() - HISTORY_MAX[caller.environment]:
            raise ApiRefused(ApiError.START_DATE_TOO_FAR_IN_PAST)
        takes = self._takes(caller, wanted)
        try:
            found = self._notifications.oldest(limit=PAGE + 1, after=after, since=wanted.start, wanted=takes)
        except NotificationUnknown as error:
            raise ApiRefused(ApiError.PAGINATION_TOKEN_EXPIRED) from error
        return found[:PAGE], len(found) > PAGE

    def _takes(self, caller: Caller, wanted: NotificationFilter) -> Wanted:
        customers = None if wanted.transaction_id is None else self._customers_ids(caller, wanted.transaction_id)

        def takes(notification: Notification) -> bool:
            return (
                _is_of(caller, notification)
                and _was_tried(notification)
                and wanted.start <= notification.created_at <= wanted.end
                and wanted.type in (None, notification.type)
                and wanted.subtype in (None, notification.subtype)
                and (customers is None or notification.transaction_id in customers)
                and not (wanted.only_failures and notification.state == "delivered")
            )

        return takes

    def _customers_ids(self, caller: Caller, transaction_id: TransactionId) -> frozenset[TransactionId]:
        return frozenset(each.transaction_id for each in self._of_customer(caller, transaction_id))

    def send_test(self, caller: Caller) -> Notification:
        """Sends a TEST to the app's server. Raises SenderUnavailable."""
        self._teller.wait_for_room()
        return self._teller.tell_test(caller)

    def test(self, caller: Caller, notification_id: UUID) -> Notification:
        """The TEST that was sent, once it was tried. Raises ApiRefused."""
        try:
            found = self._notifications.get(notification_id)
        except NotificationUnknown as error:
            raise ApiRefused(ApiError.TEST_NOTIFICATION_NOT_FOUND) from error
        if found.type != "TEST" or not _is_of(caller, found) or not _was_tried(found):
            raise ApiRefused(ApiError.TEST_NOTIFICATION_NOT_FOUND)
        return found


def _changed_at(transaction: Transaction) -> Revision:
    return Revision(to_unix_ms(transaction.stated_at), int(transaction.transaction_id))


def _refunded_at(transaction: Transaction) -> Revision:
    at = transaction.revocation.at if transaction.revocation else transaction.stated_at
    return Revision(to_unix_ms(at), int(transaction.transaction_id))


def _is_of(caller: Caller, notification: Notification) -> bool:
    return (notification.bundle_id, notification.environment) == (caller.bundle_id, caller.environment)


def _was_tried(notification: Notification) -> bool:
    """What still waits for its first attempt is in nobody's history yet; what got lost was tried."""
    return bool(notification.attempts) or notification.state == "dropped"
