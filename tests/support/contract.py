"""The gateway's contract, and calls that are held to it."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.api import openapi
from tests.support.gateway import Gateway

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CONTRACT = schemathesis.openapi.from_dict(openapi.document())


def call(gateway: Gateway, method: str, path: str, *, status: int, headers: dict[str, str], **parts: Any) -> Any:
    """Makes a call of the contract (`path` as it has it) that has to be answered so, and holds the answer to it."""
    if "body" in parts:
        parts["media_type"] = "application/json"
    case = CONTRACT[path][method].Case(headers=headers, **parts)
    response = case.call(app=gateway.app)
    assert response.status_code == status, response.text
    case.validate_response(response, checks=CHECKS)
    return response


def told(gateway: Gateway, method: str, path: str, *, status: int, headers: dict[str, str], **parts: Any) -> Any:
    """The document that such a call is answered with."""
    return call(gateway, method, path, status=status, headers=headers, **parts).json()
