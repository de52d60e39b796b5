"""One request to the store and its whole answer, within a time and a size that are set: what every client of the store
stands on. What an answer means is read elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from shared import tracing
from shared.punctual import PunctualAdapter

ANSWER_BYTES_MAX = 8 * 1024 * 1024
"""A receipt's transaction is about 700 bytes, a signed one about 6 KiB, and of those a page holds 20."""

_CHUNK_BYTES = 64 * 1024
_AN_ERROR = 400


class StoreUnreachable(Exception):
    """There is no whole answer: the message says what came instead of it, and nothing of what was asked."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever its status. Names of headers are found in upper and in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Requests to a store. Thread-safe if its session is (`store_session`).

    `read_timeout_s` bounds all of an answer, the wait for it and its last byte included: a store that keeps dripping
    bytes does not hold a worker.
    """

    def __init__(self, *, session: requests.Session, connect_timeout_s: float, read_timeout_s: float) -> None:
        self._session = session
        self._timeouts_s = (connect_timeout_s, read_timeout_s)

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, Any] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """The answer to one request; a redirect is an answer too, and is not followed. Raises StoreUnreachable.

        An answer is never unpacked, and none that is packed is asked for: a few kilobytes could become gigabytes.
        """
        host = urlsplit(url).hostname or ""
        with tracing.span(f"{method} {host}", kind="client") as span:
            answer = self._exchange(
                method, url, params=params, data=body, headers={**headers, "Accept-Encoding": "identity"}
            )
            span.attributes |= {"server.address": host, "http.response.status_code": answer.status}
            span.error = str(answer.status) if answer.status >= _AN_ERROR else None
            return answer

    def _exchange(self, method: str, url: str, **parts: Any) -> Answer:
        try:
            with self._session.request(
                method, url, timeout=self._timeouts_s, allow_redirects=False, stream=True, **parts
            ) as response:
                return Answer(response.status_code, response.headers, _whole_body(response))
        except (requests.RequestException, HTTPError) as error:
            raise StoreUnreachable(f"the store cannot be reached: {type(error).__name__}") from error


def store_session(*, connections: int) -> requests.Session:
    """A session that threads may share: so many connections are kept open, nothing is retried, no cookie is kept, no
    redirect is followed, no netrc file is looked up for a login."""
    session = _StoreSession()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.auth = _as_it_is
    for scheme in ("https://", "http://"):
        session.mount(scheme, PunctualAdapter(pool_maxsize=connections, max_retries=0))
    return session


class _StoreSession(requests.Session):
    """Sees no redirects: for one that it does not follow, requests would still read, and unpack, all of its body."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002 - requests' signature
        return None


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _whole_body(response: requests.Response) -> bytes:
    body = bytearray()
    while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            raise StoreUnreachable("the store's answer is too long")
    return bytes(body)
