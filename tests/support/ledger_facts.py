"""What a store may say, as values that Hypothesis draws: told to the real ledger as events, and to the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from hypothesis import strategies as st

from shared.events import Environment, Event, StoreTransaction
from shared.ids import AppId, UserId, purchase_id
from tests.support.ledger import (
    CATALOG,
    FLOOR_GAME,
    GAME,
    refund_declined,
    refund_reversed,
    refunded,
    transaction,
    verified,
)
from tests.support.ledger_model import ALL_OF_IT, LedgerModel, Place

USERS: Final = (UserId("alice"), UserId("bob"))
PLACES: Final[tuple[tuple[AppId, Environment], ...]] = (
    (GAME, "production"),
    (FLOOR_GAME, "production"),
    (GAME, "sandbox"),
)
"""Two policies on debts, and the same transaction ids in two environments."""
What = Literal["verified", "refunded", "reversed", "declined"]
PRODUCTS: Final = ("gems100", "bundle", "bundle", "gems100", "adfree")


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that the store says of one transaction. Who bought what with it follows from its number.

    `moment` is when it was signed: of each transaction the store signs one statement on refunds at one moment.
    """

    app: AppId
    environment: Environment
    number: int
    what: What
    milli: int = ALL_OF_IT
    moment: int = 0

    @property
    def place(self) -> Place:
        return self.app, self.environment

    @property
    def user(self) -> UserId:
        """Not the same one in another environment, since a purchase's id does not say which environment it is from."""
        return USERS[(self.number == 3) ^ (self.environment == "sandbox")]

    @property
    def transaction(self) -> StoreTransaction:
        product, quantity = PRODUCTS[self.number % len(PRODUCTS)], 1 + self.number % 2
        return transaction(
            str(self.number),
            product=product,
            quantity=quantity,
            environment=self.environment,
            after_s=self.moment,
        )

    @property
    def due(self) -> Mapping[str, int]:
        """What the purchase gives."""
        of = self.transaction
        product = CATALOG.find(app=self.app, product_id=of.product_id)
        assert product is not None
        return {amount.currency: amount.amount for amount in product.granted(of.quantity)}

    @property
    def statement(self) -> object:
        """What no two facts that differ may share: a transaction's statements are signed one after the other."""
        is_statement = self.what in {"refunded", "reversed"}
        return self.place, self.number, self.moment if is_statement else self.what


def facts(
    *, numbers: st.SearchStrategy[int], places: Sequence[tuple[AppId, Environment]] = PLACES
) -> st.SearchStrategy[Fact]:
    """Facts about transactions of these numbers, in these places."""
    return st.builds(
        _fact,
        st.sampled_from(places),
        numbers,
        st.sampled_from(
            ("verified", "verified", "verified", "refunded", "refunded", "refunded", "reversed", "declined")
        ),
        st.sampled_from((ALL_OF_IT, ALL_OF_IT, 50_000, 33_333, 1, 99_999)) | st.integers(1, ALL_OF_IT),
        st.integers(0, 8),
    )


def _fact(place: tuple[AppId, Environment], number: int, what: What, milli: int, moment: int) -> Fact:
    app, environment = place
    return Fact(app, environment, number, what, milli, moment)


def event_of(fact: Fact) -> Event[Any]:
    """The event that says so; each call makes another one. Of a refund some know who had bought it, others do not."""
    of = fact.transaction
    if fact.what == "verified":
        return verified(of, user=fact.user, app=fact.app)
    event: Event[Any]
    if fact.what == "refunded":
        event = refunded(of, milli=fact.milli, app=fact.app)
    elif fact.what == "reversed":
        event = refund_reversed(of, app=fact.app)
    else:
        event = refund_declined(of, app=fact.app)
    return _claimed(event, fact) if fact.moment % 2 else event


def _claimed(event: Event[Any], fact: Fact) -> Event[Any]:
    of = fact.transaction
    purchase = purchase_id(app=fact.app, store=of.store, transaction_id=of.transaction_id, user_id=fact.user)
    return replace(event, subject=purchase, user_id=fact.user, payload=replace(event.payload, purchase_id=purchase))


def tell(model: LedgerModel, told: Iterable[Fact]) -> None:
    """Tells the model."""
    for fact in told:
        name, signed_at = str(fact.number), fact.transaction.signed_at
        if fact.what == "verified":
            model.verified(fact.place, name, user=fact.user, due=fact.due)
        elif fact.what != "declined":  # that the store said no changes nothing
            milli = fact.milli if fact.what == "refunded" else 0
            model.refund_stated(fact.place, name, milli=milli, signed_at=signed_at)
