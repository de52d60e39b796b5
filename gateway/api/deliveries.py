"""The calls about what was to be told by webhook, and what became of it. The notifier answers."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from flask import Response

from gateway.api import documents
from gateway.api.forwarding import ask, tell
from gateway.api.services import Services
from gateway.domain.callers import Caller
from shared.http import not_found, read_query

_PATH: Final = ("webhooks", "deliveries")


def list_of_app(services: Services, caller: Caller) -> Response:
    """List what was to be told by webhook, the newest event first

    All of it, or what was for one endpoint, or is in one state: `?state=exhausted` is what was given up.
    """
    query = read_query(documents.WebhookDeliveriesQuery)
    return ask(services.notifier, caller, _PATH, query.model_dump(exclude_none=True))


def show(services: Services, caller: Caller, event: str) -> Response:
    """Show what became of telling an event, attempt by attempt

    With the message as it is posted.
    """
    return ask(services.notifier, caller, [*_PATH, _known(event)], {})


def resend(services: Services, caller: Caller, event: str) -> Response:
    """Tell an event once more

    Whatever became of it before; with the id that it always had, so that who has it already knows it again.
    """
    return tell(services.notifier, caller, [*_PATH, _known(event), "resend"])


def _known(text: str) -> str:
    """The id, if it can be one. Raises Problem: 404."""
    try:
        value = str(UUID(text))
    except ValueError:
        value = ""
    if value != text:
        raise not_found("there is no such event")
    return text
