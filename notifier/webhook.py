"""Posting a message to an endpoint: signed as Standard Webhooks says, once, and for no longer than it may take."""

from __future__ import annotations

import http.client
import io
import socket
import time
from datetime import datetime
from typing import Any, Final

from requests import PreparedRequest, Request, RequestException, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectTimeout, ReadTimeout
from standardwebhooks import Webhook
from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout

from notifier.domain import Answer, Message, read_retry_after
from shared.clock import Clock

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
        self._adapter = _Adapter(pool_connections=HOSTS_MAX, pool_maxsize=CALLS_MAX)

    def close(self) -> None:
        """Closes the connections that are kept."""
        self._adapter.close()

    def post(self, message: Message, *, url: str, secret: str) -> Answer:
        """What came of it. No failure to reach the endpoint raises."""
        at, started = self._clock.now(), self._clock.monotonic()
        status, beginning, retry_after, trouble = self._post(message, url=url, secret=secret, at=at)
        return Answer(
            at=at,
            duration_ms=round((self._clock.monotonic() - started) * 1000),
            status=status,
            beginning=beginning,
            trouble=trouble,
            retry_after_s=read_retry_after(retry_after, now=self._clock.now()),
        )

    def _post(
        self, message: Message, *, url: str, secret: str, at: datetime
    ) -> tuple[int | None, str, str | None, str | None]:
        try:
            response = self._send(_signed(message, url=url, secret=secret, at=at))
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


def _signed(message: Message, *, url: str, secret: str, at: datetime) -> PreparedRequest:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "webhook-id": message.id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(msg_id=message.id, timestamp=at, data=message.body.decode()),
    }
    return Request("POST", url, headers=headers, data=message.body).prepare()


def _beginning(body: HTTPResponse) -> str:
    """How the answer's body begins. What is wrong with a body changes nothing: the status was the answer."""
    try:
        read = body.read(ANSWER_BYTES_MAX, decode_content=False)
    except (HTTPError, OSError):
        return ""
    return read[:ANSWER_BYTES_KEPT].decode("utf-8", "replace").replace("\x00", "�")  # PostgreSQL's text has no NUL


# ---- a limit on the whole answer --------------------------------------------------------------------------------
# A socket's time-out starts anew with each read, so an endpoint that sends a byte now and then could hold a thread for
# ever. Here each read of an answer gets what is left of the time that the whole of it has.


class _UntilThen(io.RawIOBase):
    """Reads from a socket until a moment of `time.monotonic`, which is what a socket's time-out goes by as well."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._socket = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedAnswer(http.client.HTTPResponse):
    """An answer that has to be there, body and all, before the time that its connection was given is over."""

    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        timeout_s = sock.gettimeout()  # set by urllib3 a moment ago: what connecting and sending have left
        if timeout_s is not None:
            self.fp.close()
            self.fp = io.BufferedReader(_UntilThen(sock, time.monotonic() + timeout_s))


class _Connection(HTTPConnection):
    response_class = _TimedAnswer


class _SecureConnection(HTTPSConnection):
    response_class = _TimedAnswer


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    """requests' adapter with the connections above."""

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
