"""Who is to hear of what, when an endpoint is given up, and what is wrong with an endpoint's configuration."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from shared.apps import Apps, EndpointId, WebhookEndpoint
from shared.ids import AppId

SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
"""Standard Webhooks, "Symmetric signing secrets"."""
FAILING_MAX: Final = timedelta(days=5)
"""An endpoint that has taken nothing for so long is disabled. Longer than one delivery is tried for, so that a long
week-end without anybody costs an app nothing but the wait."""
FAILURES_MIN: Final = 10
"""And that has refused, or not answered, so often: an app where little happens is not judged by two failures."""


@dataclass(frozen=True, slots=True)
class EndpointKey:
    """One endpoint of one app."""

    app: AppId
    id: EndpointId

    def __str__(self) -> str:
        return f"{self.app}/{self.id}"


@dataclass(frozen=True, slots=True)
class Failing:
    """An endpoint that has taken nothing since its first failure after the last time that it did."""

    key: EndpointKey
    since: datetime
    failures: int

    def is_given_up(self, *, now: datetime) -> bool:
        """Whether it is not to be told any more."""
        return now - self.since >= FAILING_MAX and self.failures >= FAILURES_MIN


def endpoints_for(apps: Apps, *, app: AppId, event_type: str) -> list[WebhookEndpoint]:
    """The app's endpoints that want to hear of such events."""
    known = apps.by_id.get(app)
    return [endpoint for endpoint in known.webhooks if endpoint.wants(event_type)] if known else []


def configured_endpoints(apps: Apps) -> dict[EndpointKey, WebhookEndpoint]:
    """All endpoints of all apps."""
    return {EndpointKey(app.id, endpoint.id): endpoint for app in apps for endpoint in app.webhooks}


def endpoint_problems(apps: Apps, *, production: bool) -> list[str]:
    """A sentence for each thing that is wrong with the configured endpoints; no secret is quoted.

    In production a target over plain HTTP is wrong too.
    """
    return [
        f"app {app.id!r}: webhook {endpoint.id!r}: {problem}"
        for app in apps
        for endpoint in app.webhooks
        for problem in (_url_problem(endpoint.url, production=production), _secret_problem(endpoint.secret))
        if problem is not None
    ]


def _url_problem(url: str, *, production: bool) -> str | None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        return "url has to be http(s)://host[:port]/path"
    if production and parts.scheme != "https":
        return "url has to be https://… in production"
    return None


def _secret_problem(secret: str) -> str | None:
    prefix, _, encoded = secret.partition("_")
    try:
        size = len(base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if prefix != "whsec" or not SECRET_BYTES_MIN <= size <= SECRET_BYTES_MAX:
        return f"secret has to be whsec_ and {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random bytes in base64"
    return None
