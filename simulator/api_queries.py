"""What callers of the App Store Server API ask for: paths, query parameters and bodies, read as Apple reads them.

Everything here raises ApiRefused with Apple's code for what is wrong.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
from flask import request

from shared.clock import from_unix_ms, to_unix_ms
from shared.events import ProductType
from shared.ids import TransactionId
from simulator.api_errors import ApiError, ApiRefused
from simulator.notification_log import Notification
from simulator.records import HistoryFilter, NotificationFilter, Revision

T = TypeVar("T")
Json = dict[str, Any]

_TRANSACTION_ID: Final = re.compile(r"[0-9]{1,20}")
_REVISION: Final = re.compile(r"([0-9]{1,15})_([0-9]{1,20})")
_TEST_TOKEN: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})_[0-9]{1,15}")
_NOTIFICATION_TYPE: Final = re.compile(r"[A-Z][A-Z_]{1,63}")
_UNIX_MS_MAX: Final = 253_402_300_799_999  # the end of the year 9999

_PRODUCT_TYPES: Final[dict[str, ProductType]] = {
    "AUTO_RENEWABLE": "auto_renewable",
    "NON_RENEWABLE": "non_renewing",
    "CONSUMABLE": "consumable",
    "NON_CONSUMABLE": "non_consumable",
}
_OWNERSHIPS: Final = {"PURCHASED": "PURCHASED", "FAMILY_SHARED": "FAMILY_SHARED"}
_SORTS: Final = {"ASCENDING": False, "DESCENDING": True}
_BOOLEANS: Final = {"true": True, "false": False}
_STATUSES: Final = {str(status): status for status in range(1, 6)}


def read_transaction_id(text: str) -> TransactionId:
    """Digits, which need not be anybody's."""
    if not _TRANSACTION_ID.fullmatch(text):
        raise ApiRefused(ApiError.INVALID_TRANSACTION_ID)
    return TransactionId(text)


def read_revision() -> Revision | None:
    """What `revision_text` wrote, if the query has one."""
    text = request.args.get("revision")
    if text is None:
        return None
    match = _REVISION.fullmatch(text)
    if match is None:
        raise ApiRefused(ApiError.INVALID_REVISION)
    return Revision(int(match[1]), int(match[2]))


def read_newest_first() -> bool:
    """Apple: oldest first unless the query says otherwise."""
    return _one_of("sort", _SORTS, ApiError.INVALID_SORT) or False


def read_statuses() -> frozenset[int]:
    """The statuses of subscriptions that are wanted; none wants all."""
    return _each_of("status", _STATUSES, ApiError.INVALID_STATUS)


def revision_text(revision: Revision) -> str:
    """A revision as callers see it, and may not look into."""
    return f"{revision.moment_ms}_{revision.number}"


def read_history_filter() -> HistoryFilter:
    """Apple's TransactionHistoryRequest."""
    start = _moment(request.args.get("startDate"), ApiError.INVALID_START_DATE)
    end = _moment(request.args.get("endDate"), ApiError.INVALID_END_DATE)
    if start is not None and end is not None and start >= end:
        raise ApiRefused(ApiError.START_DATE_AFTER_END_DATE)
    return HistoryFilter(
        start=start,
        end=end,
        product_ids=frozenset(request.args.getlist("productId")),
        product_types=_each_of("productType", _PRODUCT_TYPES, ApiError.INVALID_PRODUCT_TYPE),
        groups=frozenset(request.args.getlist("subscriptionGroupIdentifier")),
        ownership=_one_of("inAppOwnershipType", _OWNERSHIPS, ApiError.INVALID_IN_APP_OWNERSHIP_TYPE),
        revoked=_revoked(),
    )


def _revoked() -> bool | None:
    """Apple's Python library writes `True`, everybody else `true`."""
    text = request.args.get("revoked")
    if text is not None and text.lower() not in _BOOLEANS:
        raise ApiRefused(ApiError.INVALID_REVOKED)
    return None if text is None else _BOOLEANS[text.lower()]


def _one_of(name: str, known: dict[str, T], error: ApiError) -> T | None:
    """The parameter's value, if there is one."""
    return next(iter(_each_of(name, known, error)), None)


def _each_of(name: str, known: dict[str, T], error: ApiError) -> frozenset[T]:
    """The values of a parameter that may be repeated."""
    given = request.args.getlist(name)
    if any(each not in known for each in given):
        raise ApiRefused(error)
    return frozenset(known[each] for each in given)


def _moment(given: object, error: ApiError) -> datetime | None:
    """UNIX milliseconds: digits in a query, a number in a body."""
    if given is None:
        return None
    if isinstance(given, str) and re.fullmatch(r"[0-9]{1,15}", given):
        given = int(given)
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given <= _UNIX_MS_MAX:
        raise ApiRefused(error)
    return from_unix_ms(given)


def read_notification_filter() -> NotificationFilter:
    """Apple's NotificationHistoryRequest. An end in the future is as good as now."""
    body = _json_object()
    start = _moment(body.get("startDate"), ApiError.INVALID_START_DATE)
    end = _moment(body.get("endDate"), ApiError.INVALID_END_DATE)
    if start is None or end is None:
        raise ApiRefused(ApiError.INVALID_START_DATE if start is None else ApiError.INVALID_END_DATE)
    if start >= end:
        raise ApiRefused(ApiError.START_DATE_AFTER_END_DATE)
    kind, subtype = (
        _notification_type(body.get("notificationType")),
        _notification_type(body.get("notificationSubtype")),
    )
    transaction_id = body.get("transactionId")
    if transaction_id is not None and kind is not None:
        raise ApiRefused(ApiError.MULTIPLE_FILTERS_SUPPLIED)
    if subtype is not None and kind is None:
        raise ApiRefused(ApiError.INVALID_NOTIFICATION_TYPE)
    return NotificationFilter(
        start=start,
        end=end,
        type=kind,
        subtype=subtype,
        transaction_id=None if transaction_id is None else read_transaction_id(str(transaction_id)),
        only_failures=body.get("onlyFailures") is True,
    )


def _notification_type(given: object) -> str | None:
    if given is not None and not (isinstance(given, str) and _NOTIFICATION_TYPE.fullmatch(given)):
        raise ApiRefused(ApiError.INVALID_NOTIFICATION_TYPE)
    return given


def read_pagination_token() -> UUID | None:
    """The notification behind which to go on, if the query has one."""
    text = request.args.get("paginationToken")
    try:
        return None if text is None else UUID(text)
    except ValueError as error:
        raise ApiRefused(ApiError.INVALID_PAGINATION_TOKEN) from error


def test_token(sent: Notification) -> str:
    """The testNotificationToken of a TEST, in Apple's form: its UUID and its moment."""
    return f"{sent.id}_{to_unix_ms(sent.created_at)}"


def read_test_token(token: str) -> UUID:
    """The notification that a testNotificationToken is about."""
    match = _TEST_TOKEN.fullmatch(token)
    if match is None:
        raise ApiRefused(ApiError.INVALID_TEST_NOTIFICATION_TOKEN)
    return UUID(match[1])


def _json_object() -> Json:
    try:
        body = msgspec.json.decode(request.get_data())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiRefused(ApiError.GENERAL_BAD_REQUEST) from error
    if not isinstance(body, dict):
        raise ApiRefused(ApiError.GENERAL_BAD_REQUEST)
    return body
