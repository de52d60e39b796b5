"""HTTP answers that are whole by one moment, or are none: what every client of somebody outside stands on.

A socket's own time-out begins anew with each byte. Whoever sends one now and then, in a header or in the length of a
chunk, would hold a thread for as long as he likes, and no setting of requests or urllib3 says otherwise. Here each read
of an answer gets what is left of the time that urllib3 gave the whole of it.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


class _Punctual(io.RawIOBase):
    """The bytes of a socket until one moment, which is the socket's time-out from now; then TimeoutError."""

    def __init__(self, source: io.RawIOBase, connection: socket.socket) -> None:
        self._source = source
        self._connection = connection
        self._until_s = time.monotonic() + (connection.gettimeout() or threading.TIMEOUT_MAX)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer takes too long")
        self._connection.settimeout(left_s)  # urllib3 sets it anew for the next request on this connection
        return self._source.readinto(buffer)

    def close(self) -> None:
        self._source.close()
        super().close()


class PunctualResponse(http.client.HTTPResponse):
    """An answer whose bytes come in time, or not at all."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Punctual(self.fp.detach(), sock))


class PunctualConnection(HTTPConnection):
    """urllib3's connection; what comes over it is punctual."""

    response_class = PunctualResponse


class PunctualTlsConnection(HTTPSConnection):
    """The same over TLS."""

    response_class = PunctualResponse


class _PunctualPool(HTTPConnectionPool):
    ConnectionCls = PunctualConnection


class _PunctualTlsPool(HTTPSConnectionPool):
    ConnectionCls = PunctualTlsConnection


class PunctualAdapter(HTTPAdapter):
    """requests' adapter, whose connections, those through a proxy too, read an answer punctually."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PunctualPool, "https": _PunctualTlsPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self.poolmanager.pool_classes_by_scheme
        return manager
