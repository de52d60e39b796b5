"""Timelines, line by line: what was recorded, what it says, and whom it has still to reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from deploy.settings import StackSettings
from shared.apps import AppsInvalid, EndpointId, load_apps
from shared.clock import rfc3339
from shared.events import (
    OUTWARD,
    DeliveryDropped,
    DeliveryRetried,
    Recorded,
    Renewal,
    SubscriptionChanged,
    SubscriptionState,
    SubscriptionUpdated,
    WebhookDelivered,
    WebhookExhausted,
)
from shared.settings import read

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from notifier.domain.desk import DeliveryView, EndpointState
    from shared.bus.journal import Head, Pending
    from shared.ids import AppId, EventId

_CAUSES = """
select id, coalesce(payload ->> 'notification_type' || coalesce(' ' || (payload ->> 'subtype'), ''), type)
  from journal.event where id = any(%(ids)s::uuid[])
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One event: what it says of a subscription or a webhook, what it followed from (a notification by its own type),
    and whom it still has to reach: consumers of ours, and webhooks that have not taken it."""

    recorded_at: datetime
    type: str
    subject: str
    says: str
    after: str
    user_id: str | None
    event_id: str
    trace_id: str
    still_to: str


def timeline_of(connection: Connection, heads: Sequence[Head]) -> list[Line]:
    """Every event of these timelines, oldest first."""
    from shared.bus import journal

    events = sorted(
        (event for head in heads for event in journal.timeline(connection, [head])), key=lambda event: event.id
    )
    waiting = journal.pending(connection, [event.id for event in events])
    not_taken = untold(connection, events)
    causes = _causes(connection, [event.causation_id for event in events if event.causation_id is not None])
    return [
        Line(
            recorded_at=event.recorded_at,
            type=event.type,
            subject=event.subject,
            says=_says(getattr(event, "payload", None)),
            after=causes.get(event.causation_id, "") if event.causation_id else "",
            user_id=event.user_id,
            event_id=str(event.id),
            trace_id=event.trace_id,
            still_to=", ".join(
                [
                    *(_still(one) for one in waiting if one.event_id == event.id),
                    *(said for event_id, said in not_taken if event_id == event.id),
                ]
            ),
        )
        for event in events
    ]


def untold(connection: Connection, events: Sequence[Recorded]) -> list[tuple[EventId, str]]:
    """What webhooks have not taken, in words."""
    outward = [event for event in events if event.type in OUTWARD]
    apps = {event.app for event in outward}
    return [
        said
        for app in apps
        for said in _untold_of(connection, app, [event.id for event in outward if event.app == app])
    ]


def _untold_of(connection: Connection, app: AppId, event_ids: Sequence[EventId]) -> list[tuple[EventId, str]]:
    from notifier.desk import undelivered

    found = undelivered(connection, app, event_ids)
    states = _endpoint_states(connection, app) if any(each.state == "waiting" for each in found) else {}
    return [(each.event_id, _still_told(each, states.get(each.endpoint))) for each in found]


def _endpoint_states(connection: Connection, app: AppId) -> Mapping[EndpointId, EndpointState]:
    """How the app's endpoints stand. Without an apps file nobody can say; what happened is told all the same."""
    from notifier.desk import endpoints_of

    try:
        apps = load_apps(read(StackSettings).apps_file)
    except AppsInvalid:
        return {}
    return {view.id: view.state for view in endpoints_of(connection, apps, app)}


def _causes(connection: Connection, ids: Sequence[UUID]) -> Mapping[UUID, str]:
    """What each of them is called."""
    rows = connection.exec_driver_sql(_CAUSES, {"ids": [str(each) for each in set(ids)]})
    return {UUID(str(event_id)): name for event_id, name in rows}


def _says(payload: Any) -> str:
    """What is said of a subscription or of a webhook, or who moved what was stuck; nothing of what else there is, nor
    of what this release cannot read."""
    match payload:
        case SubscriptionChanged():
            return _stated(payload)
        case SubscriptionUpdated(subscription=state):
            return _told(state)
        case WebhookDelivered(endpoint_id=endpoint, attempt=attempt):
            return f"{endpoint}, attempt {attempt}"
        case WebhookExhausted(endpoint_id=endpoint, reason=reason):
            return f"{endpoint}: {reason}"
        case DeliveryRetried(consumer=consumer, actor=actor) | DeliveryDropped(consumer=consumer, actor=actor):
            return f"{consumer}, by {actor}"
    return ""


def _stated(said: SubscriptionChanged) -> str:
    transaction, revoked = said.transaction, said.revoked
    parts = [transaction.product_id]
    if transaction.period is not None:
        parts.append(f"until {rfc3339(transaction.period.expires_at)}")
    if revoked is not None and revoked.percentage_milli > 0:
        parts.append(f"{revoked.percentage_milli / 1000:g} % taken back")
    return ", ".join([*parts, *_next(said.renewal)])


def _next(renewal: Renewal | None) -> list[str]:
    if renewal is None:
        return []
    if renewal.expiration_reason is not None:
        return [f"over: {renewal.expiration_reason}"]
    if renewal.in_billing_retry:
        return ["not paid"]
    return [f"renews as {renewal.product_id or 'itself'}" if renewal.auto_renew else "will not renew"]


def _told(state: SubscriptionState) -> str:
    until = "" if state.access_until is None else f" until {rfc3339(state.access_until)}"
    return f"{state.status}, {state.product_id}{until}, version {state.version}"


def _still(pending: Pending) -> str:
    what = f"{pending.consumer} ({pending.state}, {pending.attempts} attempts"
    return f"{what}: {pending.error})" if pending.error else f"{what})"


def _still_told(delivery: DeliveryView, endpoint: EndpointState | None) -> str:
    """`webhook backend (waiting, 3 attempts, again at …: answered 500)`."""
    what = f"webhook {delivery.endpoint} ({delivery.state}, {delivery.attempts} attempts{_again(delivery, endpoint)}"
    return f"{what}: {delivery.last_error})" if delivery.last_error else f"{what})"


def _again(delivery: DeliveryView, endpoint: EndpointState | None) -> str:
    """What it waits for. Of an endpoint that is left alone `due_at` says nothing."""
    if delivery.due_at is None:
        return ""
    if endpoint == "disabled":
        return f", when endpoint {delivery.endpoint} is enabled"
    if endpoint == "not_configured":
        return f", when endpoint {delivery.endpoint} is in the apps file again"
    return f", again at {rfc3339(delivery.due_at)}" if delivery.attempts else ""
