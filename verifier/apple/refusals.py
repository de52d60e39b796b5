"""What the App Store Server API may answer instead of what it was asked for, and what each of it means to us.

The table has the errors of the calls that we make; whatever else comes is judged by its HTTP status.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

import msgspec


class ServerApiError(Exception):
    """The Server API did not give what it was asked for. `code` is Apple's, else the HTTP status; None: no answer."""

    def __init__(self, reason: str, *, code: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.retry_after_s = retry_after_s

    @property
    def sentence(self) -> str:
        """For somebody who has not asked himself."""
        return f"the App Store Server API: {self.reason}" + ("" if self.code is None else f" ({self.code})")


class ServerApiUnavailable(ServerApiError):
    """It may give it later: after `retry_after_s` seconds, if that is known."""


class ServerApiMisconfigured(ServerApiError):
    """We are wrong: the key, the bundle id, the address. An operator mends it, then ask again."""


class ServerApiRejected(ServerApiError):
    """It will not answer this question, however often it is asked."""


class ServerApiNotFound(ServerApiRejected):
    """It knows nothing by this id, in this environment."""


class Meaning(Enum):
    """What an error code says about asking again."""

    LATER = auto()
    OURS = auto()
    QUESTION = auto()
    NOT_FOUND = auto()


RATE_LIMIT_EXCEEDED: Final = 4290000
RATE_LIMITED: Final = frozenset({RATE_LIMIT_EXCEEDED, 429})
UNAUTHORIZED: Final = 401

CODES: Final[Mapping[int, Meaning]] = {
    4000000: Meaning.QUESTION,  # GeneralBadRequest
    4000002: Meaning.OURS,  # InvalidAppIdentifier: the bundle id is not what the key may ask about
    4000005: Meaning.QUESTION,  # InvalidRequestRevision
    4000006: Meaning.NOT_FOUND,  # InvalidTransactionId: no transaction can have such an id
    4000008: Meaning.NOT_FOUND,  # InvalidOriginalTransactionId
    4000012: Meaning.QUESTION,  # StartDateTooFarInPast
    4000013: Meaning.QUESTION,  # StartDateAfterEndDate
    4000014: Meaning.QUESTION,  # InvalidPaginationToken
    4000015: Meaning.QUESTION,  # InvalidStartDate
    4000016: Meaning.QUESTION,  # InvalidEndDate
    4000017: Meaning.QUESTION,  # PaginationTokenExpired
    4000018: Meaning.QUESTION,  # InvalidNotificationType
    4000019: Meaning.QUESTION,  # MultipleFiltersSupplied
    4000020: Meaning.QUESTION,  # InvalidTestNotificationToken
    4000021: Meaning.QUESTION,  # InvalidSort
    4000022: Meaning.QUESTION,  # InvalidProductType
    4000023: Meaning.QUESTION,  # InvalidProductId
    4000024: Meaning.QUESTION,  # InvalidSubscriptionGroupIdentifier
    4000026: Meaning.QUESTION,  # InvalidInAppOwnershipType
    4000030: Meaning.QUESTION,  # InvalidRevoked
    4000031: Meaning.QUESTION,  # InvalidStatus
    4040001: Meaning.NOT_FOUND,  # AccountNotFound
    4040002: Meaning.LATER,  # AccountNotFoundRetryable
    4040003: Meaning.OURS,  # AppNotFound: the bundle id, or the app is not there yet
    4040004: Meaning.LATER,  # AppNotFoundRetryable
    4040005: Meaning.NOT_FOUND,  # OriginalTransactionIdNotFound
    4040006: Meaning.LATER,  # OriginalTransactionIdNotFoundRetryable
    4040007: Meaning.OURS,  # ServerNotificationUrlNotFound: none is entered in App Store Connect
    4040008: Meaning.NOT_FOUND,  # TestNotificationNotFound: it was not sent yet, or long ago
    4040010: Meaning.NOT_FOUND,  # TransactionIdNotFound
    RATE_LIMIT_EXCEEDED: Meaning.LATER,
    5000000: Meaning.LATER,  # GeneralInternal
    5000001: Meaning.LATER,  # GeneralInternalRetryable
}

_ERRORS: Final[Mapping[Meaning, type[ServerApiError]]] = {
    Meaning.LATER: ServerApiUnavailable,
    Meaning.OURS: ServerApiMisconfigured,
    Meaning.QUESTION: ServerApiRejected,
    Meaning.NOT_FOUND: ServerApiNotFound,
}

_UNAUTHORIZED_REASON: Final = (
    "it does not take our token: the issuer id, the key id, the key file or the bundle id is wrong, or the key was"
    " revoked, or this is production and the app has no release there yet"
)


class _Body(msgspec.Struct, frozen=True):
    errorCode: int | None = None  # noqa: N815 - Apple's name
    errorMessage: str | None = None  # noqa: N815


def read_refusal(status: int, body: bytes, *, retry_after_s: float | None) -> ServerApiError:
    """What an answer that is not 2xx means."""
    told = _read(body)
    meaning = CODES.get(told.errorCode or 0) or _by_status(status)
    if status == UNAUTHORIZED:
        return ServerApiMisconfigured(_UNAUTHORIZED_REASON, code=UNAUTHORIZED)
    return _ERRORS[meaning](
        told.errorMessage or f"it answered HTTP {status}",
        code=told.errorCode or status,
        retry_after_s=retry_after_s,
    )


def _by_status(status: int) -> Meaning:
    """Of an error that has no code of the table. What is not said in Apple's words never means that there is no such
    transaction: it may be another server that answers."""
    return Meaning.OURS if 400 <= status < 500 and status not in (408, 425, 429) else Meaning.LATER


def _read(body: bytes) -> _Body:
    """Apple's words, if it has any: they may be missing (a 401 has none)."""
    try:
        return msgspec.json.decode(body, type=_Body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Body()
