"""Another service's internal API over HTTP: connections are kept, waits have an end, and the caller is named."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from gateway.domain.callers import Caller, Client
from gateway.domain.services import ServiceAnswer, ServiceAnswerUnavailable, ServiceUnavailable
from shared import tracing
from shared.http import (
    APP_HEADER,
    CALLER_HEADER,
    IDEMPOTENCY_KEY_HEADER,
    IDEMPOTENT_REPLAYED_HEADER,
    JSON_TYPE,
    REQUEST_ID_HEADER,
    caller_header,
)
from shared.log import get_logger
from shared.trail import TRACEPARENT_HEADER

log = get_logger(__name__)

Method = Literal["GET", "POST"]
ABOUT_THE_REQUEST: Final[Mapping[Method, frozenset[int]]] = {
    "GET": frozenset({200, 400, 403, 404}),
    "POST": frozenset({200, 201, 400, 403, 404, 409, 413, 422}),
}
"""What the caller has to know. Anything else (401, 5xx) is between the two of us, and to the caller: try later."""
UNKNOWN_WHETHER_DONE: Final = (
    "has not answered, so whether it was done is not known: send the same once more, with the same Idempotency-Key if "
    "it has one"
)


class ServiceClient:
    """As handlers.InternalApi wants it. Thread-safe.

    `calls_at_once`: as many threads of ours may wait for the service at most. Whoever comes then is told that it is
    away, so that one that hangs takes no more than its part of the gateway with it.
    """

    def __init__(
        self,
        *,
        service: str,
        url: str,
        service_token: str,
        calls_at_once: int,
        connect_timeout_s: float,
        read_timeout_s: float,
    ) -> None:
        self._service = service
        self._url = url.rstrip("/")
        self._timeout = (connect_timeout_s, read_timeout_s)
        self._seats = threading.BoundedSemaphore(calls_at_once)
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, and no .netrc in place of our own token
        self._session.headers["Authorization"] = f"Bearer {service_token}"
        # Once more when no connection was made, and what only reads also when a kept one turns out to be closed. What
        # changes something is not sent twice by us: the caller does that, and knows that it is the same.
        again = Retry(total=1, connect=1, read=1, redirect=0, status=0, allowed_methods={"GET"}, raise_on_status=False)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=calls_at_once, max_retries=again))

    def read(
        self, path: Sequence[str], *, query: Mapping[str, str], caller: Caller, trace_id: str, request_id: str
    ) -> ServiceAnswer:
        headers = _identity(caller) | {REQUEST_ID_HEADER: request_id}
        return self._exchange("GET", path, trace_id=trace_id, params=dict(query), headers=headers)

    def send(
        self, path: Sequence[str], *, body: bytes, key: str | None, caller: Caller, trace_id: str, request_id: str
    ) -> ServiceAnswer:
        headers = _identity(caller) | {REQUEST_ID_HEADER: request_id, "Content-Type": JSON_TYPE}
        if key is not None:
            headers[IDEMPOTENCY_KEY_HEADER] = key
        return self._exchange("POST", path, trace_id=trace_id, data=body, headers=headers)

    def _exchange(
        self, method: Method, path: Sequence[str], *, trace_id: str, headers: dict[str, str], **parts: Any
    ) -> ServiceAnswer:
        url = "/".join([self._url, "v1", *(quote(segment, safe="") for segment in path)])
        say = log.bind(asked=self._service, method=method)
        with self._seat(), tracing.span(f"{method} {self._service}", kind="client") as span:
            headers[TRACEPARENT_HEADER] = tracing.traceparent() or f"00-{trace_id}-{trace_id[16:]}-01"
            try:
                response = self._session.request(
                    method, url, timeout=self._timeout, allow_redirects=False, headers=headers, **parts
                )
            except requests.RequestException as error:
                say.warning("a service cannot be reached", error=type(error).__name__)
                raise self._away(method) from error
            span.attributes["http.response.status_code"] = response.status_code
        if response.status_code not in ABOUT_THE_REQUEST[method]:
            say.error("a service does not answer as it should", status=response.status_code)
            raise self._away(method)
        return _answer(response)

    @contextmanager
    def _seat(self) -> Iterator[None]:
        if not self._seats.acquire(blocking=False):
            log.warning("a service is waited for by as many as may", asked=self._service)
            raise ServiceUnavailable(f"the {self._service} is busy")
        try:
            yield
        finally:
            self._seats.release()

    def _away(self, method: Method) -> ServiceUnavailable:
        if method == "GET":
            return ServiceUnavailable(f"the {self._service} is away")
        return ServiceAnswerUnavailable(f"the {self._service} {UNKNOWN_WHETHER_DONE}")


def _identity(caller: Caller) -> dict[str, str]:
    if isinstance(caller, Client):
        name = caller_header(kind="client", name=caller.user_id)
    else:
        name = caller_header(kind="server", name=caller.key_id)
    return {APP_HEADER: caller.app.id, CALLER_HEADER: name}


def _answer(response: requests.Response) -> ServiceAnswer:
    return ServiceAnswer(
        status=response.status_code,
        body=response.content,
        content_type=response.headers.get("Content-Type", ""),
        replayed=response.headers.get(IDEMPOTENT_REPLAYED_HEADER) == "true",
    )
