"""Asks the App Store about a receipt (verifyReceipt): one question, one answer, no retries; those are the caller's."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy

import msgspec
import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from shared.clock import Clock
from shared.events import Environment
from verifier.apple.retry_after import read_retry_after
from verifier.domain import (
    ProductTypes,
    ReceiptAnswer,
    ReceiptRefused,
    ReceiptValid,
    StoreBusy,
    StoreMisconfigured,
    UseProduction,
    UseSandbox,
    read_receipt_answer,
)

ANSWER_BYTES_MAX = 8 * 1024 * 1024
"""A transaction is about 700 bytes: this is more than ten thousand of them."""

HOPS_MAX = 3
"""Production, sandbox (21007), production again (21008); then the two contradict each other."""

_CHUNK_BYTES = 64 * 1024
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}

VerifiedReceipt = ReceiptValid | ReceiptRefused | StoreBusy | StoreMisconfigured


def store_session(*, connections: int) -> requests.Session:
    """A session that threads may share: so many connections are kept open, nothing is retried, no cookie is kept."""
    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=connections, max_retries=0))
    return session


class VerifyReceiptClient:
    """verifyReceipt over HTTP. Thread-safe if its session is (`store_session`).

    `read_timeout_s` bounds the wait for the first byte and, from there, for the whole answer: a store that keeps
    dripping bytes does not hold a worker.
    """

    def __init__(
        self,
        *,
        session: requests.Session,
        production_url: str,
        sandbox_url: str,
        connect_timeout_s: float,
        read_timeout_s: float,
        clock: Clock,
    ) -> None:
        self._session = session
        self._urls: dict[Environment, str] = {"production": production_url, "sandbox": sandbox_url}
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._clock = clock

    def verify(self, *, receipt: str, shared_secret: str | None, product_types: ProductTypes) -> VerifiedReceipt:
        """What the store says of a receipt (base64), production asked first, as Apple wants it for App Review's sake.

        Every failure of the network is StoreBusy. Nothing is raised for what the store or the network does.
        """
        question = _question(receipt, shared_secret)
        environment: Environment = "production"
        for _ in range(HOPS_MAX):
            answer = self._ask(environment, question, product_types)
            match answer:
                case UseSandbox():
                    environment = "sandbox"
                case UseProduction():
                    environment = "production"
                case _:
                    return answer
        return StoreBusy("production and sandbox each say that the receipt is of the other")

    def _ask(self, environment: Environment, question: bytes, product_types: ProductTypes) -> ReceiptAnswer:
        try:
            return self._exchange(environment, question, product_types)
        except (requests.RequestException, HTTPError) as error:
            return StoreBusy(f"the store cannot be reached: {type(error).__name__}")

    def _exchange(self, environment: Environment, question: bytes, product_types: ProductTypes) -> ReceiptAnswer:
        with self._session.post(
            self._urls[environment],
            data=question,
            headers=_HEADERS,
            timeout=(self._connect_timeout_s, self._read_timeout_s),
            allow_redirects=False,  # a receipt and the shared secret go to the store and nowhere else
            stream=True,
        ) as response:
            now = self._clock.now()
            if response.status_code != 200:
                retry_after_s = read_retry_after(response.headers.get("Retry-After"), now=now)
                return StoreBusy(f"the store answered HTTP {response.status_code}", retry_after_s=retry_after_s)
            body = self._body(response)
        if isinstance(body, StoreBusy):
            return body
        return read_receipt_answer(body, asked=environment, answered_at=now, product_types=product_types)

    def _body(self, response: requests.Response) -> bytes | StoreBusy:
        """The whole body, as it came; or that it is too long, or too long in coming."""
        until_s = self._clock.monotonic() + self._read_timeout_s
        body = bytearray()
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
            body += chunk
            if len(body) > ANSWER_BYTES_MAX:
                return StoreBusy("the store's answer is too long")
            if self._clock.monotonic() > until_s:
                return StoreBusy("the store's answer takes too long")
        return bytes(body)


def _question(receipt: str, shared_secret: str | None) -> bytes:
    """`exclude-old-transactions` stays false: the claimed transaction may be an old one."""
    question = {"receipt-data": receipt, "exclude-old-transactions": False}
    if shared_secret is not None:
        question["password"] = shared_secret
    return msgspec.json.encode(question)
