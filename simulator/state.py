"""What the store remembers, in memory: customers' transactions and subscriptions; and the numbers that it gives."""

from __future__ import annotations

import threading
from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from shared.clock import Clock
from shared.events import Environment
from shared.ids import TransactionId
from simulator.domain import Customer, StateConflict, Transaction, TransactionUnknown
from simulator.sales import Holdings, Number
from simulator.subscriptions import A_MILLISECOND, Step, Steps, Subscription, remembered

TRANSACTIONS_MAX: Final = 100_000
"""How many transactions are remembered. The oldest is forgotten first; a receipt that holds it brings it back."""

CUSTOMER_TRANSACTIONS_MAX: Final = 500
"""How many one customer may have: a receipt of so many is still smaller than what a gateway takes."""

_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=10)
_FIRST: Final[dict[Environment, int]] = {"sandbox": 2_000_000_000_000_000, "production": 300_000_000_000_000}


class TransactionNumbers:
    """Numbers that look like Apple's: 16 digits `2000…` in the sandbox, 15 digits in production.

    They count hundredths of a millisecond since 2026, and on from the last one where that was reached already: so they
    rise, and are new after a restart too, without being kept (100,000 purchases a second would outrun the clock).
    Not thread-safe.
    """

    def __init__(self) -> None:
        self._last = -1

    def next(self, *, environment: Environment, now: datetime) -> TransactionId:
        self._last = max(self._last + 1, (now - _EPOCH) // _TICK)
        return TransactionId(str(_FIRST[environment] + self._last))


Sell = Callable[[Holdings, Number, datetime], Step]
Change = Callable[[Transaction, Subscription | None, datetime], Step]
Live = Callable[[Subscription, Number, datetime], Steps]
Plan = Callable[[TransactionId, datetime | None], None]


def _plan_nothing(_subscription_id: TransactionId, _due_at: datetime | None) -> None:
    """Where nothing happens by itself."""


class State:
    """All transactions, by id and by customer, and all subscriptions. Thread-safe; every value in it is immutable.

    `plan` is told when something is due of a subscription by itself (None: nothing is), whenever that changes.
    """

    def __init__(self, clock: Clock, *, transactions_max: int = TRANSACTIONS_MAX, plan: Plan = _plan_nothing) -> None:
        self._clock = clock
        self._transactions_max = transactions_max
        self._plan = plan
        self._lock = threading.Lock()
        self._numbers = TransactionNumbers()
        self._transactions: OrderedDict[TransactionId, Transaction] = OrderedDict()  # in the order of their coming
        self._customers: dict[Customer, list[TransactionId]] = {}
        self._subscriptions: dict[TransactionId, Subscription] = {}  # in the order of their coming, by the original

    def record(self, customer: Customer, sell: Sell) -> Step:
        """Keeps what `sell(holdings of the customer, giver of numbers, now)` comes to, nobody else between.

        Raises StateConflict when the customer has as many transactions as one can have, and whatever `sell` raises.
        """
        with self._lock:
            now = self._clock.now()
            holdings = Holdings(self._of(customer), self._subscriptions_of(customer))
            step = sell(holdings, self._giver(customer, now), whole_ms(now))
            self._write(step)
            return step

    def adopt(self, transactions: Iterable[Transaction]) -> None:
        """Takes in again what a receipt holds and the store no longer remembers. What it does remember stands."""
        with self._lock:
            unknown = [each for each in transactions if each.transaction_id not in self._transactions]
            for transaction in unknown:
                self._put(transaction)
            for period in sorted((each for each in unknown if each.renews), key=_began):
                self._adopt_period(period)

    def change(self, transaction_id: TransactionId, change: Change) -> Step:
        """Keeps what `change(transaction, its subscription, at)` comes to. Raises TransactionUnknown, and whatever
        `change` raises.

        `at` is the millisecond after now: later than every signature that stated the transaction or the subscription as
        it was, because who reads signatures believes the newest.
        """
        with self._lock:
            before = self._get(transaction_id)
            subscription = self._subscriptions.get(before.original_transaction_id)
            step = change(before, subscription, self._later_than(before, subscription))
            self._write(step)
            return step

    def live(self, subscription_id: TransactionId, live: Live) -> Steps:
        """Keeps what `live(subscription, giver of numbers, at)` comes to; `at` is as in `change`.

        Raises TransactionUnknown, and whatever `live` raises; the giver of numbers raises StateConflict when the
        customer has as many transactions as one can have.
        """
        with self._lock:
            before = self._subscription(subscription_id)
            number = self._giver(before.customer, self._clock.now())
            steps = live(before, number, self._later_than(before.period, before))
            for step in steps:
                self._write(step)
            if not steps:
                self._plan(subscription_id, before.due_at())
            return steps

    def get(self, transaction_id: TransactionId) -> Transaction:
        """Raises TransactionUnknown."""
        with self._lock:
            return self._get(transaction_id)

    def with_subscription(self, transaction_id: TransactionId) -> tuple[Transaction, Subscription | None]:
        """The transaction, and the subscription that it belongs to, of one moment. Raises TransactionUnknown."""
        with self._lock:
            transaction = self._get(transaction_id)
            return transaction, self._subscriptions.get(transaction.original_transaction_id)

    def of_customer(self, customer: Customer) -> tuple[Transaction, ...]:
        """All that the customer has, oldest first."""
        with self._lock:
            return self._of(customer)

    def holdings(self, customer: Customer) -> Holdings:
        """All that the customer has, of one moment."""
        with self._lock:
            return Holdings(self._of(customer), self._subscriptions_of(customer))

    def subscription(self, subscription_id: TransactionId) -> Subscription:
        """Raises TransactionUnknown."""
        with self._lock:
            return self._subscription(subscription_id)

    def subscriptions(self) -> tuple[Subscription, ...]:
        """All of them, oldest first."""
        with self._lock:
            return tuple(self._subscriptions.values())

    # ---- all of it under the lock -------------------------------------------------------------------------------

    def _get(self, transaction_id: TransactionId) -> Transaction:
        found = self._transactions.get(transaction_id)
        if found is None:
            raise TransactionUnknown(f"there is no transaction {transaction_id}")
        return found

    def _subscription(self, subscription_id: TransactionId) -> Subscription:
        found = self._subscriptions.get(subscription_id)
        if found is None:
            raise TransactionUnknown(f"there is no subscription {subscription_id}: name its original transaction id")
        return found

    def _of(self, customer: Customer) -> tuple[Transaction, ...]:
        return tuple(self._transactions[transaction_id] for transaction_id in self._customers.get(customer, ()))

    def _subscriptions_of(self, customer: Customer) -> tuple[Subscription, ...]:
        originals = dict.fromkeys(each.original_transaction_id for each in self._of(customer) if each.renews)
        return tuple(self._subscriptions[each] for each in originals if each in self._subscriptions)

    def _giver(self, customer: Customer, now: datetime) -> Number:
        next_number = partial(self._numbers.next, environment=customer.environment, now=now)

        def number() -> TransactionId:
            if len(self._customers.get(customer, ())) >= CUSTOMER_TRANSACTIONS_MAX:
                raise StateConflict("customer-full", f"a customer has at most {CUSTOMER_TRANSACTIONS_MAX} transactions")
            return next_number()

        return number

    def _later_than(self, transaction: Transaction, subscription: Subscription | None) -> datetime:
        stated_at = max(transaction.stated_at, subscription.stated_at) if subscription else transaction.stated_at
        return max(whole_ms(self._clock.now()), stated_at) + A_MILLISECOND

    def _write(self, step: Step) -> None:
        for transaction in (*step.others, step.transaction):
            self._put(transaction)
        if step.subscription is not None:
            self._keep(step.subscription)

    def _keep(self, subscription: Subscription) -> None:
        self._subscriptions[subscription.id] = subscription
        self._plan(subscription.id, subscription.due_at())

    def _adopt_period(self, period: Transaction) -> None:
        """The newest period of a subscription that is not known makes it known."""
        known = self._subscriptions.get(period.original_transaction_id)
        if known is None or _began(known.period) < _began(period):
            self._keep(remembered(period, now=self._clock.now()))

    def _put(self, transaction: Transaction) -> None:
        is_new = transaction.transaction_id not in self._transactions
        self._transactions[transaction.transaction_id] = transaction
        if is_new:
            ids = self._customers.setdefault(transaction.customer, [])
            insort(ids, transaction.transaction_id)  # as old as its number
        if len(self._transactions) > self._transactions_max:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        transaction_id, transaction = self._transactions.popitem(last=False)
        customer = transaction.customer
        self._customers[customer].remove(transaction_id)
        if not self._customers[customer]:
            del self._customers[customer]
        subscription = self._subscriptions.get(transaction.original_transaction_id)
        if subscription is not None and subscription.period.transaction_id == transaction_id:
            del self._subscriptions[subscription.id]
            self._plan(subscription.id, None)


def _began(period: Transaction) -> tuple[datetime, TransactionId]:
    return period.purchased_at, period.transaction_id


def whole_ms(moment: datetime) -> datetime:
    """The moment cut to its millisecond, which is all that the App Store's times carry."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
