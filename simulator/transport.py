"""How an answer goes wrong on its way: it comes late, or it is not what was written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

from flask import Response

from simulator.faults import Spoiling

HUGE_BYTES: Final = 64 * 1024 * 1024
"""More than anybody should read of an answer; nobody keeps so much, here either."""

_PIECE: Final = b" " * 65_536
_WEB_PAGE: Final = "<html><body><h1>Service Unavailable</h1></body></html>"


def hold_back(hold_s: float) -> None:
    """Waits: the store is slow on command."""
    if hold_s > 0:
        threading.Event().wait(hold_s)  # nobody sets it


def json_answer(body: bytes, spoiling: Spoiling | None) -> Response:
    """A JSON body as it arrives."""
    match spoiling:
        case "not_json":
            return Response(_WEB_PAGE, mimetype="text/html")
        case "cut":
            return _cut(body)
        case "huge":
            return Response(_huge(body), content_type="application/json")
        case None:
            return Response(body, content_type="application/json")


def _cut(body: bytes) -> Response:
    """More is promised than comes: the server then breaks the connection."""
    response = Response(iter([body[: len(body) // 2]]), content_type="application/json")
    response.content_length = len(body)
    return response


def _huge(body: bytes) -> Iterator[bytes]:
    """Good JSON in the end, behind far too much white space."""
    for _ in range(HUGE_BYTES // len(_PIECE)):
        yield _PIECE
    yield body
