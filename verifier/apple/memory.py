"""What the App Store Server API tells of the past: its history of notifications, and how subscriptions stand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from appstoreserverlibrary.models.LastTransactionsItem import LastTransactionsItem
from appstoreserverlibrary.models.NotificationHistoryResponseItem import NotificationHistoryResponseItem
from appstoreserverlibrary.models.StatusResponse import StatusResponse
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from shared.apps import App
from shared.events import Environment
from shared.ids import TransactionId
from verifier.apple.refusals import UNAUTHORIZED, ServerApiError, ServerApiNotFound, ServerApiUnavailable
from verifier.apple.server_api import ServerApi
from verifier.domain.reconciliation import (
    HistoryPage,
    Remembered,
    Span,
    Standing,
    StoreUnanswered,
    SubscriptionUnknown,
)

A = TypeVar("A")

TRIES_MAX: Final = 3
WAIT_S_MAX: Final = 2.0

KEY_REFUSED: Final = "401: it does not take the key"
"""So begins the reason for every answer of that kind: before its first release, an app gets it of production."""


class AppleMemory:
    """`verifier.handlers.reconciling.StoreMemory`. A short trouble of the store is waited out; so is a rate limit, as
    long as the API's `Pace` waits."""

    def __init__(self, api: ServerApi) -> None:
        self._api = api

    def told(
        self, *, app: App, environment: Environment, span: Span, only_failures: bool, at: str | None
    ) -> HistoryPage:
        items, following = _patiently(
            lambda: self._api.notification_page(
                app=app,
                environment=environment,
                since=span.since,
                until=span.until,
                only_failures=only_failures,
                at=at,
            )
        )
        return HistoryPage(tuple(_remembered(item) for item in items), following)

    def standings(
        self, original_transaction_id: TransactionId, *, app: App, environment: Environment
    ) -> Sequence[Standing]:
        try:
            answer = _patiently(lambda: self._api.statuses(original_transaction_id, app=app, environment=environment))
        except ServerApiNotFound as error:
            raise SubscriptionUnknown(original_transaction_id) from error
        return [standing for item in _subscriptions(answer) if (standing := _standing(item)) is not None]


def _patiently(ask: Callable[[], A]) -> A:
    """Raises ServerApiNotFound, and StoreUnanswered for everything else that is no answer."""
    patient = Retrying(
        sleep=_sleep,
        stop=stop_after_attempt(TRIES_MAX),
        wait=wait_random_exponential(multiplier=0.2, max=WAIT_S_MAX),
        retry=retry_if_exception_type(ServerApiUnavailable),
        reraise=True,
    )
    try:
        answer: A = patient(ask)
    except ServerApiNotFound:
        raise
    except ServerApiError as error:
        raise StoreUnanswered(KEY_REFUSED if error.code == UNAUTHORIZED else error.sentence) from error
    return answer


def _sleep(seconds: float) -> None:
    threading.Event().wait(seconds)


def _remembered(item: NotificationHistoryResponseItem) -> Remembered:
    return Remembered(signed_payload=item.signedPayload or "", tried=bool(item.sendAttempts))


def _subscriptions(answer: StatusResponse) -> Sequence[LastTransactionsItem]:
    return [item for group in answer.data or () for item in group.lastTransactions or ()]


def _standing(item: LastTransactionsItem) -> Standing | None:
    """None: it lacks what nothing can be said without."""
    if item.originalTransactionId is None or item.rawStatus is None or item.signedTransactionInfo is None:
        return None
    return Standing(
        original_transaction_id=TransactionId(item.originalTransactionId),
        status=item.rawStatus,
        signed_transaction=item.signedTransactionInfo,
        signed_renewal_info=item.signedRenewalInfo,
    )
