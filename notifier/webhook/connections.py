"""urllib3's connections, made by a caller, in time, and with answers of a bounded size.

TLS is urllib3's own, which names the host and checks that its certificate does, and connections are kept for the next
message. Looking up, connecting, TLS and sending together take no longer than the time-out for connecting; the answer
has what is left of the whole (shared/punctual.py).
"""

from __future__ import annotations

import functools
import io
import socket
import time
from typing import Any, ClassVar, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from notifier.webhook.caller import Caller, left_s
from shared.punctual import PunctualAdapter, PunctualConnection, PunctualResponse, PunctualTlsConnection

WIRE_BYTES_MAX: Final = 64 * 1024
"""Of one answer, from its status line to its last trailer, whatever they are made of."""
SENT_AT_ONCE: Final = 16 * 1024
"""A TLS record (RFC 8446, section 5.1): more of it would be several calls, each with the socket's whole time-out."""


class AnswerTooLong(OSError):
    """The answer has more than WIRE_BYTES_MAX bytes."""


class _Limited(io.RawIOBase):
    """The bytes of a source, so many of them and what was read with them; then AnswerTooLong."""

    def __init__(self, source: io.RawIOBase) -> None:
        self._source = source
        self._left = WIRE_BYTES_MAX

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._left <= 0:
            raise AnswerTooLong("the answer is too long")
        count = self._source.readinto(buffer)
        self._left -= count or 0
        return count

    def close(self) -> None:
        self._source.close()
        super().close()


class _LimitedResponse(PunctualResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Limited(self.fp.detach()))


class _Connection(PunctualConnection):
    response_class = _LimitedResponse
    tls: ClassVar[bool] = False

    def __init__(self, *args: Any, caller: Caller, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._caller = caller
        self._until_s: float | None = None  # while it connects and sends: how long it may

    def connect(self) -> None:
        self._until_s = self._from_now()
        try:
            super().connect()
        except TimeoutError as error:  # urllib3 would take one of TLS for one of the answer
            raise ConnectTimeoutError(self, "not connected in time") from error

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self._until_s is None or self.is_closed:  # else it has just been connected, and its time runs
            self._until_s = self._from_now()
        try:
            super().request(*args, **kwargs)
        finally:
            self._until_s = None

    def send(self, data: Any) -> None:
        if self.is_closed:
            self.connect()
        assert self._until_s is not None
        for start in range(0, len(data), SENT_AT_ONCE):
            self.sock.settimeout(left_s(self._until_s))
            super().send(data[start : start + SENT_AT_ONCE])

    def _new_conn(self) -> socket.socket:
        assert self._until_s is not None
        try:
            return self._caller.connect(self._dns_host, self.port, tls=self.tls, within_s=left_s(self._until_s))
        except TimeoutError:
            raise
        except OSError as error:  # urllib3 would take some of them for an answer that came before its question's end
            raise NewConnectionError(self, "not connected") from error

    def _from_now(self) -> float:
        return time.monotonic() + float(self.timeout or 0.0)


class _TlsConnection(_Connection, PunctualTlsConnection):
    response_class = _LimitedResponse
    tls = True


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class CheckedAdapter(PunctualAdapter):
    """requests' adapter, whose connections are made by a caller."""

    def __init__(self, caller: Caller, *, hosts: int, connections: int) -> None:
        """Keeps so many connections for each of so many hosts."""
        self._caller = caller
        super().__init__(pool_connections=hosts, pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {  # what a pool does not know it gives to its connections
            "http": functools.partial(_Pool, caller=self._caller),
            "https": functools.partial(_TlsPool, caller=self._caller),
        }
