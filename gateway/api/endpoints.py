"""The calls about the endpoints of webhooks. The notifier answers."""

from __future__ import annotations

import re
from typing import Final

from flask import Response

from gateway.api.forwarding import ask, tell
from gateway.api.services import Services
from gateway.domain.callers import Caller
from shared.apps import ENDPOINT_ID_PATTERN
from shared.http import not_found

_PATH: Final = ("webhooks", "endpoints")
_ENDPOINT_ID: Final = re.compile(ENDPOINT_ID_PATTERN)


def list_of_app(services: Services, caller: Caller) -> Response:
    """List the endpoints of the app's webhooks, and how they do"""
    return ask(services.notifier, caller, _PATH, {})


def replay(services: Services, caller: Caller, endpoint: str) -> Response:
    """Tell an endpoint once more what happened in a time

    Every event of that time that the endpoint wants and has not taken: what was given up, what waits, and what it was
    never to hear of because it is newer. With `delivered` what it has taken too. Each is sent with the id that it
    always had. Much is done in several steps: `next_since` says where the next one begins.
    """
    return tell(services.notifier, caller, [*_PATH, _known(endpoint), "replay"])


def test(services: Services, caller: Caller, endpoint: str) -> Response:
    """Send an endpoint a message that tells nothing

    Now, and once, signed as all are; of the type `webhook.test`. A disabled endpoint is sent it too. The answer comes
    when the endpoint's does.
    """
    return tell(services.notifier, caller, [*_PATH, _known(endpoint), "test"])


def enable(services: Services, caller: Caller, endpoint: str) -> Response:
    """Tell a disabled endpoint again

    What has waited for it is sent at once, the oldest first: also where it was not disabled but failing.
    """
    return tell(services.notifier, caller, [*_PATH, _known(endpoint), "enable"])


def disable(services: Services, caller: Caller, endpoint: str) -> Response:
    """Tell an endpoint no more, until it is enabled

    What it is to be told waits meanwhile. One that is disabled stays as it is, for the reason that it has.
    """
    return tell(services.notifier, caller, [*_PATH, _known(endpoint), "disable"])


def _known(text: str) -> str:
    """The id, if it can be one. Raises Problem: 404."""
    if _ENDPOINT_ID.fullmatch(text) is None:
        raise not_found("there is no such endpoint")
    return text
