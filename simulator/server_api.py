"""The App Store Server API over HTTP, as Apple has it: paths, parameters, bodies, errors. It translates, nothing else.

`/inApps/…` is the production address, `/sandbox/inApps/…` the sandbox's. Sources: Apple, App Store Server API, and the
names in the models of Apple's library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

import msgspec
from flask import Flask, Response, request

from shared.clock import Clock, to_unix_ms
from shared.events import Environment
from shared.http import request_id
from shared.log import get_logger
from simulator.api_errors import ApiError, ApiRefused, http_status, message
from simulator.api_queries import (
    read_history_filter,
    read_newest_first,
    read_notification_filter,
    read_pagination_token,
    read_revision,
    read_statuses,
    read_test_token,
    read_transaction_id,
    revision_text,
    test_token,
)
from simulator.faults import FaultBoard, Mishap
from simulator.notification_log import Notification
from simulator.notifications import SenderUnavailable
from simulator.payloads import ENVIRONMENT_NAMES
from simulator.rates import RateLimits
from simulator.records import Caller, LastTransaction, Records, TransactionPage, caller_of
from simulator.tokens import TokenCheck, TokenRefused
from simulator.transport import hold_back, json_answer

log = get_logger(__name__)

Json = dict[str, Any]
View = Callable[..., Json]

SEND_ATTEMPTS_MAX: Final = 6
"""Apple: sendAttempts has at most six entries."""

SANDBOX_SHARE: Final = 0.1
"""Apple, Identifying rate limits: the sandbox allows a tenth."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of the API. `per_s` is Apple's limit for it in production."""

    name: str
    method: str
    path: str
    per_s: float
    view: View


@dataclass(frozen=True, slots=True)
class _Doors:
    """What every call passes."""

    tokens: TokenCheck
    faults: FaultBoard
    rates: RateLimits
    clock: Clock


def add_server_api(
    app: Flask, *, records: Records, tokens: TokenCheck, faults: FaultBoard, rates: RateLimits, clock: Clock
) -> None:
    """Adds the calls, at both addresses, to the simulator's HTTP."""
    doors = _Doors(tokens, faults, rates, clock)
    addresses: tuple[tuple[str, Environment], ...] = (("", "production"), ("/sandbox", "sandbox"))
    for prefix, environment in addresses:
        for call in _calls(records):
            app.add_url_rule(
                prefix + call.path,
                f"{environment} {call.name}",
                _served(call, environment, doors),
                methods=[call.method],
            )


def _calls(records: Records) -> tuple[_Call, ...]:
    """Every call. The limits: Apple, Identifying rate limits."""

    def transaction(caller: Caller, transaction_id: str) -> Json:
        return {"signedTransactionInfo": records.transaction(caller, read_transaction_id(transaction_id))}

    def history(caller: Caller, transaction_id: str) -> Json:
        page = records.history(
            caller,
            read_transaction_id(transaction_id),
            wanted=read_history_filter(),
            newest_first=read_newest_first(),
            after=read_revision(),
        )
        return {**_page_view(page), **_app_view(caller)}

    def refunds(caller: Caller, transaction_id: str) -> Json:
        return _page_view(records.refunds(caller, read_transaction_id(transaction_id), after=read_revision()))

    def subscriptions(caller: Caller, transaction_id: str) -> Json:
        found = records.subscriptions(caller, read_transaction_id(transaction_id), statuses=read_statuses())
        groups = groupby(found, key=lambda each: each.group)
        return {**_app_view(caller), "data": [_group_view(group, list(members)) for group, members in groups]}

    def notifications(caller: Caller) -> Json:
        wanted = read_notification_filter()
        found, more = records.notifications(caller, wanted=wanted, after=read_pagination_token())
        onwards = {"paginationToken": str(found[-1].id)} if more else {}
        return {"notificationHistory": [_notification_view(each) for each in found], "hasMore": more, **onwards}

    def request_test(caller: Caller) -> Json:
        return {"testNotificationToken": test_token(records.send_test(caller))}

    def test_status(caller: Caller, token: str) -> Json:
        return _notification_view(records.test(caller, read_test_token(token)))

    of_transaction = "<transaction_id>"
    return (
        _Call("transaction", "GET", f"/inApps/v1/transactions/{of_transaction}", 50, transaction),
        _Call("history", "GET", f"/inApps/v2/history/{of_transaction}", 50, history),
        _Call("refunds", "GET", f"/inApps/v2/refund/lookup/{of_transaction}", 10, refunds),
        _Call("subscriptions", "GET", f"/inApps/v1/subscriptions/{of_transaction}", 50, subscriptions),
        _Call("notifications", "POST", "/inApps/v1/notifications/history", 50, notifications),
        _Call("request test", "POST", "/inApps/v1/notifications/test", 1, request_test),
        _Call("test status", "GET", "/inApps/v1/notifications/test/<token>", 1, test_status),
    )


