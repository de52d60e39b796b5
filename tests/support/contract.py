"""The gateway's contract, calls that are held to it, and what it says of their bodies."""

from __future__ import annotations

from collections.abc import Iterator
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
from gateway.api.routes import Route
from tests.support.gateway import Gateway

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CONTRACT = schemathesis.openapi.from_dict(openapi.document())

Limit = tuple[str, dict[str, Any], dict[str, Any]]
"""A member of a body, and bodies on either side of a limit of it."""


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


def limits(route: Route) -> Iterator[Limit]:
    """Each limit that the contract sets a body of this call."""
    schema = openapi.document()["components"]["schemas"][route.body.__name__ if route.body else ""]
    example = next(iter(route.examples.values())).value
    for name, member in schema["properties"].items():
        for within, beyond in _around(member):
            yield name, {**example, name: within}, {**example, name: beyond}
    for name in schema.get("required", ()):
        yield name, dict(example), {key: value for key, value in example.items() if key != name}


def _around(member: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """A value that is just allowed and one that is just not, for each limit of a member."""
    kind = next((part for part in member.get("anyOf", ()) if part != {"type": "null"}), member)
    if "enum" in kind:
        yield kind["enum"][-1], "elsewhere"
    if "maxLength" in kind:
        yield "x" * kind["maxLength"], "x" * (kind["maxLength"] + 1)
    if "minLength" in kind and "maxLength" in kind:
        yield "x" * kind["minLength"], "x" * (kind["minLength"] - 1)
    if "maximum" in kind:
        yield kind["minimum"], kind["minimum"] - 1
        yield kind["maximum"], kind["maximum"] + 1
    if "anyOf" in member:
        yield None, []
