"""The App Store Server API's errors: Apple's codes, and what is said with them."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum
from typing import Final

from simulator.domain import SimulatorError

HTTP_STATUS_UNIT: Final = 10_000
"""Apple: the first three of an error code's seven digits are the HTTP status."""


class ApiError(IntEnum):
    """Apple's error codes: those that the store gives of itself, and those that it is likely told to give."""

    GENERAL_BAD_REQUEST = 4000000
    INVALID_REVISION = 4000005
    INVALID_TRANSACTION_ID = 4000006
    START_DATE_TOO_FAR_IN_PAST = 4000012
    START_DATE_AFTER_END_DATE = 4000013
    INVALID_PAGINATION_TOKEN = 4000014
    INVALID_START_DATE = 4000015
    INVALID_END_DATE = 4000016
    PAGINATION_TOKEN_EXPIRED = 4000017
    INVALID_NOTIFICATION_TYPE = 4000018
    MULTIPLE_FILTERS_SUPPLIED = 4000019
    INVALID_TEST_NOTIFICATION_TOKEN = 4000020
    INVALID_SORT = 4000021
    INVALID_PRODUCT_TYPE = 4000022
    INVALID_IN_APP_OWNERSHIP_TYPE = 4000026
    INVALID_REVOKED = 4000030
    INVALID_STATUS = 4000031
    ACCOUNT_NOT_FOUND = 4040001
    ACCOUNT_NOT_FOUND_RETRYABLE = 4040002
    APP_NOT_FOUND = 4040003
    APP_NOT_FOUND_RETRYABLE = 4040004
    ORIGINAL_TRANSACTION_ID_NOT_FOUND = 4040005
    ORIGINAL_TRANSACTION_ID_NOT_FOUND_RETRYABLE = 4040006
    TEST_NOTIFICATION_NOT_FOUND = 4040008
    TRANSACTION_ID_NOT_FOUND = 4040010
    RATE_LIMIT_EXCEEDED = 4290000
    GENERAL_INTERNAL = 5000000
    GENERAL_INTERNAL_RETRYABLE = 5000001


class ApiRefused(SimulatorError):
    """The call is answered with an error of Apple's; `retry_at` is when to come back, where that is said."""

    def __init__(self, error: ApiError, *, retry_at: datetime | None = None) -> None:
        super().__init__(f"{int(error)} {error.name}")
        self.error = error
        self.retry_at = retry_at


def http_status(code: int) -> int:
    """The HTTP status that goes with an error code."""
    return code // HTTP_STATUS_UNIT


def message(code: int) -> str:
    """The errorMessage that goes with an error code."""
    return _MESSAGES.get(code, _UNKNOWN)


_UNKNOWN: Final = "An unknown error occurred."
_MESSAGES: Final[dict[int, str]] = {
    ApiError.GENERAL_BAD_REQUEST: "Bad request.",
    ApiError.INVALID_REVISION: "Invalid request revision.",
    ApiError.INVALID_TRANSACTION_ID: "Invalid transaction id.",
    ApiError.START_DATE_TOO_FAR_IN_PAST: "The start date is earlier than the allowed start date.",
    ApiError.START_DATE_AFTER_END_DATE: "The end date precedes the start date, or they are the same date.",
    ApiError.INVALID_PAGINATION_TOKEN: "The pagination token is invalid.",
    ApiError.INVALID_START_DATE: "The start date is invalid.",
    ApiError.INVALID_END_DATE: "The end date is invalid.",
    ApiError.PAGINATION_TOKEN_EXPIRED: "The pagination token is expired.",
    ApiError.INVALID_NOTIFICATION_TYPE: "The notification type or subtype is invalid.",
    ApiError.MULTIPLE_FILTERS_SUPPLIED: "Supply either a transaction id or a notification type, but not both.",
    ApiError.INVALID_TEST_NOTIFICATION_TOKEN: "The test notification token is invalid.",
    ApiError.INVALID_SORT: "Invalid sort.",
    ApiError.INVALID_PRODUCT_TYPE: "Invalid product type.",
    ApiError.INVALID_IN_APP_OWNERSHIP_TYPE: "Invalid in-app ownership type.",
    ApiError.INVALID_REVOKED: "Invalid revoked.",
    ApiError.INVALID_STATUS: "Invalid status.",
    ApiError.ACCOUNT_NOT_FOUND: "Account not found.",
    ApiError.ACCOUNT_NOT_FOUND_RETRYABLE: "Account not found. Please try again.",
    ApiError.APP_NOT_FOUND: "App not found.",
    ApiError.APP_NOT_FOUND_RETRYABLE: "App not found. Please try again.",
    ApiError.ORIGINAL_TRANSACTION_ID_NOT_FOUND: "Original transaction id not found.",
    ApiError.ORIGINAL_TRANSACTION_ID_NOT_FOUND_RETRYABLE: "Original transaction id not found. Please try again.",
    ApiError.TEST_NOTIFICATION_NOT_FOUND: "The test notification token is expired, or its status is not there yet.",
    ApiError.TRANSACTION_ID_NOT_FOUND: "Transaction id not found.",
    ApiError.RATE_LIMIT_EXCEEDED: "Rate limit exceeded.",
    ApiError.GENERAL_INTERNAL: _UNKNOWN,
    ApiError.GENERAL_INTERNAL_RETRYABLE: "An unknown error occurred. Please try again.",
}
