"""Posting a message to an endpoint: signed as Standard Webhooks says, once, and for no longer than it may take."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from requests import PreparedRequest, Request, RequestException, Response
from requests.exceptions import ConnectTimeout, ReadTimeout
from standardwebhooks import Webhook
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout

from notifier.domain.deliveries import Answer, Message, read_retry_after
from shared.apps import WebhookEndpoint
from shared.clock import Clock
from shared.punctual import PunctualAdapter

USER_AGENT: Final = "Purser-Webhooks"
HOSTS_MAX: Final = 256
"""So many hosts have their connections kept for the next message."""
CALLS_MAX: Final = 64
"""Calls in flight per process; they may all be to one host, and each keeps its connection."""
ANSWER_BYTES_MAX: Final = 16 * 1024
"""A longer answer is not read to its end; its connection is closed."""
ANSWER_BYTES_KEPT: Final = 512


class WebhookPoster:
    """Posts messages, each once. Redirects are not followed: the address that was configured is the one that is told.

    Bare of a session, so neither cookies nor proxies nor credentials from the surroundings play a part. Thread-safe.
    """

    def __init__(self, *, clock: Clock, connect_timeout_s: float, timeout_s: float) -> None:
        """`timeout_s` is for all of it: connecting, sending, and the answer to the end of its body."""
        self._clock = clock
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._adapter = PunctualAdapter(pool_connections=HOSTS_MAX, pool_maxsize=CALLS_MAX)

    def close(self) -> None:
        """Closes the connections that are kept."""
        self._adapter.close()

    def post(self, message: Message, *, endpoint: WebhookEndpoint) -> Answer:
        """What came of it. No failure to reach the endpoint raises."""
        at, started = self._clock.now(), self._clock.monotonic()
        status, beginning, retry_after, trouble = self._post(message, endpoint, at=at)
        return Answer(
            at=at,
            duration_ms=round((self._clock.monotonic() - started) * 1000),
            status=status,
            beginning=beginning,
            trouble=trouble,
            retry_after_s=read_retry_after(retry_after, now=self._clock.now()),
        )

    def _post(
        self, message: Message, endpoint: WebhookEndpoint, *, at: datetime
    ) -> tuple[int | None, str, str | None, str | None]:
        try:
            response = self._send(_signed(message, endpoint, at=at))
        except (RequestException, HTTPError, OSError, UnicodeError) as error:  # UnicodeError: no name that IDNA knows
            return None, "", None, self._trouble(error)
        with response:
            return response.status_code, _beginning(response.raw), response.headers.get("Retry-After"), None

    def _send(self, request: PreparedRequest) -> Response:
        timeout = Timeout(connect=self._connect_timeout_s, total=self._timeout_s)
        return self._adapter.send(request, stream=True, timeout=timeout)  # type: ignore[arg-type]  # the stubs lack it

    def _trouble(self, error: BaseException) -> str:
        """In a few words of ours: the libraries' own quote the URL, which may hold a secret."""
        if isinstance(error, ConnectTimeout):
            return f"no connection within {self._connect_timeout_s:g} s"
        if isinstance(error, ReadTimeout):
            return f"no answer within {self._timeout_s:g} s"
        while (deeper := error.__cause__ or error.__context__) is not None:
            error = deeper
        return f"no answer: {type(error).__name__}"


def _signed(message: Message, endpoint: WebhookEndpoint, *, at: datetime) -> PreparedRequest:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "webhook-id": message.id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": _signatures(message, endpoint.secrets, at=at),
    }
    return Request("POST", endpoint.url, headers=headers, data=message.body).prepare()


def _signatures(message: Message, secrets: Sequence[str], *, at: datetime) -> str:
    """One for each secret, a space between them: Standard Webhooks, "Multiple signatures"."""
    body = message.body.decode()
    return " ".join(Webhook(secret).sign(msg_id=message.id, timestamp=at, data=body) for secret in secrets)


def _beginning(body: HTTPResponse) -> str:
    """How the answer's body begins. What is wrong with a body changes nothing: the status was the answer."""
    try:
        read = body.read(ANSWER_BYTES_MAX, decode_content=False)
    except (HTTPError, OSError):
        return ""
    return read[:ANSWER_BYTES_KEPT].decode("utf-8", "replace").replace("\x00", "�")  # PostgreSQL's text has no NUL
