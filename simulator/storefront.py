"""The use-cases of the store: buying, refunding, and answering for receipts."""

from __future__ import annotations

import hmac
from dataclasses import replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from shared.clock import Clock
from shared.events import Environment, ProductType
from shared.ids import IdSource, TransactionId
from simulator import domain, receipts
from simulator.agenda import Agenda
from simulator.domain import Customer, CustomerName, Notice, Offer, Transaction
from simulator.payloads import ConsumptionRequestReason
from simulator.receipts import Receipt, ReceiptMalformed, ReceiptNotAuthentic, ReceiptSeal, Status
from simulator.sales import Order, sold
from simulator.shelf import Shelf
from simulator.state import Change, State
from simulator.subscriptions import A_MILLISECOND, Step, Subscription, restated
from simulator.telling import Statement, Teller


class AppStore:
    """The store. Thread-safe."""

    def __init__(
        self,
        *,
        shelf: Shelf,
        state: State,
        seal: ReceiptSeal,
        teller: Teller,
        agenda: Agenda,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        self._shelf, self._state, self._seal, self._teller, self._agenda = shelf, state, seal, teller, agenda
        self._clock, self._ids = clock, ids

    # ---- a customer buys ----------------------------------------------------------------------------------------

    def buy(
        self,
        *,
        product_id: str,
        app: str | None = None,
        quantity: int = 1,
        environment: Environment = "production",
        app_account_token: UUID | None = None,
        family_shared: bool = False,
        offer: Offer | None = None,
        customer: str | None = None,
        product_type: ProductType | None = None,
        bundle_id: str | None = None,
        notify: bool = True,
    ) -> Statement:
        """A customer buys: `customer` names one who has a receipt already, otherwise a new one comes.

        `app` is an id of the apps file (the first one there if not given). `product_type` sells a product that is not
        in the catalogue, and `bundle_id` one of an app that is not in the apps file. A subscription may begin with an
        `offer`. Raises FieldInvalid, StateConflict
        (the customer has it already) and SenderUnavailable.
        """
        listing = self._shelf.listing(self._shelf.app(app), product_id, product_type=product_type, bundle_id=bundle_id)
        name = CustomerName(customer or str(self._ids.uuid()))
        buyer = Customer(listing.bundle_id, listing.app_apple_id, environment, name)
        order = Order(buyer, listing, quantity, app_account_token, family_shared, offer)
        if notify:
            self._teller.wait_for_room()
        lengths = self._agenda.setting.lengths
        step = self._state.record(buyer, lambda holdings, number, now: sold(order, holdings, number, now, lengths))
        return self._stated(step, notify=notify)

    # ---- what befalls a transaction -----------------------------------------------------------------------------

    def refund(
        self, transaction_id: TransactionId, *, percent: float = 100, reason: Literal[0, 1] = 0, notify: bool = True
    ) -> Statement:
        """Apple gives the money back, all of it or `percent` of it; after an earlier refund, all that it gave back by
        then. Raises as `change` of the state does."""
        milli = domain.percentage_milli(percent)
        return self._befall(
            transaction_id,
            lambda before, subscription, at: _restated(
                domain.refunded(before, percentage_milli=milli, reason=reason, now=at), subscription, Notice("REFUND")
            ),
            notify=notify,
        )

    def reverse_refund(self, transaction_id: TransactionId, *, notify: bool = True) -> Statement:
        """Apple takes the refund back after a dispute: the customer has the purchase again."""
        return self._befall(
            transaction_id,
            lambda before, subscription, at: _restated(
                domain.refund_reversed(before, now=at), subscription, Notice("REFUND_REVERSED")
            ),
            notify=notify,
        )

    def revoke(self, transaction_id: TransactionId, *, notify: bool = True) -> Statement:
        """The family stops sharing the purchase with this customer."""
        return self._befall(
            transaction_id,
            lambda before, subscription, at: _restated(
                domain.family_revoked(before, now=at), subscription, Notice("REVOKE")
            ),
            notify=notify,
        )

    def decline_refund(self, transaction_id: TransactionId, *, notify: bool = True) -> Statement:
        """Apple declines the customer's wish for a refund: nothing changes."""
        return self._say(transaction_id, Notice("REFUND_DECLINED"), notify=notify)

    def request_refund(
        self,
        transaction_id: TransactionId,
        *,
        reason: ConsumptionRequestReason = "UNINTENDED_PURCHASE",
        notify: bool = True,
    ) -> Statement:
        """The customer wishes a refund, and Apple asks how much of the purchase was consumed: nothing changes."""
        return self._say(transaction_id, Notice("CONSUMPTION_REQUEST"), notify=notify, reason=reason)

    def finish(self, transaction_id: TransactionId) -> Statement:
        """The app has finished the transaction: a consumable is in receipts no longer."""
        step = self._state.change(transaction_id, lambda before, subscription, _at: _finished(before, subscription))
        return self._stated(step, notify=False)

    def transaction(self, transaction_id: TransactionId) -> Statement:
        """The transaction as it is, freshly signed. Raises TransactionUnknown."""
        return self._teller.statement(self._teller.sign_now(transaction_id))

    def _befall(self, transaction_id: TransactionId, change: Change, *, notify: bool) -> Statement:
        if notify:
            self._teller.wait_for_room()
        return self._stated(self._state.change(transaction_id, change), notify=notify)

    def _stated(self, step: Step, *, notify: bool) -> Statement:
        signed = self._teller.sign(step)
        told = self._teller.tell(signed, step.notice) if notify and step.notice else None
        return self._teller.statement(signed, told)

    def _say(
        self,
        transaction_id: TransactionId,
        notice: Notice,
        *,
        notify: bool,
        reason: ConsumptionRequestReason | None = None,
    ) -> Statement:
        if not notify:
            return self.transaction(transaction_id)
        self._teller.wait_for_room()
        step = self._state.change(
            transaction_id, lambda before, subscription, at: _said(before, subscription, at, notice)
        )
        signed = self._teller.sign(step)
        return self._teller.statement(signed, self._teller.tell(signed, notice, reason=reason))

    # ---- verifyReceipt ------------------------------------------------------------------------------------------

    def verify_receipt(
        self, *, receipt_data: str | None, password: str | None, exclude_old: bool, asked: Environment
    ) -> receipts.Answer:
        """The answer of the production or of the sandbox address (`asked`), in Apple's shape."""
        try:
            receipt = self._seal.open(receipt_data or "")
        except ReceiptMalformed:
            return receipts.refusal(Status.MALFORMED, environment=asked)
        except ReceiptNotAuthentic:
            return receipts.refusal(Status.NOT_AUTHENTIC, environment=asked)
        return self._answer(receipt, password=password, exclude_old=exclude_old, asked=asked)

    def _answer(
        self, receipt: Receipt, *, password: str | None, exclude_old: bool, asked: Environment
    ) -> receipts.Answer:
        self._state.adopt(receipt.transactions)
        holdings = self._state.holdings(receipt.customer)
        if receipt.customer.environment != asked:
            elsewhere = Status.SANDBOX_RECEIPT if asked == "production" else Status.PRODUCTION_RECEIPT
            return receipts.refusal(elsewhere, environment=asked)
        if holdings.subscriptions and not self._knows_secret(receipt.customer.bundle_id, password):
            return receipts.refusal(Status.WRONG_SECRET, environment=asked)
        return receipts.valid_answer(
            receipt,
            holdings=holdings,
            latest_receipt=lambda: self._teller.receipt(receipt.customer),
            exclude_old=exclude_old,
            now=self._clock.now(),
        )

    def _knows_secret(self, bundle_id: str, password: str | None) -> bool:
        """Apple asks for the app's shared secret only where a receipt holds subscriptions."""
        secret = self._shelf.secret(bundle_id)
        return secret is None or hmac.compare_digest(secret.encode(), (password or "").encode())


def _restated(transaction: Transaction, subscription: Subscription | None, notice: Notice) -> Step:
    """After it was taken back or given again."""
    if subscription is None:
        return Step(transaction, notice)
    return restated(subscription, transaction, notice)


def _said(before: Transaction, subscription: Subscription | None, at: datetime, notice: Notice) -> Step:
    """Nothing changes; but of a subscription no two statements have one date, so that the newest can be told."""
    if subscription is None:
        return Step(before, notice, said_at=at - A_MILLISECOND)
    return Step(before, notice, replace(subscription, stated_at=at))


def _finished(before: Transaction, subscription: Subscription | None) -> Step:
    """Nothing that is signed changes."""
    after = domain.finished(before)
    if subscription is not None and subscription.period.transaction_id == after.transaction_id:
        subscription = replace(subscription, period=after)
    return Step(after, None, subscription)
