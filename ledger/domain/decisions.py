"""What an event of the store comes to: which currency moves, how its transaction stands then, and what is to be said.

Order does not matter, because what is left of a purchase is a function of two facts that may come in any order: what is
due for it (the catalogue's grants times the quantity), and the percentage refunded by the statement that the store
signed last:

    left = due - floor(due * percentage / 100)        in each currency

Every decision moves the difference between what is left now and what was left before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from ledger.domain.books import (
    ALL_MILLI,
    NOTHING,
    UNKNOWN,
    AccountKey,
    Amounts,
    KnownTransaction,
    TransactionKey,
    WalletKey,
    left_of,
    positive,
)
from shared.apps import Apps
from shared.catalog import QUANTITY_MAX, Catalog, Product
from shared.events import (
    Event,
    PurchaseCompleted,
    PurchaseParked,
    PurchaseRefunded,
    PurchaseRefundReversed,
    PurchaseVerified,
    RefundDeclined,
    RefundReceived,
    RefundReversed,
    RevocationCause,
    StoreTransaction,
)
from shared.ids import EventId, PurchaseId, UserId
from shared.money import Amount, CurrencyId

Debt = Literal["negative", "floor"]
Word = PurchaseCompleted | PurchaseParked | PurchaseRefunded | PurchaseRefundReversed
"""What is said of a purchase."""

_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Movement:
    """Currency that moves between one wallet and the house, for one store transaction. Amounts are positive.

    Of a `refund_reversal`, `amounts` were taken by refunds and are given back; `fresh` was refunded before it could be
    granted, and is credited now. `sequence` tells the postings of one transaction apart; the purchase's is 0.
    """

    kind: Literal["purchase", "refund", "refund_reversal"]
    key: TransactionKey
    sequence: int
    purchase_id: PurchaseId
    wallet: WalletKey
    amounts: Amounts
    debt: Debt
    fresh: Amounts = field(default_factory=dict)

    def currencies(self) -> list[CurrencyId]:
        return [*self.amounts, *(currency for currency in self.fresh if currency not in self.amounts)]

    def accounts(self) -> list[AccountKey]:
        """All accounts that posting it may touch."""
        wallets = [AccountKey.of_wallet(self.wallet, currency) for currency in self.currencies()]
        house = [account.house("issuance") for account in wallets]
        if self.kind == "purchase":
            return wallets + house
        return wallets + house + [account.house("write_off") for account in wallets]


@dataclass(frozen=True, slots=True)
class Decision:
    """What one event comes to: how its transaction stands then, what moves, and what is to be said about it.

    `parked` is why it cannot be handled as things are. `contested` says that the event names another user than the one
    who has the purchase: nothing moves.
    """

    known: KnownTransaction
    movement: Movement | None = None
    words: tuple[Word, ...] = ()
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


Fact = PurchaseVerified | RefundReceived | RefundReversed | RefundDeclined


def key_of(event: Event[Fact]) -> TransactionKey:
    """What the event is about: a store's transaction, or the charge that it shows under several ids."""
    transaction = event.payload.transaction
    return TransactionKey(event.app, transaction.store, transaction.environment, transaction.charge)


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
    match event.payload:
        case PurchaseVerified() as fact:
            product = catalog.find(app=event.app, product_id=fact.transaction.product_id)
            return _decide_purchase(event, fact, known, product)
        case RefundReceived() as fact:
            return _decide_refund(event, fact, known, debt=app.wallet.debt)
        case RefundReversed() as fact:
            return _restate(event, fact.transaction, known, milli=0, debt=app.wallet.debt)
        case _:
            return Decision(known)  # a refund that was declined: the purchase stands as it did


# ---- purchases ---------------------------------------------------------------------------------------------------


def _decide_purchase(
    event: Event[Fact], fact: PurchaseVerified, known: KnownTransaction, product: Product | None
) -> Decision:
    user_id = event.user_id
    if user_id is None:
        return Decision(known, parked="a verified purchase names its user; this one does not")
    if known.user_id not in (None, user_id):
        return Decision(known, contested=True)
    if known.state == "granted":
        return _shown_again(fact, known)
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
    if (known.parked_reason, known.purchase_id) == (reason, fact.purchase_id):
        return Decision(known, parked=reason)
    parked = replace(
        known,
        state="parked",
        user_id=user_id,
        purchase_id=fact.purchase_id,
        transaction_id=fact.transaction.transaction_id,
        parked_reason=reason,
    )
    return Decision(parked, words=(PurchaseParked(fact.purchase_id, fact.transaction, reason),), parked=reason)


def _grant(
    event: Event[Fact], fact: PurchaseVerified, known: KnownTransaction, *, user_id: UserId, product: Product
) -> Decision:
    """Grants what is due, less what the store has refunded already."""
    due = _due(product, fact.transaction)
    granted = KnownTransaction(
        state="granted",
        user_id=user_id,
        purchase_id=fact.purchase_id,
        transaction_id=fact.transaction.transaction_id,
        product_id=product.id,
        quantity=fact.transaction.quantity,
        purchased_at=fact.transaction.purchased_at,
        due=due,
        granted=left_of(due, known.refunded_milli),
        refunded_milli=known.refunded_milli,
        revoked_signed_at=known.revoked_signed_at,
    )
    completed = PurchaseCompleted(fact.purchase_id, fact.transaction, _listed(granted.granted))
    words: list[Word] = [completed] if known.refunded_milli < ALL_MILLI else []
    if known.refunded_milli:
        words.append(_refunded_word(granted, fact.purchase_id, fact.transaction))
    movement = _movement("purchase", event, granted, granted.granted, debt="negative")
    return Decision(granted, movement, tuple(words))


