"""The calls of stores. They carry their own proof: no credential of ours is asked for."""

from __future__ import annotations

from typing import Final

from flask import Response, request

from gateway import handlers
from gateway.api import documents
from gateway.api.services import Services
from shared.http import read_body, trace_id

NOTIFICATION_BYTES_MAX: Final = 256 * 1024
"""Ten times what the App Store sends: whoever calls here is not known before the body is read."""


def apple(services: Services) -> Response:
    """Take in an App Store Server Notification, version 2

    200 once it is durable, for a repeat too. The App Store repeats what is not answered with 200.
    """
    request.max_content_length = NOTIFICATION_BYTES_MAX
    body = read_body(documents.AppleNotification)
    handlers.receive_notification(
        body.signedPayload,
        apps=services.apps,
        signatures=services.signatures,
        journal=services.journal,
        trace_id=trace_id(),
        now=services.clock.now(),
    )
    return Response(status=200)
