"""Asks a process, once and with a limit, whether it is ready."""

from __future__ import annotations

import contextlib
import http.client

PROBE_TIMEOUT_S = 2.0


def answers_http(*, host: str, port: int, path: str) -> bool:
    """Whether a GET is answered with 200."""
    connection = http.client.HTTPConnection(host.strip("[]"), port, timeout=PROBE_TIMEOUT_S)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    return False