def _due(product: Product, transaction: StoreTransaction) -> Amounts:
    """The currency that it gives: none for what nobody paid for (a free trial, what a family member shares), and none
    for what another system has granted."""
    if transaction.family_shared or (transaction.period is not None and not transaction.period.is_paid):
        return NOTHING
    if product.grants_from is not None and transaction.purchased_at < product.grants_from:
        return NOTHING
    return {amount.currency: amount.amount for amount in product.granted(transaction.quantity)}


def _shown_again(fact: PurchaseVerified, known: KnownTransaction) -> Decision:
    """The store shows a charge under another transaction id, to the same user: a restored copy. It was granted."""
    if fact.transaction.transaction_id == known.transaction_id:
        return Decision(known)
    if known.refunded_milli == 0:
        return Decision(known, words=(PurchaseCompleted(fact.purchase_id, fact.transaction),))
    word = PurchaseRefunded(fact.purchase_id, fact.transaction, percentage_milli=known.refunded_milli)
    return Decision(known, words=(word,))


# ---- refunds, and refunds that are taken back --------------------------------------------------------------------


def _decide_refund(event: Event[Fact], fact: RefundReceived, known: KnownTransaction, *, debt: Debt) -> Decision:
    if not 0 < fact.percentage_milli <= ALL_MILLI:
        return Decision(known, parked=f"{fact.percentage_milli} thousandths of a percent cannot be refunded")
    return _restate(event, fact.transaction, known, milli=fact.percentage_milli, debt=debt, cause=fact.cause)


def _restate(
    event: Event[Fact],
    transaction: StoreTransaction,
    known: KnownTransaction,
    *,
    milli: int,
    debt: Debt,
    cause: RevocationCause = "refund",
) -> Decision:
    """The store says how far it is refunded. Of two statements the one that was signed later counts (of two of the same
    moment, the larger refund). What is not granted yet is remembered, and the grant will be the less.
    """
    if (transaction.signed_at, milli) <= (known.revoked_signed_at or _NEVER, known.refunded_milli):
        return Decision(known)
    restated = replace(known, refunded_milli=milli, revoked_signed_at=transaction.signed_at)
    if known.state != "granted" or known.purchase_id is None or milli == known.refunded_milli:
        return Decision(restated)
    if milli > known.refunded_milli:
        return _take_back(event, transaction, known, restated, debt=debt, cause=cause)
    return _give_back(event, transaction, known, restated)


def _take_back(
    event: Event[Fact],
    transaction: StoreTransaction,
    known: KnownTransaction,
    restated: KnownTransaction,
    *,
    debt: Debt,
    cause: RevocationCause,
) -> Decision:
    assert known.purchase_id is not None  # it is granted
    taken = positive(_difference(restated.refunded, known.refunded))
    movement = _movement("refund", event, known, taken, debt=debt)
    word = _refunded_word(restated, known.purchase_id, transaction, cause=cause)
    return Decision(_after(restated, movement), movement, (word,))


def _give_back(
    event: Event[Fact], transaction: StoreTransaction, known: KnownTransaction, restated: KnownTransaction
) -> Decision:
    """What was taken is given again; what was refunded before it could be granted is granted now."""
    assert known.purchase_id is not None  # it is granted
    owing = _difference(restated.left, known.left)
    returned = positive({currency: min(amount, known.refunded.get(currency, 0)) for currency, amount in owing.items()})
    fresh = positive(_difference(owing, returned))
    movement = _movement("refund_reversal", event, known, returned, debt="negative", fresh=fresh)
    granted = {currency: known.granted.get(currency, 0) + fresh.get(currency, 0) for currency in restated.due}
    after = _after(replace(restated, granted=positive(granted)), movement)
    word = PurchaseRefundReversed(
        known.purchase_id, transaction, _listed(after.granted), _listed(after.refunded), after.refunded_milli
    )
    return Decision(after, movement, (word,))


def _difference(amounts: Amounts, less: Amounts) -> Amounts:
    return {currency: amount - less.get(currency, 0) for currency, amount in amounts.items()}


def _after(known: KnownTransaction, movement: Movement | None) -> KnownTransaction:
    return known if movement is None else replace(known, sequence=movement.sequence)


def _movement(
    kind: Literal["purchase", "refund", "refund_reversal"],
    event: Event[Fact],
    known: KnownTransaction,
    amounts: Amounts,
    *,
    debt: Debt,
    fresh: Amounts = NOTHING,
) -> Movement | None:
    if not (amounts or fresh) or known.user_id is None or known.purchase_id is None:
        return None
    key = key_of(event)
    return Movement(
        kind=kind,
        key=key,
        sequence=0 if kind == "purchase" else known.sequence + 1,
        purchase_id=known.purchase_id,
        wallet=WalletKey(key.app, key.environment, known.user_id),
        amounts=amounts,
        debt=debt,
        fresh=fresh,
    )


def _refunded_word(
    known: KnownTransaction,
    purchase_id: PurchaseId,
    transaction: StoreTransaction,
    *,
    cause: RevocationCause = "refund",
) -> PurchaseRefunded:
    return PurchaseRefunded(
        purchase_id, transaction, _listed(known.granted), _listed(known.refunded), known.refunded_milli, cause
    )


def _listed(amounts: Amounts) -> list[Amount]:
    return [Amount(currency, amount) for currency, amount in sorted(amounts.items())]
