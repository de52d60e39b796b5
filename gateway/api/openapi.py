"""The contract as an OpenAPI 3.1 document, made from the routes, the documents and the docstrings of the views."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from gateway.api import documents, outgoing
from gateway.api.access import Access
from gateway.api.routes import ROUTES, Route
from shared.apps import ENDPOINT_ID_PATTERN
from shared.http import IDEMPOTENCY_KEY_HEADER, IDEMPOTENT_REPLAYED_HEADER
from shared.trail import TRACEPARENT_HEADER

_JSON: Final = "application/json"
_PROBLEM_JSON: Final = "application/problem+json"
_REFERENCE: Final = "#/components/schemas/{model}"

_INTRODUCTION: Final = """\
In-app purchases in; virtual currency, subscriptions and entitlements out. JSON both ways; unknown members are ignored;
a missing or wrong one is 400 `malformed-request` that names it. Lists are paged: `next` of one answer is `after` of the
next request. Every answer carries `X-Request-Id`, and a `traceparent` that is sent is kept to.

Calls that move currency take an `Idempotency-Key`, which the caller makes up: one for each thing that is to be done.
The same request with the same key is done once, however often it is sent, and answered with the first answer, word for
word, with `Idempotent-Replayed: true`; another request with it is 409 `idempotency-key-reused`. A key belongs to the
app, the user and the call, that of a device is not that of a server, and it is kept for 30 days at least. After a 503,
a broken connection or no answer at all, send the same once more with the same key. What was malformed or not found is
not kept."""

_PARTS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "purchase": ("The id of a purchase, `pur_…`.", {"type": "string", "pattern": "^pur_[a-z2-7]{26}$"}),
    "user": (
        "`me` with a client token, else the id of a user.",
        {"type": "string", "minLength": 1, "maxLength": 128, "not": {"enum": [".", ".."]}},
    ),
    "spend": ("The id of a spend, `spd_…`.", {"type": "string", "pattern": "^spd_[0-9a-f]{32}$"}),
    "hold": ("The id of a hold, `hld_…`.", {"type": "string", "pattern": "^hld_[0-9a-f]{32}$"}),
    "refund_request": (
        "The id of a request for a refund, `rfr_…`.",
        {"type": "string", "pattern": "^rfr_[0-9a-f]{32}$"},
    ),
    "endpoint": ("The id of a webhook, as the apps file has it.", {"type": "string", "pattern": ENDPOINT_ID_PATTERN}),
    "event": (
        "The id of an event: the `webhook-id` that it is told with.",
        {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
    ),
}
_KEY: Final = {
    "name": IDEMPOTENCY_KEY_HEADER,
    "in": "header",
    "description": "The caller's own name for what is to be done: a repeat with it is done once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[ -~]+$"},
}
_TRACEPARENT: Final = {
    "name": TRACEPARENT_HEADER,
    "in": "header",
    "description": "The caller's trace (W3C Trace Context), which this becomes part of; what is not valid is ignored.",
    "schema": {"type": "string"},
    "example": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}
_REPLAYED: Final = {
    IDEMPOTENT_REPLAYED_HEADER: {
        "description": "There when this was answered before, to a request with the same key.",
        "schema": {"type": "string", "const": "true"},
    }
}
_ERRORS: Final = {
    400: "Malformed: `detail` names the field.",
    401: "No credential, or not a good one.",
    403: "The credential is good, but not for this call.",
    404: "Not there, or not the caller's to see.",
    413: "The body is too large.",
    429: "`too-many-requests`: this user, or this address, asks too often. See `Retry-After`; nothing was done.",
    503: "Something is away for the moment; nothing was done. See `Retry-After`.",
}
_NO_ANSWER: Final = """\
Something is away, or has not answered in time: whether it was done is not known. Send the same once more, with the same
key if it has one. See `Retry-After`."""
_GOOD: Final = {200: "Done.", 201: "Done: this is new.", 202: "Taken in, durably; it goes on from here."}


def document(routes: Iterable[Route] = ROUTES) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Purser", "version": version("purser"), "description": _INTRODUCTION},
        "paths": paths,
        "webhooks": outgoing.webhooks(reference=_REFERENCE),
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
    if parameters := [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)]:
        operation["parameters"] = parameters
    if route.body is not None:
        content = {_JSON: _content(route.body, route.examples)}
        operation["requestBody"] = {"required": _says_something(route.body), "content": content}
    return operation


def _says_something(body: type[BaseModel]) -> bool:
    """Whether any member is required: without one the body may be left out."""
    return any(member.is_required() for member in body.model_fields.values())


def _content(kind: type, examples: Mapping[str, documents.Example]) -> dict[str, Any]:
    shown = {name: {"summary": example.summary, "value": example.value} for name, example in examples.items()}
    return {"schema": _reference(kind)} | ({"examples": shown} if shown else {})


def _security(access: Access) -> list[dict[str, list[str]]]:
    if not access.needs_credential:
        return []
    return [{"server": []}] if access.is_for_servers_alone else [{"client": []}, {"server": []}]


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


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [] if route.access is Access.EVERYBODY else [_TRACEPARENT]
    if route.order is not None and _takes_key(route):
        parameters.append({**_KEY, "required": route.order.key == "required"})
    return parameters


def _takes_key(route: Route) -> bool:
    return route.order is not None and route.order.key != "none"


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A query parameter is there or not: it is never null."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind != {"type": "null"}]
    default = {"default": schema["default"]} if schema.get("default") is not None else {}
    return {name: value for name, value in kinds[0].items() if name not in {"title", "default"}} | default


def _responses(route: Route) -> list[tuple[int, dict[str, Any]]]:
    good = [(status, _good_response(route, status)) for status in route.answers]
    return [*good, *((status, _problem_response(route, status)) for status in _error_statuses(route))]


def _good_response(route: Route, status: int) -> dict[str, Any]:
    response: dict[str, Any] = {"description": _GOOD[status]} | _response_headers(route)
    answer = route.answers[status]
    if answer is not None:
        response["content"] = {_JSON: _content(answer, route.answer_examples)}
    return response


def _problem_response(route: Route, status: int) -> dict[str, Any]:
    content = {_PROBLEM_JSON: {"schema": _reference(documents.Problem)}}
    headers = _response_headers(route) if status in _refusals(route) else {}
    return {"description": _why(route, status), **headers, "content": content}


def _response_headers(route: Route) -> dict[str, Any]:
    return {"headers": _REPLAYED} if _takes_key(route) else {}


def _why(route: Route, status: int) -> str:
    if status == 503 and route.order is not None:
        return _NO_ANSWER
    return "\n\n".join(_refusals(route).get(status) or [_ERRORS[status]])


def _refusals(route: Route) -> Mapping[int, Sequence[str]]:
    return {} if route.order is None else route.order.refusals


def _error_statuses(route: Route) -> list[int]:
    takes_something = route.query or route.body or "{user}" in route.path
    return sorted(
        [
            *([400] if takes_something else []),
            *([401] if route.access is not Access.EVERYBODY else []),
            *([403] if route.access.needs_credential else []),
            *([404] if "{" in route.path else []),
            *([413] if route.body else []),
            *_refusals(route),
            *([429] if route.access is not Access.EVERYBODY else []),
            *([503] if route.access is not Access.EVERYBODY or route.endpoint.endswith("readyz") else []),
        ]
    )


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=kind.__name__)}


def _schemas() -> dict[str, Any]:
    """The schemas of all that the routes take and answer, and of what is posted, by the names of their classes."""
    bodies = [route.body for route in ROUTES if route.body is not None]
    answers = [answer for route in ROUTES for answer in route.answers.values() if answer is not None]
    kinds: dict[type, None] = dict.fromkeys([*bodies, *answers, documents.OutwardMessage, documents.Problem])
    schemas: dict[str, Any] = {}
    for kind in kinds:
        schema = TypeAdapter(kind).json_schema(ref_template=_REFERENCE, mode=_mode(kind))
        schemas |= schema.pop("$defs", {})
        schemas[kind.__name__] = schema
    return dict(sorted(schemas.items()))


def _mode(kind: type) -> Any:
    return "validation" if issubclass(kind, BaseModel) else "serialization"
