"""The use-cases of the store: buying, refunding, and answering for receipts."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from shared.apps import App, Apps
from shared.catalog import Catalog
from shared.clock import Clock
from shared.events import Environment, ProductType
from shared.ids import AppId, IdSource, TransactionId
from simulator import domain, receipts
from simulator.domain import Customer, CustomerName, FieldInvalid, Offer, StateConflict, Transaction
from simulator.notifications import Notification
from simulator.payloads import (
    ConsumptionRequestReason,
    NotificationType,
    Subtype,
    notification_payload,
    renewal_payload,
    transaction_payload,
)
from simulator.receipts import Receipt, ReceiptMalformed, ReceiptNotAuthentic, ReceiptSeal, Status
from simulator.signing import Signer
from simulator.state import State, whole_ms

CURRENCY = "USD"
DEFAULT_GROUP = "default"
"""The subscription group of a subscription that is not in the catalogue."""


class Sender(Protocol):
    """What the store needs of whoever posts its notifications."""

    def wait_for_room(self) -> None:
        """Raises SenderUnavailable when too many are waiting."""
        ...

    def send(self, notification: Notification) -> None: ...


@dataclass(frozen=True, slots=True)
class Statement:
    """A transaction as the store states it now: signed, and in the customer's receipt.

    `notification_id` is the notification that went out with it, if one did.
    """

    transaction: Transaction
    signed_at: datetime
    signed_transaction: str
    receipt: str
    notification_id: UUID | None = None


class AppStore:
    """The store. Thread-safe."""

    def __init__(
        self,
        *,
        apps: Apps,
        catalog: Catalog,
        state: State,
        signer: Signer,
        seal: ReceiptSeal,
        sender: Sender,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        self._apps, self._catalog = apps, catalog
        self._state, self._signer, self._seal, self._sender = state, signer, seal, sender
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
        customer: str | None = None,
        product_type: ProductType | None = None,
        bundle_id: str | None = None,
        notify: bool = True,
    ) -> Statement:
        """A customer buys: `customer` names one who has a receipt already, otherwise a new one comes.

        `app` is an id of the apps file (the first one there if not given). `product_type` sells a product that is not
        in the catalogue, and `bundle_id` one of an app that is not in the apps file. Raises FieldInvalid, StateConflict
        (the customer has it already) and SenderUnavailable.
        """
        offer = self._offer(self.app(app), product_id, product_type, bundle_id)
        domain.check_purchase(offer, quantity=quantity, family_shared=family_shared)
        name = CustomerName(customer or str(self._ids.uuid()))
        buyer = Customer(offer.bundle_id, offer.app_apple_id, environment, name)
        if notify:
            self._sender.wait_for_room()
        sold = self._state.record(
            buyer,
            lambda earlier, number, now: _sell(
                offer,
                buyer,
                earlier=earlier,
                number=number,
                quantity=quantity,
                app_account_token=app_account_token,
                family_shared=family_shared,
                now=now,
            ),
        )
        statement = self._stated(sold, signed_at=sold.stated_at)
        return self._told(statement, *_purchase_notification(sold)) if notify else statement

    def _offer(self, app: App, product_id: str, product_type: ProductType | None, bundle_id: str | None) -> Offer:
        product = self._catalog.find(app=app.id, product_id=product_id)
        sold_as = product_type or (product.type if product else None)
        if sold_as is None:
            raise FieldInvalid("product_id", f"{app.id} has no {product_id!r} (give its `type` to sell it anyway)")
        group = (product and product.group) or DEFAULT_GROUP
        return Offer(
            bundle_id=bundle_id or app.apple.bundle_id,
            app_apple_id=app.apple.app_apple_id,
            product_id=product_id,
            type=sold_as,
            group=group if sold_as == "auto_renewable" else None,
            price_milli=domain.invented_price_milli(product_id),
            currency=CURRENCY,
        )

    def app(self, app_id: str | None) -> App:
        """The app of this id, or the first of the apps file. Raises FieldInvalid."""
        if app_id is None:
            return next(iter(self._apps))
        app = self._apps.by_id.get(AppId(app_id))
        if app is None:
            raise FieldInvalid("app", f"there is no app {app_id!r}")
        return app

    # ---- what befalls a transaction -----------------------------------------------------------------------------

    def refund(
        self, transaction_id: TransactionId, *, percent: float = 100, reason: Literal[0, 1] = 0, notify: bool = True
    ) -> Statement:
        """Apple gives the money back, all of it or `percent` of it; after an earlier refund, all that it gave back by
        then. Raises as `change` of the state does."""
        milli = domain.percentage_milli(percent)
        return self._change(
            transaction_id,
            lambda before, now: domain.refunded(before, percentage_milli=milli, reason=reason, now=now),
            "REFUND" if notify else None,
        )

    def reverse_refund(self, transaction_id: TransactionId, *, notify: bool = True) -> Statement:
        """Apple takes the refund back after a dispute: the customer has the purchase again."""
        return self._change(
            transaction_id,
            lambda before, now: domain.refund_reversed(before, now=now),
            "REFUND_REVERSED" if notify else None,
        )

    def revoke(self, transaction_id: TransactionId, *, notify: bool = True) -> Statement:
        """The family stops sharing the purchase with this customer."""
        return self._change(
            transaction_id, lambda before, now: domain.family_revoked(before, now=now), "REVOKE" if notify else None
        )

    def decline_refund(self, transaction_id: TransactionId, *, notify: bool = True) -> Statement:
        """Apple declines the customer's wish for a refund: nothing changes."""
        return self._tell(transaction_id, "REFUND_DECLINED" if notify else None)

    def request_refund(
        self,
        transaction_id: TransactionId,
        *,
        reason: ConsumptionRequestReason = "UNINTENDED_PURCHASE",
        notify: bool = True,
    ) -> Statement:
        """The customer wishes a refund, and Apple asks how much of the purchase was consumed: nothing changes."""
        return self._tell(transaction_id, "CONSUMPTION_REQUEST" if notify else None, consumption_request_reason=reason)

    def finish(self, transaction_id: TransactionId) -> Statement:
        """The app has finished the transaction: a consumable is in receipts no longer."""
        after = self._state.change(transaction_id, lambda before, _now: domain.finished(before))
        return self._stated(after, signed_at=after.stated_at)

    def transaction(self, transaction_id: TransactionId) -> Statement:
        """The transaction as it is, freshly signed. Raises TransactionUnknown."""
        now = whole_ms(self._clock.now())  # before reading: a change that comes in between has a later date
        transaction = self._state.get(transaction_id)
        return self._stated(transaction, signed_at=max(now, transaction.stated_at))

    def _change(
        self,
        transaction_id: TransactionId,
        change: Callable[[Transaction, datetime], Transaction],
        notification_type: NotificationType | None,
    ) -> Statement:
        if notification_type is not None:
            self._sender.wait_for_room()
        after = self._state.change(transaction_id, change)
        statement = self._stated(after, signed_at=after.stated_at)
        return statement if notification_type is None else self._told(statement, notification_type)

    def _tell(
        self,
        transaction_id: TransactionId,
        notification_type: NotificationType | None,
        consumption_request_reason: ConsumptionRequestReason | None = None,
    ) -> Statement:
        statement = self.transaction(transaction_id)
        if notification_type is None:
            return statement
        self._sender.wait_for_room()
        return self._told(statement, notification_type, consumption_request_reason=consumption_request_reason)

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
        everything = self._state.of_customer(receipt.customer)
        if receipt.customer.environment != asked:
            elsewhere = Status.SANDBOX_RECEIPT if asked == "production" else Status.PRODUCTION_RECEIPT
            return receipts.refusal(elsewhere, environment=asked)
        if any(each.renews for each in everything) and not self._knows_secret(receipt.customer.bundle_id, password):
            return receipts.refusal(Status.WRONG_SECRET, environment=asked)
        in_receipt = {each.transaction_id for each in receipt.transactions}
        return receipts.valid_answer(
            receipt,
            held=[each for each in everything if each.transaction_id in in_receipt],
            everything=everything,
            latest_receipt=lambda: self._receipt(receipt.customer),
            exclude_old=exclude_old,
            now=self._clock.now(),
        )

    def _knows_secret(self, bundle_id: str, password: str | None) -> bool:
        """Apple asks for the app's shared secret only where a receipt holds subscriptions."""
        app = self._apps.by_bundle_id.get(bundle_id)
        secret = app.apple.shared_secret if app else None
        return secret is None or hmac.compare_digest(secret.encode(), (password or "").encode())

    # ---- stating, signing, telling ------------------------------------------------------------------------------

    def _stated(self, transaction: Transaction, *, signed_at: datetime) -> Statement:
        signed = self._signer.sign(transaction_payload(transaction, signed_at=signed_at))
        return Statement(transaction, signed_at, signed, self._receipt(transaction.customer))

    def _receipt(self, customer: Customer) -> str:
        held = tuple(each for each in self._state.of_customer(customer) if each.in_receipt())
        return self._seal.close(Receipt(customer, whole_ms(self._clock.now()), held))

    def _told(
        self,
        statement: Statement,
        notification_type: NotificationType,
        subtype: Subtype | None = None,
        consumption_request_reason: ConsumptionRequestReason | None = None,
    ) -> Statement:
        """Sends the notification about the statement."""
        transaction, notification_id = statement.transaction, self._ids.uuid()
        payload = notification_payload(
            transaction,
            notification_id=notification_id,
            notification_type=notification_type,
            subtype=subtype,
            signed_at=statement.signed_at,
            signed_transaction=statement.signed_transaction,
            signed_renewal=self._signed_renewal(statement),
            consumption_request_reason=consumption_request_reason,
        )
        self._sender.send(
            Notification(
                id=notification_id,
                type=notification_type,
                subtype=subtype,
                bundle_id=transaction.customer.bundle_id,
                transaction_id=transaction.transaction_id,
                environment=transaction.customer.environment,
                signed_payload=self._signer.sign(payload),
                created_at=self._clock.now(),
            )
        )
        return replace(statement, notification_id=notification_id)

    def _signed_renewal(self, statement: Statement) -> str | None:
        if not statement.transaction.renews:
            return None
        return self._signer.sign(renewal_payload(statement.transaction, signed_at=statement.signed_at))


