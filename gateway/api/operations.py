"""What operators and their machines ask, and the contract itself."""

from __future__ import annotations

from typing import Final

from flask import Response

from gateway.api import documents
from gateway.api.services import Services
from shared.http import answer

_PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def healthz(_services: Services) -> Response:
    """Tell whether the process answers"""
    return answer(documents.Health("ok"))


def readyz(services: Services) -> Response:
    """Tell whether the database answers"""
    services.journal.check()
    return answer(documents.Health("ready"))


def contract(services: Services) -> Response:
    """Show this contract as an OpenAPI 3.1 document"""
    return Response(services.contract, content_type="application/json")


def reference(services: Services) -> Response:
    """Show this contract as a page to read"""
    return Response(services.reference, content_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)
