"""The ledger's internal API over HTTP: connections are kept, waits have an end, the caller's identity goes along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from gateway.domain.callers import Caller, Client
from gateway.domain.wallets import LedgerAnswer, LedgerAnswerUnavailable, LedgerUnavailable
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

log = get_logger(__name__)

Method = Literal["GET", "POST"]
ABOUT_THE_REQUEST: Final[Mapping[Method, frozenset[int]]] = {
    "GET": frozenset({200, 400, 403, 404}),
    "POST": frozenset({200, 201, 400, 403, 404, 409, 413, 422}),
}
"""What the caller has to know. Anything else (401, 5xx) is between the two of us, and to the caller: try later."""
_AWAY: Final[Mapping[Method, type[LedgerUnavailable]]] = {"GET": LedgerUnavailable, "POST": LedgerAnswerUnavailable}


class LedgerClient:
    """As handlers.Ledger wants it. Thread-safe."""

    def __init__(
        self, *, url: str, service_token: str, connections: int, connect_timeout_s: float, read_timeout_s: float
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout = (connect_timeout_s, read_timeout_s)
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, and no .netrc in place of our own token
        self._session.headers["Authorization"] = f"Bearer {service_token}"
        # Once more when no connection was made, and what only reads also when a kept one turns out to be closed. What
        # moves currency is not sent twice by us: the caller does that, and knows by its key that it is the same.
        again = Retry(total=1, connect=1, read=1, redirect=0, status=0, allowed_methods={"GET"}, raise_on_status=False)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=connections, max_retries=again))

    def read(
        self, path: Sequence[str], *, query: Mapping[str, str], caller: Caller, trace_id: str, request_id: str
    ) -> LedgerAnswer:
        headers = _identity(caller) | _trail(trace_id, request_id)
        return self._exchange("GET", path, trace_id=trace_id, params=dict(query), headers=headers)

    def send(
        self, path: Sequence[str], *, body: bytes, key: str | None, caller: Caller, trace_id: str, request_id: str
    ) -> LedgerAnswer:
        headers = _identity(caller) | _trail(trace_id, request_id) | {"Content-Type": JSON_TYPE}
        if key is not None:
            headers[IDEMPOTENCY_KEY_HEADER] = key
        return self._exchange("POST", path, trace_id=trace_id, data=body, headers=headers)

    def _exchange(self, method: Method, path: Sequence[str], *, trace_id: str, **parts: Any) -> LedgerAnswer:
        url = "/".join([self._url, "v1", *(quote(segment, safe="") for segment in path)])
        try:
            response = self._session.request(method, url, timeout=self._timeout, allow_redirects=False, **parts)
        except requests.RequestException as error:
            log.warning("the ledger cannot be reached", method=method, error=type(error).__name__, trace_id=trace_id)
            raise _AWAY[method](type(error).__name__) from error
        if response.status_code not in ABOUT_THE_REQUEST[method]:
            log.error("the ledger does not answer as it should", status=response.status_code, trace_id=trace_id)
            raise _AWAY[method](f"status {response.status_code}")
        return _answer(response)


def _identity(caller: Caller) -> dict[str, str]:
    if isinstance(caller, Client):
        name = caller_header(kind="client", name=caller.user_id)
    else:
        name = caller_header(kind="server", name=caller.key_id)
    return {APP_HEADER: caller.app.id, CALLER_HEADER: name}


def _trail(trace_id: str, request_id: str) -> dict[str, str]:
    """What the ledger's log has in common with ours."""
    return {"traceparent": f"00-{trace_id}-{trace_id[16:]}-01", REQUEST_ID_HEADER: request_id}


def _answer(response: requests.Response) -> LedgerAnswer:
    return LedgerAnswer(
        status=response.status_code,
        body=response.content,
        content_type=response.headers.get("Content-Type", ""),
        replayed=response.headers.get(IDEMPOTENT_REPLAYED_HEADER) == "true",
    )
