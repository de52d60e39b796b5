"""What the apps' backends are told: does somebody tell them, and do they take it?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from deploy.doctor.connections import connected
from deploy.doctor.findings import Finding, failed, ok, unchecked, warning
from notifier.desk import endpoints_of
from notifier.domain.desk import EndpointView
from shared.apps import Apps
from shared.clock import Clock, rfc3339
from shared.database import INTERACTIVE_TIMEOUT_S, DatabaseUnavailable, connect_engine, transact
from shared.ids import AppId

NAME = "webhook deliveries"
FAILING = timedelta(hours=1)
"""A receiver that is deployed anew, or restarted, fails for a while."""


def check_telling(apps: Apps, *, database_url: str, clock: Clock) -> list[Finding]:
    """Whether a process tells, and a finding for each endpoint that does not take what it is told, if there is one."""
    try:
        engine = connect_engine(
            database_url, role=None, pool_size=1, application_name="doctor", timeout_s=INTERACTIVE_TIMEOUT_S
        )
        try:
            is_told, endpoints = transact(engine, lambda connection: _look(connection, apps))
        finally:
            engine.dispose()
    except (DatabaseUnavailable, DBAPIError, ValueError):
        return [unchecked(NAME, "the database does not say")]
    if not any(endpoints.values()):
        return [unchecked(NAME, "no app has webhooks")]
    if not is_told:
        return [failed(NAME, "no `webhooks` is connected to the database: nobody is told", "purser run webhooks")]
    return read_endpoints(endpoints, now=clock.now())


def read_endpoints(endpoints: Mapping[AppId, Sequence[EndpointView]], *, now: datetime) -> list[Finding]:
    """What is wrong with them, or that nothing is."""
    troubles = [
        warning(f"{NAME} {app}/{view.id}", found, remedy)
        for app, views in endpoints.items()
        for view in views
        for found, remedy in _troubles(view, now=now)
    ]
    return troubles or [ok(NAME, f"{sum(view.waiting for views in endpoints.values() for view in views)} wait")]


def _look(connection: Connection, apps: Apps) -> tuple[bool, dict[AppId, list[EndpointView]]]:
    """Whether somebody tells, and by app what its endpoints are told."""
    return connected(connection, "webhooks"), {app.id: endpoints_of(connection, apps, app.id) for app in apps}


def _troubles(view: EndpointView, *, now: datetime) -> Iterator[tuple[str, str]]:
    """What was found, and what helps."""
    waiting = f"{view.waiting} wait"
    if view.state == "disabled":
        since = "" if view.disabled_at is None else f" since {rfc3339(view.disabled_at)}"
        yield f"disabled{since}: {view.reason}; {waiting}", f"mend it; purser webhooks enable {view.id}"
    elif view.failing_since is not None and view.state == "failing" and now - view.failing_since >= FAILING:
        found = f"it has taken nothing since {rfc3339(view.failing_since)}, {view.failures} attempts long; {waiting}"
        yield found, f"purser webhooks test {view.id} says what it answers"
    elif view.state == "not_configured" and view.waiting:
        remedy = f"put it back, if they are to be told; if not, purser webhooks drop {view.id}"
        yield f"not in the apps file any more; {waiting}", remedy
    if view.failed and view.state != "not_configured":
        remedy = f"purser webhooks list --endpoint {view.id} --state exhausted; resend, replay, or drop"
        yield f"{view.failed} were given up", remedy
