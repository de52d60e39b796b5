"""The store's short troubles are waited out here, within one run; longer ones are the queue's and the journal's."""

from __future__ import annotations

from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_random_exponential

from shared.apps import App
from shared.catalog import Catalog
from shared.events import ProductType
from verifier.apple.receipts import VerifiedReceipt, VerifyReceiptClient
from verifier.domain import StoreBusy

TRIES_MAX = 3
WAIT_S_MAX = 1.0


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

        patient = Retrying(
            stop=stop_after_attempt(TRIES_MAX),
            wait=wait_random_exponential(multiplier=0.2, max=WAIT_S_MAX),
            retry=retry_if_result(_worth_asking_again),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        answer: VerifiedReceipt = patient(
            self._client.verify,
            receipt=receipt,
            shared_secret=app.apple.shared_secret,
            product_types=product_type,
        )
        return answer


def _worth_asking_again(answer: VerifiedReceipt) -> bool:
    return isinstance(answer, StoreBusy) and (answer.retry_after_s or 0) <= WAIT_S_MAX
