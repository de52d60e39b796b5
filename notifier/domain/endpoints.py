"""Who is to hear of what, when an endpoint is given up, and what is wrong with an endpoint's configuration."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from notifier.domain.addresses import NEVER, IpNetwork, Reach, address_without_asking, in_words
from shared.apps import Apps, EndpointId, WebhookEndpoint
from shared.ids import AppId

SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
"""Standard Webhooks, "Symmetric signing secrets"."""
FAILING_MAX: Final = timedelta(days=5)
"""An endpoint that has taken nothing for so long is disabled. Longer than one delivery is tried for, so that a long
week-end without anybody costs an app nothing but the wait."""
FAILURES_MIN: Final = 10
"""And that has refused, or not answered, so often: an app where little happens is not judged by two failures."""

_MISREAD: Final = re.compile(r"[\x00-\x20\x7f\\]")
"""What one reader of URLs takes for the end of the host, another for a part of it, and a third leaves out."""


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


def endpoint_problems(apps: Apps, *, production: bool, allowed_networks: tuple[IpNetwork, ...] = ()) -> list[str]:
    """A sentence for each thing that is wrong with the configured endpoints; no secret is quoted.

    What cannot be known without asking the DNS is found out when the endpoint is called.
    """
    reach = Reach.of(production=production, allowed_networks=allowed_networks)
    return [
        f"app {app.id!r}: webhook {endpoint.id!r}: {problem}"
        for app in apps
        for endpoint in app.webhooks
        for problem in (
            _url_problem(endpoint.url, reach=reach),
            _secret_problem("secret", endpoint.secret),
            _secret_problem("previous_secret", endpoint.previous_secret),
        )
        if problem is not None
    ]


def _url_problem(url: str, *, reach: Reach) -> str | None:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        usable = parts.scheme in {"http", "https"} and host and parts.port != 0 and not _MISREAD.search(url)
    except ValueError:
        usable = False
    if not usable:
        return "url has to be http(s)://host[:port]/path"
    if "@" in parts.netloc:
        return "url may name no user: what stands before an @ is easily taken for the host"
    if parts.scheme == "http" and not reach.plain_http:
        return "url has to be https://… in production"
    return _host_problem(host, reach=reach)


def _host_problem(host: str, *, reach: Reach) -> str | None:
    address = address_without_asking(host)
    kind = None if address is None else reach.refusal(address)
    if kind is None:
        return None
    remedy = "" if kind in NEVER else ", and in none of PURSER_WEBHOOK_ALLOWED_NETWORKS"
    return f"url may not lead to {host}: that is {in_words(kind)}{remedy}"


def _secret_problem(field: str, secret: str | None) -> str | None:
    if secret is None or _is_secret(secret):
        return None
    return f"{field} has to be whsec_ and {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random bytes in base64"


def _is_secret(text: str) -> bool:
    prefix, _, encoded = text.partition("_")
    try:
        size = len(base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
    except (binascii.Error, ValueError):
        return False
    return prefix == "whsec" and SECRET_BYTES_MIN <= size <= SECRET_BYTES_MAX
