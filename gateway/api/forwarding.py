"""What another service answers: the request is handed on to it, and its answer back, as they are.

The service reads the bodies, checks them, and asks again who may do what: there is one place where that is decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from flask import Response

from gateway.domain.callers import Caller
from gateway.domain.services import ServiceAnswer
from gateway.handlers import InternalApi
from shared.http import IDEMPOTENT_REPLAYED_HEADER, read_bytes, request_id, trace_id

ORDER_BYTES_MAX: Final = 16 * 1024
"""Some ten times what any of these bodies says."""


def ask(service: InternalApi, caller: Caller, path: Sequence[str], query: Mapping[str, object]) -> Response:
    """What the service says of something."""
    said = service.read(
        path,
        query={name: str(value) for name, value in query.items()},
        caller=caller,
        trace_id=trace_id(),
        request_id=request_id(),
    )
    return _handed_back(said)


def tell(service: InternalApi, caller: Caller, path: Sequence[str], *, key: str | None = None) -> Response:
    """What came of it, when the service was told what the request's body says; `key` is its Idempotency-Key."""
    said = service.send(
        path,
        body=read_bytes(bytes_max=ORDER_BYTES_MAX),
        key=key,
        caller=caller,
        trace_id=trace_id(),
        request_id=request_id(),
    )
    return _handed_back(said)


def _handed_back(said: ServiceAnswer) -> Response:
    response = Response(said.body, status=said.status, content_type=said.content_type)
    if said.replayed:
        response.headers[IDEMPOTENT_REPLAYED_HEADER] = "true"
    return response
