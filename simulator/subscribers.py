"""The use-cases of subscriptions: what befalls one on command or in time, who is told, and the store's own truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol
from uuid import UUID

from shared.clock import Clock
from shared.ids import IdSource, TransactionId
from shared.log import get_logger
from simulator import lives
from simulator.agenda import Agenda
from simulator.domain import FieldInvalid, Listing, StateConflict, Transaction
from simulator.notifications import SenderUnavailable
from simulator.state import State
from simulator.subscriptions import Moment, Status, Steps, Subscription
from simulator.telling import AppAddress, Statement, Teller

log = get_logger(__name__)

Live = Callable[[Subscription, Moment], Steps]
"""What befalls a subscription: one of `lives`, or of `choices`."""


class LiveWithProduct(Protocol):
    """One that needs a product."""

    def __call__(self, subscription: Subscription, moment: Moment, *, to: Listing) -> Steps: ...


class Listings(Protocol):
    """What is needed of whoever knows what is on sale."""

    def listing_for(self, subscription: Subscription, product_id: str | None = None) -> Listing:
        """A product of the subscription's group; its own without an id. Raises FieldInvalid."""
        ...


@dataclass(frozen=True, slots=True)
class Extension:
    """What became of a wish to extend all subscriptions to a product."""

    request_id: UUID
    succeeded: int
    failed: int


@dataclass(frozen=True, slots=True)
class Truth:
    """A subscription and all its periods, oldest first; `status` is that of the moment."""

    subscription: Subscription
    status: Status
    periods: Sequence[Transaction]


class Subscribers:
    """All subscriptions. Thread-safe."""

    def __init__(
        self, *, state: State, teller: Teller, listings: Listings, agenda: Agenda, clock: Clock, ids: IdSource
    ) -> None:
        self._state, self._teller, self._listings, self._agenda = state, teller, listings, agenda
        self._clock, self._ids = clock, ids

    # ---- on command ---------------------------------------------------------------------------------------------

    def befall(self, subscription_id: TransactionId, live: Live, *, notify: bool = True) -> Statement:
        """Something befalls it: what the store states of it then, with the last notification that went out.

        Raises TransactionUnknown, StateConflict, FieldInvalid and SenderUnavailable.
        """
        if notify:
            self._teller.wait_for_room()
        return self._told(self._live(subscription_id, live), notify=notify)

    def befall_with_product(
        self,
        subscription_id: TransactionId,
        live: LiveWithProduct,
        *,
        product_id: str | None = None,
        notify: bool = True,
    ) -> Statement:
        """The same with a product of its group; its own without an id."""
        return self.befall(
            subscription_id,
            lambda subscription, moment: live(
                subscription, moment, to=self._listings.listing_for(subscription, product_id)
            ),
            notify=notify,
        )

    def fail_billing(
        self, subscription_id: TransactionId, *, grace: bool = False, now: bool | None = None, notify: bool = True
    ) -> Statement:
        """Its renewal is not paid: now, or when it is due. If not said: now, unless renewals come by themselves."""
        at_once = not self._agenda.setting.running if now is None else now
        return self.befall(
            subscription_id,
            lambda subscription, moment: lives.fail_billing(subscription, moment, grace=grace, now=at_once),
            notify=notify,
        )

    def extend_all(self, where: AppAddress, *, product_id: str, days: int) -> Extension:
        """The developer extends every subscription to a product that is not over (RENEWAL_EXTENDED, or
        RENEWAL_EXTENSION with FAILURE, and SUMMARY in the end). Raises FieldInvalid when there is none."""
        chosen = [each.id for each in self._state.subscriptions() if self._is_to_be_extended(each, where, product_id)]
        if not chosen:
            raise FieldInvalid("product_id", f"nobody subscribes to {product_id!r}")
        told = [self._extended(each, days) for each in chosen]
        extension = Extension(self._ids.uuid(), succeeded=sum(told), failed=len(told) - sum(told))
        self._teller.wait_for_room()
        self._teller.tell_summary(
            where,
            request_id=extension.request_id,
            product_id=product_id,
            succeeded=extension.succeeded,
            failed=extension.failed,
        )
        return extension

    def _is_to_be_extended(self, each: Subscription, where: AppAddress, product_id: str) -> bool:
        customer = each.customer
        return (
            (customer.bundle_id, customer.environment) == (where.bundle_id, where.environment)
            and each.period.product_id == product_id
            and each.status(self._clock.now()) not in (Status.EXPIRED, Status.REVOKED)
        )

    def _extended(self, subscription_id: TransactionId, days: int) -> bool:
        """Whether it was, and not only told that it could not be."""
        before = self._state.subscription(subscription_id).expires_at
        stated = self.befall(
            subscription_id, lambda subscription, moment: lives.extend_if_possible(subscription, moment, days=days)
        )
        return stated.transaction.expires_at != before

    # ---- in time ------------------------------------------------------------------------------------------------

    def advance(self, subscription_id: TransactionId) -> None:
        """Makes happen what is due of it; while there is no room for its notification it stays due.

        Raises TransactionUnknown.
        """
        try:
            self._teller.wait_for_room()
        except SenderUnavailable as error:
            log.warning("a subscription waits", subscription=subscription_id, why=str(error))
            self._state.live(subscription_id, lambda _subscription, _number, _at: ())
            return
        try:
            steps = self._live(subscription_id, lives.due)
        except StateConflict:  # the customer has as many transactions as one can have
            steps = self._live(subscription_id, lives.give_up)
        for step in steps:
            if step.notice is not None:
                self._teller.tell(self._teller.sign(step), step.notice)

    # ---- the truth ----------------------------------------------------------------------------------------------

    def truths(
        self, *, limit: int, after: TransactionId | None, customer: str | None, status: Status | None
    ) -> list[Truth]:
        """At most `limit` subscriptions, oldest first, starting behind `after`. Raises TransactionUnknown."""
        everything = self._state.subscriptions()
        if after is not None:
            known = self._state.subscription(after)
            everything = everything[everything.index(known) + 1 :]
        chosen = (
            each
            for each in everything
            if customer in (None, each.customer.name) and status in (None, self._status(each))
        )
        return [self._truth(each) for each in islice(chosen, limit)]

    def truth(self, subscription_id: TransactionId) -> Truth:
        """One of them. Raises TransactionUnknown."""
        return self._truth(self._state.subscription(subscription_id))

    def _truth(self, subscription: Subscription) -> Truth:
        everything = self._state.of_customer(subscription.customer)
        periods = [each for each in everything if each.original_transaction_id == subscription.id]
        return Truth(subscription, self._status(subscription), periods)

    def _status(self, subscription: Subscription) -> Status:
        return subscription.status(max(self._clock.now(), subscription.stated_at))

    # ---- the parts of it ----------------------------------------------------------------------------------------

    def _live(self, subscription_id: TransactionId, live: Live) -> Steps:
        lengths = self._agenda.setting.lengths
        return self._state.live(
            subscription_id, lambda subscription, number, at: live(subscription, Moment(at, number, lengths))
        )

    def _told(self, steps: Steps, *, notify: bool) -> Statement:
        notification_id = None
        for step in steps:
            signed = self._teller.sign(step)
            if notify and step.notice is not None:
                notification_id = self._teller.tell(signed, step.notice)
        return self._teller.statement(signed, notification_id)
