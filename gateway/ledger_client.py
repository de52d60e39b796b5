"""The ledger's internal API over HTTP: connections are kept, waits have an end, the caller's identity goes along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from gateway.domain.callers import Caller, Client
from gateway.domain.wallets import LedgerAnswer, LedgerUnavailable
from shared.http import APP_HEADER, CALLER_HEADER, REQUEST_ID_HEADER, caller_header
from shared.log import get_logger

log = get_logger(__name__)

ABOUT_THE_REQUEST: Final = frozenset({200, 400, 404})
"""What the caller has to know. Anything else (401, 5xx) is between the two of us, and to the caller: try later."""


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
        # Once more when a kept connection turns out to be closed: everything here only reads.
        again = Retry(total=1, connect=1, read=1, redirect=0, status=0, allowed_methods={"GET"}, raise_on_status=False)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=connections, max_retries=again))

    def read(
        self, path: Sequence[str], *, query: Mapping[str, str], caller: Caller, trace_id: str, request_id: str
    ) -> LedgerAnswer:
        url = "/".join([self._url, "v1", *(quote(segment, safe="") for segment in path)])
        headers = _identity(caller) | {
            "traceparent": f"00-{trace_id}-{trace_id[16:]}-01",
            REQUEST_ID_HEADER: request_id,
        }
        try:
            response = self._session.get(
                url, params=dict(query), headers=headers, timeout=self._timeout, allow_redirects=False
            )
        except requests.RequestException as error:
            log.warning("the ledger cannot be reached", error=type(error).__name__, trace_id=trace_id)
            raise LedgerUnavailable(type(error).__name__) from error
        return _answer(response, trace_id=trace_id)


def _identity(caller: Caller) -> dict[str, str]:
    if isinstance(caller, Client):
        name = caller_header(kind="client", name=caller.user_id)
    else:
        name = caller_header(kind="server", name=caller.key_id)
    return {APP_HEADER: caller.app.id, CALLER_HEADER: name}


def _answer(response: requests.Response, *, trace_id: str) -> LedgerAnswer:
    if response.status_code not in ABOUT_THE_REQUEST:
        log.error("the ledger does not answer as it should", status=response.status_code, trace_id=trace_id)
        raise LedgerUnavailable(f"status {response.status_code}")
    return LedgerAnswer(response.status_code, response.content, response.headers.get("Content-Type", ""))
