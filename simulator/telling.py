"""Saying what happened: signed for who asks, in the customer's receipt, and to the gateway as a notification."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from shared.clock import Clock
from shared.events import Environment
from shared.ids import IdSource, TransactionId
from simulator.domain import Customer, Notice, Transaction
from simulator.notification_log import Notification
from simulator.payloads import (
    ConsumptionRequestReason,
    Payload,
    app_notification_payload,
    notification_payload,
    renewal_payload,
    summary_payload,
    transaction_payload,
)
from simulator.receipts import Receipt, ReceiptSeal
from simulator.signing import Signer
from simulator.state import State, whole_ms
from simulator.subscriptions import Step, Subscription


class Sender(Protocol):
    """What the store needs of whoever posts its notifications."""

    def wait_for_room(self) -> None:
        """Raises SenderUnavailable when too many are waiting."""
        ...

    def send(self, notification: Notification) -> None: ...


@dataclass(frozen=True, slots=True)
class AppAddress:
    """An app in one environment: where what is about no transaction is sent."""

    bundle_id: str
    app_apple_id: int | None
    environment: Environment


@dataclass(frozen=True, slots=True)
class Signed:
    """A transaction as the store states it, signed, and the renewal of the subscription that it belongs to."""

    transaction: Transaction
    subscription: Subscription | None
    signed_at: datetime
    signed_transaction: str
    signed_renewal: str | None


@dataclass(frozen=True, slots=True)
class Statement:
    """A transaction as the store states it now: signed, and in the customer's receipt.

    `notification_id` is the notification that went out with it, if one did.
    """

    transaction: Transaction
    subscription: Subscription | None
    signed_at: datetime
    signed_transaction: str
    signed_renewal: str | None
    receipt: str
    notification_id: UUID | None = None


class Teller:
    """Signs, seals and sends. Thread-safe."""

    def __init__(
        self, *, state: State, signer: Signer, seal: ReceiptSeal, sender: Sender, clock: Clock, ids: IdSource
    ) -> None:
        self._state, self._signer, self._seal, self._sender = state, signer, seal, sender
        self._clock, self._ids = clock, ids

    def wait_for_room(self) -> None:
        """To be called before something changes that is to be told. Raises SenderUnavailable."""
        self._sender.wait_for_room()

    def sign(self, step: Step) -> Signed:
        """What happened, as of that moment."""
        return self._signed(step.transaction, step.subscription, step.stated_at)

    def sign_now(self, transaction_id: TransactionId) -> Signed:
        """The transaction as it is. Raises TransactionUnknown."""
        now = whole_ms(self._clock.now())  # before reading: a change that comes in between has a later date
        transaction, subscription = self._state.with_subscription(transaction_id)
        stated_at = subscription.stated_at if subscription else transaction.stated_at
        return self._signed(transaction, subscription, max(now, stated_at))

    def statement(self, signed: Signed, notification_id: UUID | None = None) -> Statement:
        """All that an app would hold."""
        return Statement(
            signed.transaction,
            signed.subscription,
            signed.signed_at,
            signed.signed_transaction,
            signed.signed_renewal,
            self.receipt(signed.transaction.customer),
            notification_id,
        )

    def receipt(self, customer: Customer) -> str:
        """The customer's receipt as it is now."""
        held = tuple(each for each in self._state.of_customer(customer) if each.in_receipt())
        return self._seal.close(Receipt(customer, whole_ms(self._clock.now()), held))

    def tell(self, signed: Signed, notice: Notice, *, reason: ConsumptionRequestReason | None = None) -> UUID:
        """Sends the notification about it; its id."""
        customer, notification_id = signed.transaction.customer, self._ids.uuid()
        payload = notification_payload(
            customer,
            notification_id=notification_id,
            notice=notice,
            signed_at=signed.signed_at,
            signed_transaction=signed.signed_transaction,
            subscription=signed.subscription,
            signed_renewal=signed.signed_renewal,
            consumption_request_reason=reason,
        )
        where = AppAddress(customer.bundle_id, customer.app_apple_id, customer.environment)
        return self._send(notification_id, notice, where, payload, signed.transaction.transaction_id).id

    def tell_test(self, where: AppAddress) -> Notification:
        """Sends a TEST to the app's server."""
        notification_id = self._ids.uuid()
        payload = app_notification_payload(
            bundle_id=where.bundle_id,
            app_apple_id=where.app_apple_id,
            environment=where.environment,
            notification_id=notification_id,
            signed_at=self._clock.now(),
        )
        return self._send(notification_id, Notice("TEST"), where, payload)

    def tell_summary(
        self, where: AppAddress, *, request_id: UUID, product_id: str, succeeded: int, failed: int
    ) -> UUID:
        """Sends what became of a wish to extend all subscriptions to a product; the notification's id."""
        notification_id = self._ids.uuid()
        payload = summary_payload(
            bundle_id=where.bundle_id,
            app_apple_id=where.app_apple_id,
            environment=where.environment,
            notification_id=notification_id,
            signed_at=self._clock.now(),
            request_id=request_id,
            product_id=product_id,
            succeeded=succeeded,
            failed=failed,
        )
        return self._send(notification_id, Notice("RENEWAL_EXTENSION", "SUMMARY"), where, payload).id

    def _signed(self, transaction: Transaction, subscription: Subscription | None, at: datetime) -> Signed:
        renewal = None if subscription is None else self._signer.sign(renewal_payload(subscription, signed_at=at))
        signed = self._signer.sign(transaction_payload(transaction, signed_at=at))
        return Signed(transaction, subscription, at, signed, renewal)

    def _send(
        self,
        notification_id: UUID,
        notice: Notice,
        where: AppAddress,
        payload: Payload,
        transaction_id: TransactionId | None = None,
    ) -> Notification:
        sent = Notification(
            id=notification_id,
            type=notice.type,
            subtype=notice.subtype,
            bundle_id=where.bundle_id,
            transaction_id=transaction_id,
            environment=where.environment,
            signed_payload=self._signer.sign(payload),
            created_at=self._clock.now(),
        )
        self._sender.send(sent)
        return sent
