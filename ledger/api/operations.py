"""What operators and their machines ask."""

from __future__ import annotations

from typing import Final

from flask import Response

from ledger.api.services import Services
from shared.http import answer

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format."""


def healthz(_services: Services) -> Response:
    """Whether the process answers."""
    return answer({"status": "ok"})


def readyz(services: Services) -> Response:
    """Whether the database answers."""
    services.queries.ready()
    return answer({"status": "ready"})


def metrics(services: Services) -> Response:
    """What Prometheus collects."""
    return Response(services.queries.metrics(), content_type=METRICS_TYPE)
