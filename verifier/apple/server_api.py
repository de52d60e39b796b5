"""Asks the App Store Server API, as one of our apps: one question, one answer (or page after page of it), no retries.

Apple's library knows the paths, the bodies and the models; `_StoreClient` gives it our connections, limits and tokens.
What comes back signed is not verified here.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import cattrs
import msgspec
from appstoreserverlibrary.api_client import AppStoreServerAPIClient, GetTransactionHistoryVersion
from appstoreserverlibrary.models.CheckTestNotificationResponse import CheckTestNotificationResponse
from appstoreserverlibrary.models.Environment import Environment as AppleEnvironment
from appstoreserverlibrary.models.NotificationHistoryRequest import NotificationHistoryRequest
from appstoreserverlibrary.models.NotificationHistoryResponse import NotificationHistoryResponse
from appstoreserverlibrary.models.NotificationHistoryResponseItem import NotificationHistoryResponseItem
from appstoreserverlibrary.models.StatusResponse import StatusResponse
from appstoreserverlibrary.models.TransactionHistoryRequest import TransactionHistoryRequest

from shared.apps import App
from shared.clock import Clock, to_unix_ms
from shared.events import Environment
from shared.ids import AppId
from verifier.apple.counting import Api, answered, called
from verifier.apple.keys import SigningKey, Tokens
from verifier.apple.pace import Endpoint, Lane, Pace
from verifier.apple.refusals import (
    CODES,
    RATE_LIMITED,
    UNAUTHORIZED,
    ServerApiMisconfigured,
    ServerApiNotFound,
    ServerApiRejected,
    ServerApiUnavailable,
    read_refusal,
)
from verifier.apple.retry_after import read_retry_after
from verifier.apple.transport import Answer, StoreUnreachable, Transport

API: Final[Api] = "server_api"

PAGES_MAX: Final = 500
"""Of 20 each: who has more than 10,000 transactions, or notifications, asks for less at a time."""

RATE_LIMITED_S: Final = 5.0
"""How long an endpoint stays closed after a 429 that does not say for how long."""

_ID = re.compile(r"(?!\.{1,2}$)[0-9A-Za-z._-]{1,64}")
"""What may stand in a path: no separator, nothing to be decoded, and not `.` or `..`, which lead elsewhere."""

_ENVIRONMENTS: Final[Mapping[Environment, AppleEnvironment]] = {
    "production": AppleEnvironment.PRODUCTION,
    "sandbox": AppleEnvironment.SANDBOX,
}


class _Page(Protocol):
    @property
    def hasMore(self) -> bool | None: ...  # noqa: N802 - Apple's name


T = TypeVar("T")
P = TypeVar("P", bound=_Page)


class ServerApi:
    """The App Store Server API for all apps that have a key. Thread-safe.

    Every call raises a ServerApiError: Unavailable for all that may pass (the network, the store's load, a rate limit),
    Misconfigured for what an operator has to mend, NotFound and Rejected for what stays so.
    """

    def __init__(
        self,
        *,
        keys: Mapping[AppId, SigningKey],
        transport: Transport,
        production_url: str,
        sandbox_url: str,
        pace: Pace,
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._transport = transport
        self._urls: Mapping[Environment, str] = {"production": production_url, "sandbox": sandbox_url}
        self._pace = pace
        self._clock = clock
        self._tokens = {app_id: Tokens(key, clock=clock) for app_id, key in keys.items()}
        self._clients: dict[tuple[AppId, Environment], _StoreClient] = {}
        self._clients_lock = threading.Lock()

    def transaction(self, transaction_id: str, *, app: App, environment: Environment) -> str:
        """A transaction, signed. NotFound: this environment does not know it, as one of this app."""
        _check_id(transaction_id)
        answer = self._ask(Endpoint.TRANSACTION, app, environment, lambda it: it.get_transaction_info(transaction_id))
        if answer.signedTransactionInfo is None:
            raise ServerApiUnavailable("it answered without the transaction")
        return answer.signedTransactionInfo

    def history(self, transaction_id: str, *, app: App, environment: Environment) -> Iterator[str]:
        """All transactions of the customer who has this one, signed, the longest unchanged first: those that are
        finished or refunded too, and one perhaps twice when it changes meanwhile."""
        _check_id(transaction_id)
        pages = self._pages(
            lambda revision: self._ask(
                Endpoint.HISTORY,
                app,
                environment,
                lambda it: it.get_transaction_history(
                    transaction_id, revision, TransactionHistoryRequest(), GetTransactionHistoryVersion.V2
                ),
            ),
            lambda page: page.revision,
        )
        return (signed for page in pages for signed in page.signedTransactions or ())

    def refunds(self, transaction_id: str, *, app: App, environment: Environment) -> Iterator[str]:
        """All refunded transactions of the customer who has this one, signed, the first revoked first."""
        _check_id(transaction_id)
        pages = self._pages(
            lambda revision: self._ask(
                Endpoint.REFUNDS, app, environment, lambda it: it.get_refund_history(transaction_id, revision)
            ),
            lambda page: page.revision,
        )
        return (signed for page in pages for signed in page.signedTransactions or ())

    def statuses(self, transaction_id: str, *, app: App, environment: Environment) -> StatusResponse:
        """The newest state of each subscription of the customer who has this transaction."""
        _check_id(transaction_id)
        answer = self._ask(
            Endpoint.STATUSES, app, environment, lambda it: it.get_all_subscription_statuses(transaction_id)
        )
        if answer.data is None:
            raise ServerApiUnavailable("it answered without statuses")
        return answer

    def notifications(
        self,
        *,
        app: App,
        environment: Environment,
        since: datetime,
        until: datetime,
        only_failures: bool = False,
    ) -> Iterator[NotificationHistoryResponseItem]:
        """What the store has told us, or tried to: each notification with its attempts. Apple keeps 180 days of them,
        30 in the sandbox. `only_failures`: those that have not reached us, or not yet."""
        question = _history_question(since, until, only_failures=only_failures)
        pages = self._pages(
            lambda token: self._notification_page(token, question, app, environment),
            lambda page: page.paginationToken,
        )
        return (item for page in pages for item in page.notificationHistory or ())

    def notification_page(
        self,
        *,
        app: App,
        environment: Environment,
        since: datetime,
        until: datetime,
        only_failures: bool = False,
        at: str | None = None,
    ) -> tuple[Sequence[NotificationHistoryResponseItem], str | None]:
        """One page of the same, the first or the one `at` such a place, and where the next one is (None: none): for
        who wants to write down what a page says before the next is asked for, however many there are."""
        question = _history_question(since, until, only_failures=only_failures)
        page = self._notification_page(at, question, app, environment)
        following = _following(page, page.paginationToken, before=at)
        return page.notificationHistory or [], following

    def request_test_notification(self, *, app: App, environment: Environment) -> str:
        """Has the store send a TEST notification to the address that App Store Connect knows; returns its token."""
        answer = self._ask(Endpoint.TEST, app, environment, lambda it: it.request_test_notification())
        if answer.testNotificationToken is None:
            raise ServerApiUnavailable("it answered without a token")
        return answer.testNotificationToken

    def test_notification(self, token: str, *, app: App, environment: Environment) -> CheckTestNotificationResponse:
        """What became of a TEST notification. NotFound: it has not been sent yet."""
        _check_id(token)
        return self._ask(Endpoint.TEST_STATUS, app, environment, lambda it: it.get_test_notification_status(token))

    def _ask(self, endpoint: Endpoint, app: App, environment: Environment, question: Callable[[_StoreClient], T]) -> T:
        client = self._client(app, environment)
        lane = Lane(app.id, environment, endpoint)
        if (wait_s := self._pace.enter(lane)) is not None:
            raise ServerApiUnavailable(f"{endpoint.value} is asked as often as Apple allows", retry_after_s=wait_s)
        try:
            return question(client)
        except ServerApiUnavailable as error:
            if error.code in RATE_LIMITED:
                self._pace.close(lane, for_s=RATE_LIMITED_S if error.retry_after_s is None else error.retry_after_s)
            raise

    def _client(self, app: App, environment: Environment) -> _StoreClient:
        with self._clients_lock:
            client = self._clients.get((app.id, environment))
            if client is None:
                client = self._clients[app.id, environment] = self._new_client(app, environment)
            return client

    def _new_client(self, app: App, environment: Environment) -> _StoreClient:
        if app.id not in self._keys:
            raise ServerApiMisconfigured(
                f"app {app.id!r} has no key for it: apple.issuer_id, key_id and private_key_file in the apps file"
            )
        return _StoreClient(
            self._keys[app.id],
            tokens=self._tokens[app.id],
            environment=environment,
            base_url=self._urls[environment],
            transport=self._transport,
            clock=self._clock,
        )

    def _pages(self, page_at: Callable[[str | None], P], next_of: Callable[[P], str | None]) -> Iterator[P]:
        """Page after page, each asked for when it is wanted. `next_of`: where a page says that the next one is."""
        at: str | None = None
        for _ in range(PAGES_MAX):
            page = page_at(at)
            following = _following(page, next_of(page), before=at)
            yield page
            if following is None:
                return
            at = following
        raise ServerApiRejected(f"there are more than {PAGES_MAX} pages")

    def _notification_page(
        self, at: str | None, question: NotificationHistoryRequest, app: App, environment: Environment
    ) -> NotificationHistoryResponse:
        return self._ask(Endpoint.NOTIFICATIONS, app, environment, lambda it: it.get_notification_history(at, question))


class _StoreClient(AppStoreServerAPIClient):
    """Apple's client with what it lacks: our transport, whose time and size have limits; tokens that are used again;
    errors that keep their `Retry-After`."""

    def __init__(
        self,
        key: SigningKey,
        *,
        tokens: Tokens,
        environment: Environment,
        base_url: str,
        transport: Transport,
        clock: Clock,
    ) -> None:
        super().__init__(key.pem, key.key_id, key.issuer_id, key.bundle_id, _ENVIRONMENTS[environment])
        self._base_url = base_url.rstrip("/")
        self._tokens = tokens
        self._transport = transport
        self._clock = clock

    def _generate_token(self) -> str:
        return self._tokens.current()

    def _make_request(
        self,
        path: str,
        method: str,
        queryParameters: Any,  # noqa: N803 - the library's name
        body: Any,
        destination_class: type[T],
        content_type: str | None = None,
    ) -> T:
        headers = {"Accept": "application/json"}
        content = None
        if body is not None:
            headers["Content-Type"] = content_type or "application/json"
            content = msgspec.json.encode(self._get_request_json(body))
        ask = partial(self._transport.exchange, method, self._get_full_url(path), params=queryParameters, body=content)
        answer, may_be_the_token = self._asked(ask, headers)
        if may_be_the_token:
            answered(API, answer.status)
            answer, _ = self._asked(ask, headers)
        if 200 <= answer.status < 300:
            answered(API, answer.status)
            return self._read(answer.body, destination_class)
        retry_after_s = read_retry_after(answer.headers.get("Retry-After"), now=self._clock.now())
        refusal = read_refusal(answer.status, answer.body, retry_after_s=retry_after_s)
        answered(API, refusal.code if refusal.code in CODES else answer.status)
        raise refusal

    def _asked(self, ask: Callable[..., Answer], headers: Mapping[str, str]) -> tuple[Answer, bool]:
        """The answer, and whether another token may bring another one. Raises ServerApiUnavailable."""
        token = self._generate_token()
        try:
            answer = called(API, lambda: ask(headers={**headers, "Authorization": f"Bearer {token}"}))
        except StoreUnreachable as error:
            raise ServerApiUnavailable(str(error)) from error
        return answer, answer.status == UNAUTHORIZED and self._tokens.discard(token)

    def _read(self, body: bytes, destination_class: type[T]) -> T:
        try:
            content = msgspec.json.decode(body, type=dict[str, Any])
            return self._parse_response(200, {}, lambda: content, destination_class)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, cattrs.BaseValidationError) as error:
            raise ServerApiUnavailable("its answer is not what its documentation says") from error


def _history_question(since: datetime, until: datetime, *, only_failures: bool) -> NotificationHistoryRequest:
    return NotificationHistoryRequest(
        startDate=to_unix_ms(since), endDate=to_unix_ms(until), onlyFailures=only_failures or None
    )


def _following(page: _Page, place: str | None, *, before: str | None) -> str | None:
    """Where the page after this one is; None after the last. Raises ServerApiUnavailable."""
    if page.hasMore is None:  # whatever it is, it is not an empty page of Apple's
        raise ServerApiUnavailable("it answered without saying whether there is more")
    if not page.hasMore:
        return None
    if place in (None, before):
        raise ServerApiUnavailable("it has more, and does not say where")
    return place


def _check_id(value: str) -> None:
    """Before it becomes a part of a path. Raises ServerApiNotFound: the store has none like it."""
    if _ID.fullmatch(value) is None:
        raise ServerApiNotFound("no id of the App Store looks like this")
