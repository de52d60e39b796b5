"""What the store remembers of its customers: their transactions, in memory, and the numbers it gives them."""

from __future__ import annotations

import threading
from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from shared.clock import Clock
from shared.events import Environment
from shared.ids import TransactionId
from simulator.domain import Customer, StateConflict, Transaction, TransactionUnknown

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


Sell = Callable[[Sequence[Transaction], Callable[[], TransactionId], datetime], Transaction]


class State:
    """All transactions, by id and by customer. Thread-safe; every value in it is immutable."""

    def __init__(self, clock: Clock, *, transactions_max: int = TRANSACTIONS_MAX) -> None:
        self._clock = clock
        self._transactions_max = transactions_max
        self._lock = threading.Lock()
        self._numbers = TransactionNumbers()
        self._transactions: OrderedDict[TransactionId, Transaction] = OrderedDict()  # in the order of their coming
        self._customers: dict[Customer, list[TransactionId]] = {}

    def record(
        self,
        customer: Customer,
        sell: Sell,
    ) -> Transaction:
        """Adds what `sell(earlier transactions of the customer, giver of numbers, now)` returns, nobody else between.

        Raises StateConflict when the customer has as many as one can have, and whatever `sell` raises.
        """
        with self._lock:
            earlier = self._of(customer)
            if len(earlier) >= CUSTOMER_TRANSACTIONS_MAX:
                raise StateConflict("customer-full", f"a customer has at most {CUSTOMER_TRANSACTIONS_MAX} transactions")
            now = self._clock.now()
            transaction = sell(
                earlier, partial(self._numbers.next, environment=customer.environment, now=now), whole_ms(now)
            )
            self._add(transaction)
            return transaction

    def adopt(self, transactions: Iterable[Transaction]) -> None:
        """Takes in again what a receipt holds and the store no longer remembers. What it does remember stands."""
        with self._lock:
            for transaction in transactions:
                if transaction.transaction_id not in self._transactions:
                    self._add(transaction)

    def change(
        self, transaction_id: TransactionId, change: Callable[[Transaction, datetime], Transaction]
    ) -> Transaction:
        """Puts `change(transaction, at)` in its place. Raises TransactionUnknown, and whatever `change` raises.

        `at` is the millisecond after now: later than every signature that stated the transaction as it was, because
        who reads signatures believes the newest.
        """
        with self._lock:
            at = whole_ms(self._clock.now()) + timedelta(milliseconds=1)
            before = self._get(transaction_id)
            after = change(before, max(at, before.stated_at + timedelta(milliseconds=1)))
            self._transactions[transaction_id] = after
            return after

    def get(self, transaction_id: TransactionId) -> Transaction:
        """Raises TransactionUnknown."""
        with self._lock:
            return self._get(transaction_id)

    def of_customer(self, customer: Customer) -> tuple[Transaction, ...]:
        """All that the customer has, oldest first."""
        with self._lock:
            return self._of(customer)

    def _get(self, transaction_id: TransactionId) -> Transaction:
        found = self._transactions.get(transaction_id)
        if found is None:
            raise TransactionUnknown(f"there is no transaction {transaction_id}")
        return found

    def _of(self, customer: Customer) -> tuple[Transaction, ...]:
        return tuple(self._transactions[transaction_id] for transaction_id in self._customers.get(customer, ()))

    def _add(self, transaction: Transaction) -> None:
        self._transactions[transaction.transaction_id] = transaction
        insort(self._customers.setdefault(transaction.customer, []), transaction.transaction_id)  # as old as its number
        if len(self._transactions) > self._transactions_max:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        transaction_id, transaction = self._transactions.popitem(last=False)
        customer = transaction.customer
        self._customers[customer].remove(transaction_id)
        if not self._customers[customer]:
            del self._customers[customer]


def whole_ms(moment: datetime) -> datetime:
    """The moment cut to its millisecond, which is all that the App Store's times carry."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
