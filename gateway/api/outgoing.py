"""What Purser posts to the app's own backend, as the contract's `webhooks` have it: the notifier posts it, not we."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter

from gateway.api.documents import OUTWARD_EXAMPLES, OutwardMessage
from shared.events import OUTWARD

INTRODUCTION: Final = """\
Posted to each endpoint of the apps file that wants such events, as Standard Webhooks says. Verify `webhook-signature`
on the bytes as they came, have each `webhook-id` take effect once, and drop what has a lower `version` than what you
know of the same thing: a message may come more than once, and after a later one. Answer 2xx within 15 seconds, before
you do what takes long. The same events, in their order, are at `GET /v1/events`."""

_HEADERS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "webhook-id": (
        "The event's id, the same whenever it comes. Of two about a purchase or a refund request, which have no"
        " `version`, the greater one (as text) is of the later event.",
        {"type": "string", "format": "uuid"},
    ),
    "webhook-timestamp": (
        "When this attempt was made, in seconds since 1970. Refuse what is older than five minutes.",
        {"type": "string", "pattern": "^[0-9]+$"},
    ),
    "webhook-signature": (
        "`v1,` and the HMAC-SHA256 of `{webhook-id}.{webhook-timestamp}.{body}` in base64; two with a space between"
        " them while the secret is changed. One that is right is enough.",
        {"type": "string", "pattern": "^v1,[A-Za-z0-9+/]{43}=( v1,[A-Za-z0-9+/]{43}=)*$"},
    ),
    "traceparent": (
        "The trace of what led to it, from the client's request on (W3C Trace Context), and the span of this attempt."
        " It is not signed.",
        {"type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$"},
    ),
}
_RETRY_AFTER: Final = {
    "Retry-After": {
        "description": "Seconds, or a date: this message waits so long, up to a day, and all others up to an hour.",
        "schema": {"type": "string"},
    }
}
_ANSWERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "2XX": {"description": "Taken. The answer's body means nothing."},
    "410": {"description": "Nobody is there any more: the endpoint is disabled, until an operator enables it."},
    "429": {"description": "Too much at once: it comes again, and less comes at once.", "headers": _RETRY_AFTER},
    "503": {"description": "Not now: it comes again, and less comes at once.", "headers": _RETRY_AFTER},
    "default": {"description": "Not taken, as no answer is: it comes again, by the endpoint's schedule."},
}


def webhooks(*, reference: str) -> dict[str, Any]:
    """Path items by the types of events. `reference` is where a schema is found, with `{model}` for its name."""
    schema = TypeAdapter(OutwardMessage).json_schema(ref_template=reference)
    kinds: Mapping[str, str] = schema["discriminator"]["mapping"]
    return {event_type: {"post": _message(event_type, kinds[event_type])} for event_type in OUTWARD}


def _message(event_type: str, kind: str) -> dict[str, Any]:
    example = OUTWARD_EXAMPLES[event_type]
    content = {
        "schema": {"$ref": kind, "properties": {"type": {"const": event_type}}},
        "examples": {event_type: {"summary": example.summary, "value": example.value}},
    }
    return {
        "operationId": f"told_{event_type.replace('.', '_')}",
        "tags": ["webhooks"],
        "summary": example.summary,
        "description": INTRODUCTION,
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": description, "schema": schema}
            for name, (description, schema) in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": dict(_ANSWERS),
    }
