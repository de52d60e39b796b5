"""What an event of the store comes to: which currency moves, how its transaction stands then, and what is to be said.

Order does not matter, because what is left of a purchase is a function of two facts that may come in any order: what is
due for it (the catalogue's grants times the quantity) and the highest percentage refunded:

    left = due - floor(due * percentage / 100)        in each currency

Every decision moves the difference between what is left now and what was left before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ledger.domain.books import (
    ALL_MILLI,
    UNKNOWN,
    AccountKey,
    AccountKind,
    Amounts,
    KnownTransaction,
    TransactionKey,
    TransferKind,
    WalletKey,
    part,
    positive,
)
from shared.apps import Apps
from shared.catalog import QUANTITY_MAX, Catalog, Product
from shared.events import (
    Event,
    Payload,
    PurchaseCompleted,
    PurchaseParked,
    PurchaseRefunded,
    PurchaseVerified,
    RefundReceived,
    StoreTransaction,
)
from shared.ids import EventId, PurchaseId, UserId
from shared.money import Amount, CurrencyId

Debt = Literal["negative", "floor"]


@dataclass(frozen=True, slots=True)
class Movement:
    """Currency that moves between one wallet and the house, for one store transaction. Amounts are positive.

    `sequence` tells the parts of one transaction's refund apart; a purchase's is 0.
    """

    kind: TransferKind
    key: TransactionKey
    sequence: int
    purchase_id: PurchaseId
    wallet: WalletKey
    amounts: Amounts
    debt: Debt

    def accounts(self) -> list[AccountKey]:
        """All accounts that posting it may touch."""
        kinds: list[AccountKind] = ["issuance"]
        if self.kind == "refund" and self.debt == "floor":
            kinds.append("write_off")
        house = [self.house(kind, currency) for currency in self.amounts for kind in kinds]
        return [self.account(currency) for currency in self.amounts] + house

    def account(self, currency: CurrencyId) -> AccountKey:
        return AccountKey("wallet", self.wallet.app, self.wallet.environment, currency, self.wallet.user_id)

    def house(self, kind: AccountKind, currency: CurrencyId) -> AccountKey:
        return AccountKey(kind, self.wallet.app, self.wallet.environment, currency)


@dataclass(frozen=True, slots=True)
class Decision:
    """What one event comes to: how its transaction stands then, what moves, and what is to be said about it.

    `parked` is why it cannot be handled as things are. `contested` says that the event names another user than the one
    who has the purchase: nothing moves.
    """

    known: KnownTransaction
    movement: Movement | None = None
    words: tuple[Payload, ...] = ()
    parked: str | None = None
    contested: bool = False


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a batch comes to: a decision per event, in their order, and how the transactions that changed stand then."""

    steps: Sequence[tuple[Event[Any], Decision]]
    changed: Mapping[TransactionKey, KnownTransaction]

    def movements(self) -> Iterable[Movement]:
        return (decision.movement for _, decision in self.steps if decision.movement is not None)

    def parked(self) -> dict[EventId, str]:
        """Why, for each event that cannot be handled as things are."""
        return {event.id: decision.parked for event, decision in self.steps if decision.parked is not None}


Fact = PurchaseVerified | RefundReceived


def key_of(event: Event[Fact]) -> TransactionKey:
    """The store transaction that the event is about."""
    transaction = event.payload.transaction
    return TransactionKey(event.app, transaction.store, transaction.environment, transaction.transaction_id)


def decide(
    *,
    events: Sequence[Event[Fact]],
    known: Mapping[TransactionKey, KnownTransaction],
    catalog: Catalog,
    apps: Apps,
) -> Decisions:
    """Decides the events one after the other; `known` holds the transactions of all of them (absent: unknown)."""
    now_known = dict(known)
    steps = []
    for event in events:
        key = key_of(event)
        decision = _decide(event, now_known.get(key, UNKNOWN), catalog=catalog, apps=apps)
        now_known[key] = decision.known
        steps.append((event, decision))
    changed = {key: after for key, after in now_known.items() if after is not known.get(key, UNKNOWN)}
    return Decisions(steps, changed)


def _decide(event: Event[Fact], known: KnownTransaction, *, catalog: Catalog, apps: Apps) -> Decision:
    if (app := apps.by_id.get(event.app)) is None:
        return Decision(known, parked=f"the app {event.app!r} is not in the apps file")
    if isinstance(event.payload, RefundReceived):
        return _decide_refund(event, event.payload, known, debt=app.wallet.debt)
    product = catalog.find(app=event.app, product_id=event.payload.transaction.product_id)
    return _decide_purchase(event, event.payload, known, product)