# ---- what every call passes -------------------------------------------------------------------------------------


def _served(call: _Call, environment: Environment, doors: _Doors) -> Callable[..., Response]:
    def served(**in_path: str) -> Response:
        wrong = doors.faults.strike_api()
        hold_back(wrong.hold_s)
        if wrong.code is not None or wrong.http_status is not None:
            return _failed(wrong, doors)
        try:
            caller = caller_of(doors.tokens.app_of(request.headers.get("Authorization", "")), environment)
            _keep_to_the_limit(call, caller, doors)
            answer = call.view(caller, **in_path)
        except TokenRefused as error:
            log.warning("a caller of the Server API was refused", why=str(error))
            return _unauthenticated()
        except ApiRefused as error:
            return _error(error.error, retry_at=error.retry_at)
        except SenderUnavailable:
            return _error(ApiError.GENERAL_INTERNAL_RETRYABLE)
        return json_answer(msgspec.json.encode(answer), wrong.spoiling)

    return served


def _keep_to_the_limit(call: _Call, caller: Caller, doors: _Doors) -> None:
    """Raises ApiRefused when the limits are in force and this is one call too many."""
    wrong = doors.faults.in_force.api
    per_s = wrong.rate_per_s or (_apples_limit(call, caller) if wrong.limit_rates else None)
    if per_s is None:
        return
    wait_s = doors.rates.take((caller, call.name), per_s=per_s)
    if wait_s > 0:
        raise ApiRefused(ApiError.RATE_LIMIT_EXCEEDED, retry_at=doors.clock.now() + timedelta(seconds=wait_s))


def _apples_limit(call: _Call, caller: Caller) -> float:
    return call.per_s * (SANDBOX_SHARE if caller.environment == "sandbox" else 1)


# ---- errors -----------------------------------------------------------------------------------------------------


def _failed(wrong: Mishap, doors: _Doors) -> Response:
    """What was commanded: Apple's error body when there is a code, none otherwise."""
    after_ms = doors.faults.in_force.api.retry_after_ms
    retry_at = None if after_ms is None else doors.clock.now() + timedelta(milliseconds=after_ms)
    if wrong.code is None:
        return _may_come_back(Response(status=wrong.http_status), retry_at)
    return _error(wrong.code, status=wrong.http_status, retry_at=retry_at)


def _error(code: int, *, status: int | None = None, retry_at: datetime | None = None) -> Response:
    body = msgspec.json.encode({"errorCode": int(code), "errorMessage": message(code)})
    return _may_come_back(Response(body, status or http_status(code), content_type="application/json"), retry_at)


def _may_come_back(response: Response, retry_at: datetime | None) -> Response:
    # Apple: Retry-After is absolute, in UNIX milliseconds
    if retry_at is not None:
        response.headers["Retry-After"] = str(math.ceil(retry_at.timestamp() * 1000))
    return response


def _unauthenticated() -> Response:
    """As Apple says it: no errorCode, and no JSON."""
    return Response(f"Unauthenticated\n\nRequest ID: {request_id()}\n", 401, content_type="text/plain")


# ---- what goes out ----------------------------------------------------------------------------------------------


def _app_view(caller: Caller) -> Json:
    """Apple: appAppleId is there in production only."""
    in_production = {"appAppleId": caller.app_apple_id} if caller.environment == "production" else {}
    return {"environment": ENVIRONMENT_NAMES[caller.environment], "bundleId": caller.bundle_id, **in_production}


def _page_view(page: TransactionPage) -> Json:
    return {
        "signedTransactions": page.signed_transactions,
        "revision": revision_text(page.revision),
        "hasMore": page.has_more,
    }


def _group_view(group: str, members: list[LastTransaction]) -> Json:
    return {
        "subscriptionGroupIdentifier": group,
        "lastTransactions": [
            {
                "status": each.status,
                "originalTransactionId": each.original_transaction_id,
                "signedTransactionInfo": each.signed_transaction,
                "signedRenewalInfo": each.signed_renewal,
            }
            for each in members
        ],
    }


def _notification_view(notification: Notification) -> Json:
    """Apple's NotificationHistoryResponseItem, and its CheckTestNotificationResponse, which has the same members."""
    return {
        "signedPayload": notification.signed_payload,
        "sendAttempts": [
            {"attemptDate": to_unix_ms(attempt.at), "sendAttemptResult": attempt.result}
            for attempt in notification.attempts[-SEND_ATTEMPTS_MAX:]
        ],
    }