def _sell(
    offer: Offer,
    buyer: Customer,
    *,
    earlier: Sequence[Transaction],
    number: Callable[[], TransactionId],
    quantity: int,
    app_account_token: UUID | None,
    family_shared: bool,
    now: datetime,
) -> Transaction:
    """The new transaction. Raises StateConflict when the customer has already what can be had only once."""
    _must_not_have(offer, earlier, now)
    first = _first_subscription(offer, earlier)
    transaction_id = number()
    renews = offer.type == "auto_renewable"
    return Transaction(
        transaction_id=transaction_id,
        original_transaction_id=first.original_transaction_id if first else transaction_id,
        web_order_line_item_id=number() if renews else None,
        customer=buyer,
        product_id=offer.product_id,
        type=offer.type,
        group=offer.group,
        quantity=quantity,
        price_milli=None if family_shared else offer.price_milli * quantity,  # Apple: the total, not of one
        currency=None if family_shared else offer.currency,
        app_account_token=str(app_account_token) if app_account_token else None,
        family_shared=family_shared,
        purchased_at=now,
        original_purchased_at=first.original_purchased_at if first else now,
        expires_at=domain.period_end(offer.product_id, now) if renews else None,
        stated_at=now,
    )


def _must_not_have(offer: Offer, earlier: Sequence[Transaction], now: datetime) -> None:
    if offer.type == "non_consumable":
        same = [each for each in earlier if each.product_id == offer.product_id]
    elif offer.type == "auto_renewable":
        same = [each for each in earlier if each.group == offer.group]
    else:
        return
    if any(each.active(now) for each in same):
        raise StateConflict("already-owned", f"the customer has {offer.product_id} or another of its group already")


def _first_subscription(offer: Offer, earlier: Sequence[Transaction]) -> Transaction | None:
    """Whom a new subscription continues: in one group all of a customer's share the original transaction id."""
    of_group = (each for each in earlier if each.renews and each.group == offer.group)
    return next(of_group, None) if offer.type == "auto_renewable" else None


def _purchase_notification(sold: Transaction) -> tuple[NotificationType, Subtype | None]:
    if not sold.renews:
        return "ONE_TIME_CHARGE", None
    again = sold.original_transaction_id != sold.transaction_id
    return "SUBSCRIBED", "RESUBSCRIBE" if again else "INITIAL_BUY"