def _decide_purchase(
    event: Event[Fact], fact: PurchaseVerified, known: KnownTransaction, product: Product | None
) -> Decision:
    user_id = event.user_id
    if user_id is None:
        return Decision(known, parked="a verified purchase names its user; this one does not")
    if known.user_id not in (None, user_id):
        return Decision(known, contested=True)
    if known.state == "granted":
        return Decision(known)
    if product is None:
        reason = f"the product {fact.transaction.product_id!r} is not in the catalogue"
        return _park(fact, known, user_id=user_id, reason=reason)
    if (mismatch := _mismatch(product, fact.transaction)) is not None:
        return _park(fact, known, user_id=user_id, reason=mismatch)
    return _grant(event, fact, known, user_id=user_id, product=product)


def _mismatch(product: Product, transaction: StoreTransaction) -> str | None:
    """Why this product of the catalogue cannot be what was bought; None when it can."""
    if transaction.product_type not in {None, product.type}:
        return f"the product {product.id!r} is {product.type} in the catalogue, {transaction.product_type} in the store"
    if not 1 <= transaction.quantity <= QUANTITY_MAX:
        return f"a quantity of {transaction.quantity} is not within 1 and {QUANTITY_MAX}"
    return None


def _park(fact: PurchaseVerified, known: KnownTransaction, *, user_id: UserId, reason: str) -> Decision:
    """Said once: a retry that finds the same reason says nothing new."""
    if known.parked_reason == reason:
        return Decision(known, parked=reason)
    parked = replace(known, state="parked", user_id=user_id, purchase_id=fact.purchase_id, parked_reason=reason)
    return Decision(parked, words=(PurchaseParked(fact.purchase_id, fact.transaction, reason),), parked=reason)


def _grant(
    event: Event[Fact], fact: PurchaseVerified, known: KnownTransaction, *, user_id: UserId, product: Product
) -> Decision:
    """Grants what is due, less what the store has refunded already."""
    due = {amount.currency: amount.amount for amount in product.granted(fact.transaction.quantity)}
    granted = KnownTransaction(
        state="granted",
        user_id=user_id,
        purchase_id=fact.purchase_id,
        due=due,
        granted=positive({currency: amount - part(amount, known.refunded_milli) for currency, amount in due.items()}),
        refunded_milli=known.refunded_milli,
    )
    completed = PurchaseCompleted(fact.purchase_id, fact.transaction, _listed(granted.granted))
    words: list[Payload] = [completed] if known.refunded_milli < ALL_MILLI else []
    if known.refunded_milli:
        words.append(_refunded_word(granted, fact.purchase_id, fact.transaction))
    movement = _movement("purchase", event, granted, granted.granted, debt="negative")
    return Decision(granted, movement, tuple(words))


def _decide_refund(event: Event[Fact], fact: RefundReceived, known: KnownTransaction, *, debt: Debt) -> Decision:
    """The highest percentage wins. A refund of what is not granted is remembered, and the grant will be the less."""
    if not 0 <= fact.percentage_milli <= ALL_MILLI:
        return Decision(known, parked=f"{fact.percentage_milli} thousandths of a percent cannot be refunded")
    if fact.percentage_milli <= known.refunded_milli:
        return Decision(known)
    refunded = replace(known, refunded_milli=fact.percentage_milli)
    if known.purchase_id is None or known.state != "granted":
        return Decision(refunded)
    before = known.refunded
    taken = {currency: amount - before.get(currency, 0) for currency, amount in refunded.refunded.items()}
    movement = _movement("refund", event, known, positive(taken), debt=debt)
    if movement is not None:
        refunded = replace(refunded, refunds=movement.sequence)
    return Decision(refunded, movement, (_refunded_word(refunded, known.purchase_id, fact.transaction),))


def _movement(
    kind: TransferKind, event: Event[Fact], known: KnownTransaction, amounts: Amounts, *, debt: Debt
) -> Movement | None:
    if not amounts or known.user_id is None or known.purchase_id is None:
        return None
    key = key_of(event)
    return Movement(
        kind=kind,
        key=key,
        sequence=0 if kind == "purchase" else known.refunds + 1,
        purchase_id=known.purchase_id,
        wallet=WalletKey(key.app, key.environment, known.user_id),
        amounts=amounts,
        debt=debt,
    )


def _refunded_word(known: KnownTransaction, purchase_id: PurchaseId, transaction: StoreTransaction) -> PurchaseRefunded:
    return PurchaseRefunded(
        purchase_id, transaction, _listed(known.granted), _listed(known.refunded), known.refunded_milli
    )


def _listed(amounts: Amounts) -> list[Amount]:
    return [Amount(currency, amount) for currency, amount in sorted(amounts.items())]
