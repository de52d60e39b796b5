"""What a customer buys: the first of it, and what of a customer's forbids or continues it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.ids import TransactionId
from simulator import choices
from simulator.domain import Customer, Listing, Notice, Offer, StateConflict, Transaction, check_purchase
from simulator.lengths import Lengths, length_of
from simulator.subscriptions import A_MILLISECOND, Moment, Step, Subscription, begun

Number = Callable[[], TransactionId]


@dataclass(frozen=True, slots=True)
class Order:
    """What a customer wants. Raises FieldInvalid when Apple would not sell it so."""

    buyer: Customer
    listing: Listing
    quantity: int = 1
    app_account_token: UUID | None = None
    family_shared: bool = False
    offer: Offer | None = None

    def __post_init__(self) -> None:
        check_purchase(self.listing, quantity=self.quantity, family_shared=self.family_shared, offer=self.offer)

    @property
    def token(self) -> str | None:
        """The account token as Apple writes it."""
        return str(self.app_account_token) if self.app_account_token else None


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the customer has already: transactions, oldest first, and subscriptions."""

    transactions: Sequence[Transaction]
    subscriptions: Sequence[Subscription]


def sold(order: Order, holdings: Holdings, number: Number, now: datetime, lengths: Lengths) -> Step:
    """The sale. Raises StateConflict when the customer has already what can be had only once."""
    if order.listing.type == "auto_renewable":
        return _subscribed(order, holdings, number, now, lengths)
    if order.listing.type == "non_consumable":
        _must_not_own(order, holdings, now)
    return Step(_transaction(order, number, now, lengths), Notice("ONE_TIME_CHARGE"))


def _must_not_own(order: Order, holdings: Holdings, now: datetime) -> None:
    same = (each for each in holdings.transactions if each.product_id == order.listing.product_id)
    if any(each.active(now) for each in same):
        raise StateConflict("already-owned", f"the customer has {order.listing.product_id} already")


def _subscribed(order: Order, holdings: Holdings, number: Number, now: datetime, lengths: Lengths) -> Step:
    """In one group all of a customer's own share the original transaction id, and so do those of the family."""
    of_group = [each for each in holdings.subscriptions if each.period.group == order.listing.group]
    if any(each.status(now) in choices.USABLE for each in of_group):
        raise StateConflict("already-owned", f"the customer has one of the group {order.listing.group} already")
    before = next((each for each in of_group if each.period.family_shared == order.family_shared), None)
    if before is None:
        period = _transaction(order, number, now, lengths)
        list_price = None if order.family_shared else order.listing.price_milli
        return Step(period, Notice("SUBSCRIBED", "INITIAL_BUY"), begun(period, list_price_milli=list_price))
    moment = Moment(max(now, before.stated_at) + A_MILLISECOND, number, lengths)
    (step,) = choices.resubscribe(before, moment, to=order.listing, app_account_token=order.token, offer=order.offer)
    return step


def _transaction(order: Order, number: Number, now: datetime, lengths: Lengths) -> Transaction:
    listing, offer = order.listing, order.offer
    transaction_id = number()
    renews = listing.type == "auto_renewable"
    price_milli = listing.price_milli * order.quantity  # Apple: the total, not of one
    length = offer.length if offer else length_of(listing.product_id)
    return Transaction(
        transaction_id=transaction_id,
        original_transaction_id=transaction_id,
        web_order_line_item_id=number() if renews else None,
        customer=order.buyer,
        product_id=listing.product_id,
        type=listing.type,
        group=listing.group,
        quantity=order.quantity,
        price_milli=None if order.family_shared else offer.price_milli(price_milli) if offer else price_milli,
        currency=None if order.family_shared else listing.currency,
        app_account_token=order.token,
        family_shared=order.family_shared,
        purchased_at=now,
        original_purchased_at=now,
        expires_at=lengths.after(now, length) if renews else None,
        stated_at=now,
        offer=offer,
    )
