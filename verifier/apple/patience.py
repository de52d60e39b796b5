"""The store's short troubles are waited out here, within one run; longer ones are the queue's and the journal's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, stop_after_delay
from tenacity.wait import wait_random_exponential

from shared.apps import App
from shared.catalog import Catalog
from shared.events import ProductType
from shared.ids import TransactionId
from verifier.apple.counting import put_off
from verifier.apple.lookups import TransactionLookups
from verifier.apple.receipts import VerifiedReceipt, VerifyReceiptClient
from verifier.domain import LookupAnswer, StoreBusy

A = TypeVar("A")

TRIES_MAX = 3
WAIT_S_MAX = 1.0
PATIENCE_S = 3.0
"""Nothing is tried again after so long: a store that lets us wait for a time-out would keep a worker for three."""


class PatientReceiptStore:
    """`verifier.handlers.ReceiptStore`: asks up to three times within some two seconds while the store is busy."""

    def __init__(self, client: VerifyReceiptClient, catalog: Catalog) -> None:
        self._client = client
        self._catalog = catalog

    def verify(self, receipt: str, *, app: App) -> VerifiedReceipt:
        """The store's word, or StoreBusy when it was busy each time (or named a time that is longer than we wait)."""

        def product_type(product_id: str) -> ProductType | None:
            product = self._catalog.find(app=app.id, product_id=product_id)
            return None if product is None else product.type

        return _patiently(
            lambda: self._client.verify(
                receipt=receipt, shared_secret=app.apple.shared_secret, product_types=product_type
            )
        )


class PatientTransactionStore:
    """`verifier.handlers.TransactionStore`, as patient as `PatientReceiptStore`."""

    def __init__(self, lookups: TransactionLookups) -> None:
        self._lookups = lookups

    def find(self, transaction_id: TransactionId, *, app: App) -> LookupAnswer:
        """The store's word, or StoreBusy when it was busy each time (or named a time that is longer than we wait)."""
        return _patiently(lambda: self._lookups.find(transaction_id, app=app))


def _sleep(seconds: float) -> None:
    threading.Event().wait(seconds)


def _patiently(ask: Callable[[], A]) -> A:
    """The last answer counts; but of several that the store was busy, one that cannot mean anything else."""
    busy: list[A] = []
    patient = Retrying(
        sleep=_sleep,
        stop=stop_after_attempt(TRIES_MAX) | stop_after_delay(PATIENCE_S),
        wait=_wait_s,
        retry=retry_if_result(_worth_asking_again),
        before_sleep=lambda state: busy.append(_again(_answer(state))),
        retry_error_callback=lambda state: _least_final([*busy, _answer(state)]),
    )
    answer: A = _again(patient(ask))
    return answer


def _answer(state: RetryCallState) -> Any:
    return state.outcome.result() if state.outcome else None


def _again(answer: A) -> A:
    """Counts it if the store was busy: it is asked again, here or by whoever comes back with the question."""
    if isinstance(answer, StoreBusy):
        put_off(answer.status)
    return answer


def _least_final(busy: Sequence[A]) -> A:
    certain = [answer for answer in busy if isinstance(answer, StoreBusy) and answer.persisting is None]
    return certain[-1] if certain else busy[-1]


def _wait_s(state: RetryCallState) -> float:
    """Longer each time and never the same for two, but at least what the store asked for."""
    answer = _answer(state)
    asked_s = answer.retry_after_s if isinstance(answer, StoreBusy) else None
    return max(_BACKOFF(state), asked_s or 0)


_BACKOFF = wait_random_exponential(multiplier=0.2, max=WAIT_S_MAX)


def _worth_asking_again(answer: Any) -> bool:
    return isinstance(answer, StoreBusy) and (answer.retry_after_s or 0) <= WAIT_S_MAX
