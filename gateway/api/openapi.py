"""The contract as an OpenAPI 3.1 document, made from the routes, the documents and the docstrings of the views."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from gateway.api import documents
from gateway.api.routes import ROUTES, Access, Route

_JSON: Final = "application/json"
_PROBLEM_JSON: Final = "application/problem+json"
_REFERENCE: Final = "#/components/schemas/{model}"

_INTRODUCTION: Final = """\
In-app purchases in, virtual currency out. JSON both ways; unknown members are ignored; a missing or wrong one is
400 `malformed-request` that names it. Lists are paged: `next` of one answer is `after` of the next request. Every
answer carries `X-Request-Id`, and a `traceparent` that is sent is kept to."""

_PARTS: Final = {
    "purchase": ("The id of a purchase, `pur_…`.", {"type": "string", "pattern": "^pur_[a-z2-7]{26}$"}),
    "user": (
        "`me` with a client token, else the id of a user.",
        {"type": "string", "minLength": 1, "maxLength": 128, "not": {"enum": [".", ".."]}},
    ),
}
_ERRORS: Final = {
    400: "Malformed: `detail` names the field.",
    401: "No credential, or not a good one.",
    403: "The credential lacks the scope.",
    404: "Not there, or not the caller's to see.",
    413: "The body is too large.",
    503: "Something is away for the moment; nothing was done. See `Retry-After`.",
}
_GOOD: Final = {200: "Done.", 202: "Taken in, durably; it goes on from here."}


def document(routes: Iterable[Route] = ROUTES) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Purser", "version": version("purser"), "description": _INTRODUCTION},
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "client": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": _CLIENT},
                "server": {"type": "http", "scheme": "bearer", "description": _SERVER},
            },
        },
    }


_CLIENT: Final = """\
A client token: a JWT of the app's own login. `aud` is the app, `sub` the user (but not `.`, `..` or `me`, which mean
something else in a path), `exp` is required."""
_SERVER: Final = "A server key, `sk_…`: acts for any user of its app, within its scopes."


def _operation(route: Route) -> dict[str, Any]:
    summary, _, description = inspect.cleandoc(route.view.__doc__ or "").partition("\n")
    operation: dict[str, Any] = {
        "operationId": route.endpoint.replace(".", "_"),
        "tags": [route.endpoint.partition(".")[0]],
        "summary": summary,
        "description": f"{description.strip()}\n\n{route.access.value}".strip(),
        "security": _security(route.access),
        "responses": {str(status): response for status, response in _responses(route)},
    }
    if parameters := [*_path_parameters(route), *_query_parameters(route)]:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {_JSON: _body(route.body, route.examples)}}
    return operation


def _body(kind: type, examples: Mapping[str, documents.Example]) -> dict[str, Any]:
    shown = {name: {"summary": example.summary, "value": example.value} for name, example in examples.items()}
    return {"schema": _reference(kind)} | ({"examples": shown} if shown else {})


def _security(access: Access) -> list[dict[str, list[str]]]:
    if not access.needs_credential:
        return []
    return [{"server": []}] if access is Access.OPERATOR else [{"client": []}, {"server": []}]


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "description": description, "schema": schema}
        for name, (description, schema) in _PARTS.items()
        if f"{{{name}}}" in route.path
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    properties = route.query.model_json_schema()["properties"]
    return [{"name": name, "in": "query", "schema": _without_null(schema)} for name, schema in properties.items()]


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A query parameter is there or not: it is never null."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind != {"type": "null"}]
    default = {"default": schema["default"]} if schema.get("default") is not None else {}
    return {name: value for name, value in kinds[0].items() if name not in {"title", "default"}} | default


def _responses(route: Route) -> list[tuple[int, dict[str, Any]]]:
    good = [(status, _good_response(route, status)) for status in route.answers]
    return [*good, *((status, _problem_response(status)) for status in _error_statuses(route))]


def _good_response(route: Route, status: int) -> dict[str, Any]:
    response: dict[str, Any] = {"description": _GOOD[status]}
    answer = route.answers[status]
    if answer is not None:
        response["content"] = {_JSON: {"schema": _reference(answer)}}
    return response


def _problem_response(status: int) -> dict[str, Any]:
    content = {_PROBLEM_JSON: {"schema": _reference(documents.Problem)}}
    return {"description": _ERRORS[status], "content": content}


def _error_statuses(route: Route) -> list[int]:
    takes_something = route.query or route.body or "{user}" in route.path
    return [
        *([400] if takes_something else []),
        *([401] if route.access is not Access.EVERYBODY else []),
        *([403] if route.access.needs_credential else []),
        *([404] if "{" in route.path else []),
        *([413] if route.body else []),
        *([503] if route.access is not Access.EVERYBODY or route.endpoint.endswith("readyz") else []),
    ]


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=kind.__name__)}


def _schemas() -> dict[str, Any]:
    """The schemas of all that the routes take and answer, by the names of their classes."""
    bodies = [route.body for route in ROUTES if route.body is not None]
    answers = [answer for route in ROUTES for answer in route.answers.values() if answer is not None]
    kinds: dict[type, None] = dict.fromkeys([*bodies, *answers, documents.Problem])
    schemas: dict[str, Any] = {}
    for kind in kinds:
        schema = TypeAdapter(kind).json_schema(ref_template=_REFERENCE, mode=_mode(kind))
        schemas |= schema.pop("$defs", {})
        schemas[kind.__name__] = schema
    return dict(sorted(schemas.items()))


def _mode(kind: type) -> Any:
    return "validation" if issubclass(kind, BaseModel) else "serialization"
