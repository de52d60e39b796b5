"""Posting a message to an endpoint: signed as Standard Webhooks says, once, and for no longer than it may take."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from requests import PreparedRequest, Request, RequestException, Response
from requests.exceptions import ConnectTimeout, ReadTimeout
from standardwebhooks import Webhook
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout

from notifier.domain.addresses import Reach
from notifier.domain.deliveries import Answer, Message, read_retry_after
from notifier.webhook.caller import Caller, CallRefused, LookUp, look_up
from notifier.webhook.connections import CheckedAdapter
from shared import tracing
from shared.apps import WebhookEndpoint
from shared.clock import Clock
from shared.trail import TRACEPARENT_HEADER

USER_AGENT: Final = "Purser-Webhooks"
HOSTS_MAX: Final = 256
"""So many hosts have their connections kept for the next message."""
CALLS_MAX: Final = 64
"""Calls in flight per process; they may all be to one host, and each keeps its connection."""
ANSWER_BYTES_MAX: Final = 16 * 1024
"""A longer body is not read to its end; its connection is closed."""
ANSWER_BYTES_KEPT: Final = 512


class WebhookPoster:
    """Posts messages, each once, where `reach` says that it may. Redirects are not followed.

    Bare of a session, so neither cookies nor proxies nor credentials from the surroundings play a part. Thread-safe.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        connect_timeout_s: float,
        timeout_s: float,
        reach: Reach,
        look_up: LookUp = look_up,
        authorities: Path | None = None,
    ) -> None:
        """`timeout_s` is for all of it: connecting, sending, and the answer to the end of its body.

        `authorities`: the certificates that may vouch for a host's (PEM); None: those that are known to the public.
        """
        self._clock = clock
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._trust = True if authorities is None else str(authorities)
        self._adapter = CheckedAdapter(Caller(reach, look_up=look_up), hosts=HOSTS_MAX, connections=CALLS_MAX)
        logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # it quotes URLs, which may hold secrets

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
        return self._adapter.send(request, stream=True, timeout=timeout, verify=self._trust)  # type: ignore[arg-type]  # the stubs lack it

    def _trouble(self, error: BaseException) -> str:
        """In a few words of ours: the libraries' own quote the URL, which may hold a secret."""
        if isinstance(error, ConnectTimeout):
            return f"no connection within {self._connect_timeout_s:g} s"
        if isinstance(error, ReadTimeout):
            return f"no answer within {self._timeout_s:g} s"
        cause = _first_cause(error)
        if isinstance(cause, CallRefused):
            return f"refused: {cause}"
        if isinstance(cause, socket.gaierror):
            return "no answer: no address is known of the host"
        return f"no answer: {type(cause).__name__}"


def _first_cause(error: BaseException) -> BaseException:
    deeper = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return error if deeper is None else _first_cause(deeper)


def _signed(message: Message, endpoint: WebhookEndpoint, *, at: datetime) -> PreparedRequest:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "webhook-id": message.id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": _signatures(message, endpoint.secrets, at=at),
    }
    if (traceparent := tracing.traceparent()) is not None:
        headers[TRACEPARENT_HEADER] = traceparent
    return Request("POST", endpoint.url, headers=headers, data=message.body).prepare()


def _signatures(message: Message, secrets: Sequence[str], *, at: datetime) -> str:
    """One for each secret, a space between them: Standard Webhooks, "Multiple signatures"."""
    body = message.body.decode()
    return " ".join(Webhook(secret).sign(msg_id=message.id, timestamp=at, data=body) for secret in secrets)


def _beginning(body: HTTPResponse) -> str:
    """How the answer's body begins. What is wrong with a body changes nothing: the status was the answer."""
    read = b""
    with contextlib.suppress(HTTPError, OSError, ValueError):  # ValueError: urllib3, of a chunk shorter than nothing
        read = body.read(ANSWER_BYTES_KEPT, decode_content=False)
        body.read(ANSWER_BYTES_MAX - len(read), decode_content=False)  # to its end: the connection is used again
    return read.decode("utf-8", "replace").replace("\x00", "�")  # PostgreSQL's text has no NUL
