"""The calls of the store, counted: what it answered, how long that took, and what it is to be asked again.

Statuses become few labels: the store's own where its documentation has them, else HTTP's (`http_503`), else `other`.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final, Literal

import requests
import urllib3

from shared.metrics.counted import STORE_CALL_DURATION, STORE_CALLS, STORE_RETRIES
from verifier.apple.refusals import CODES
from verifier.apple.transport import Answer, StoreUnreachable

Api = Literal["verify_receipt", "server_api", "ocsp"]

_HTTP: Final = range(100, 600)
_OF_RECEIPTS: Final = frozenset({0, *range(21000, 21011), *range(21100, 21200)})
"""The statuses of verifyReceipt (Apple: appstorereceipts/status)."""


def called(api: Api, exchange: Callable[[], Answer]) -> Answer:
    """The answer to a call that is timed, and counted when there is none; `answered` counts what it says.

    Raises StoreUnreachable.
    """
    began_s = perf_counter()
    try:
        return exchange()
    except StoreUnreachable as error:
        STORE_CALLS.add(api, "timeout" if _is_late(error) else "unreachable")
        raise
    finally:
        STORE_CALL_DURATION.add(perf_counter() - began_s, api)


def answered(api: Api, status: int | None) -> None:
    """The store answered with this status, its own or HTTP's; None: with what cannot be read."""
    STORE_CALLS.add(api, "unreadable" if status is None else _label(status))


def put_off(status: int | None) -> None:
    """A question is to be asked again. `status`: what the store said to it, its own or HTTP's, if it said anything."""
    STORE_RETRIES.add("unanswered" if status is None else _label(status))


def _label(status: int) -> str:
    if status in _OF_RECEIPTS or status in CODES:
        return str(status)
    return f"http_{status}" if status in _HTTP else "other"


def _is_late(error: BaseException) -> bool:
    """Whether a time-out is behind it: requests and urllib3 wrap it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
