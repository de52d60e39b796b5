"""What an operator sees of the endpoints and the deliveries, and does about them. All of it is one app's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, Protocol
from uuid import UUID

from notifier.domain.deliveries import DeliveryState
from notifier.domain.desk import (
    DeliveryHistory,
    DeliveryPage,
    DeliveryPlace,
    DeliveryView,
    EndpointRecord,
    EndpointView,
    Replayed,
    Span,
    Stretch,
    Told,
    Trial,
    endpoint_view,
    message_shown,
    trial_message,
    trial_of,
    types_wanted,
)
from notifier.handlers.ports import Poster
from shared.apps import Apps, EndpointId, WebhookEndpoint
from shared.events import Draft, Payload, Recorded, WebhookEndpointDisabled, WebhookEndpointEnabled
from shared.ids import AppId, EventId, uuid7_floor, uuid7_moment, webhook_endpoint_subject

PAGE_MAX: Final = 200
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""No event is older: the ids of events begin there."""
AT_ONCE_MAX: Final = 1_000
"""Deliveries in one transaction, so that it holds nothing for long."""


DroppedState = Literal["waiting", "exhausted", "parked"]
"""What can be given up: all but what was delivered, which is removed by and by."""


class EndpointUnknown(LookupError):
    """The app has no such endpoint; the message names those that it has."""


class DeliveryUnknown(LookupError):
    """Nothing was to be told of such an event, as far as is still known."""


class DropRefused(Exception):
    """The endpoint is being told what was to be dropped; the message says what to do first."""


class DeskRecords(Protocol):
    """The record as an operator needs it, within one transaction; of one app."""

    def endpoints(self) -> Sequence[EndpointRecord]:
        """All that anything is on record of."""
        ...

    def deliveries(
        self,
        *,
        endpoint: EndpointId | None,
        state: DeliveryState | None,
        after: DeliveryPlace | None,
        limit: int,
    ) -> Sequence[DeliveryView]:
        """Deliveries after that place, the newest event first."""
        ...

    def history(self, event_id: EventId) -> Sequence[DeliveryHistory]:
        """All deliveries of an event, by endpoint."""
        ...

    def outward_event(self, event_id: EventId) -> Recorded | None:
        """The event, if it is one of the app's outward ones."""
        ...

    def send_again(self, event_id: EventId, *, endpoints: Sequence[EndpointId], now: datetime) -> int:
        """Makes the event's deliveries to these due, whatever became of them, with their schedule ahead; how many."""
        ...

    def send_span(
        self, span: Span, *, endpoint: EndpointId, types: Sequence[str], delivered: bool, limit: int, now: datetime
    ) -> Stretch:
        """Makes deliveries of the first `limit` outward events of the span due, of these types, known or not.

        Those that were delivered only if `delivered`.
        """
        ...

    def disable(self, endpoint: EndpointId, *, url: str, reason: str, now: datetime) -> bool:
        """Disables the endpoint, as long as it has this URL; False when it is already."""
        ...

    def enable(self, endpoint: EndpointId, *, url: str) -> bool:
        """Enables the endpoint, as if it had never failed; False when it is not disabled."""
        ...

    def make_due(self, endpoint: EndpointId, *, now: datetime, limit: int) -> int:
        """Makes some of what waits for its next attempt due, unless it is so soon; how many."""
        ...

    def stays_disabled(self, endpoint: EndpointId, *, url: str) -> bool:
        """Whether the endpoint is disabled under this URL, and is kept so until the transaction ends."""
        ...

    def drop(self, endpoint: EndpointId, *, state: DeliveryState, limit: int) -> int:
        """Removes some deliveries in this state, oldest events first, with their attempts; how many."""
        ...


def read_endpoints(*, records: DeskRecords, apps: Apps, app: AppId) -> list[EndpointView]:
    """All endpoints of the app, by id: those that are configured, and others that anything is on record of."""
    configured = _configured(apps, app)
    known = {record.id: record for record in records.endpoints()}
    return [
        endpoint_view(known.get(id) or EndpointRecord(id), configured.get(id)) for id in sorted({*configured, *known})
    ]


def read_endpoint(*, records: DeskRecords, apps: Apps, app: AppId, endpoint: EndpointId) -> EndpointView:
    """One of them. Raises EndpointUnknown."""
    for found in read_endpoints(records=records, apps=apps, app=app):
        if found.id == endpoint:
            return found
    raise _unknown(endpoint, apps, app)


def read_deliveries(
    *,
    records: DeskRecords,
    apps: Apps,
    app: AppId,
    endpoint: EndpointId | None,
    state: DeliveryState | None,
    after: DeliveryPlace | None,
    limit: int,
) -> DeliveryPage:
    """A page of at most `limit` deliveries (1 to PAGE_MAX), the newest event first. Raises EndpointUnknown."""
    found = records.deliveries(endpoint=endpoint, state=state, after=after, limit=limit + 1)
    if not found and endpoint is not None:
        read_endpoint(records=records, apps=apps, app=app, endpoint=endpoint)
    page = found[:limit]
    return DeliveryPage(page, next_after=page[-1].place if len(found) > limit else None)


def read_delivery(*, records: DeskRecords, event_id: EventId) -> Told:
    """An outward event with every attempt to tell it. Raises DeliveryUnknown."""
    event, deliveries = records.outward_event(event_id), records.history(event_id)
    if event is None and not deliveries:
        raise DeliveryUnknown(f"there is nothing to be told of {event_id}")
    return Told(event_id, message_shown(event), deliveries)


def resend(
    *, records: DeskRecords, apps: Apps, app: AppId, event_id: EventId, endpoint: EndpointId | None, now: datetime
) -> int:
    """Has the event told once more, to one endpoint or to all that were to hear of it; to how many.

    What was delivered is sent again too. An attempt that is under way now counts for nothing: the endpoint may have
    the message twice. Raises EndpointUnknown, DeliveryUnknown.
    """
    wanted = list(_configured(apps, app)) if endpoint is None else [_of(apps, app, endpoint).id]
    queued = records.send_again(event_id, endpoints=wanted, now=now)
    if not queued:
        where = "any endpoint" if endpoint is None else repr(endpoint)
        raise DeliveryUnknown(f"there is no delivery of {event_id} to {where}")
    return queued


@dataclass(frozen=True, slots=True)
class Replay:
    """What is to be told once more: all that the endpoint wants and has not taken; with `delivered`, that too."""

    app: AppId
    endpoint: EndpointId
    since: datetime
    until: datetime
    delivered: bool = False

    @property
    def span(self) -> Span:
        return Span(_floor(self.since), _floor(self.until))


Observe = Callable[[Replayed], None]
"""Hears how far a replay has come."""


def unobserved(_replayed: Replayed) -> None:
    """Nobody wants to know."""


def replay(
    asked: Replay,
    *,
    stretch: Callable[[Span], Stretch],
    limit: int | None = None,
    observe: Observe = unobserved,
) -> Replayed:
    """Goes through the app's outward events of that time, oldest first, each `stretch` in a transaction of its own.

    After `limit` events (or a few more) it ends, and says from when to go on.
    """
    span, done = asked.span, Replayed(0, 0)
    while (now_done := stretch(span)).last is not None:
        done = Replayed(done.queued + now_done.queued, done.looked_at + now_done.looked_at)
        observe(done)
        if limit is not None and done.looked_at >= limit:
            return Replayed(done.queued, done.looked_at, next_since=uuid7_moment(now_done.last))
        span = Span(_following(now_done.last), span.end)
    return done


def replay_stretch(span: Span, *, asked: Replay, records: DeskRecords, apps: Apps, now: datetime) -> Stretch:
    """One stretch of a replay, in one transaction. Raises EndpointUnknown."""
    endpoint = _of(apps, asked.app, asked.endpoint)
    return records.send_span(
        span,
        endpoint=endpoint.id,
        types=types_wanted(endpoint),
        delivered=asked.delivered,
        limit=AT_ONCE_MAX,
        now=now,
    )


def try_endpoint(*, poster: Poster, apps: Apps, app: AppId, endpoint: EndpointId, id: EventId, now: datetime) -> Trial:
    """Posts a message that tells nothing, now, and says what came back; nothing of it is recorded.

    A disabled endpoint is asked too: that is how one finds out whether to enable it. Raises EndpointUnknown.
    """
    configured = _of(apps, app, endpoint)
    return trial_of(poster.post(trial_message(configured.id, id=id, now=now), endpoint=configured), id=id)


@dataclass(frozen=True, slots=True)
class Switching:
    """An operator, and the endpoint that is to be disabled or enabled. `actor`: `operator`, or `server:<key id>`."""

    app: AppId
    endpoint: EndpointId
    actor: str
    trace_id: str


def disable(asked: Switching, *, records: DeskRecords, apps: Apps, reason: str, now: datetime) -> list[Draft]:
    """Keeps what is to be told to the endpoint waiting; what the journal is told of it. Raises EndpointUnknown.

    Nothing when it is disabled already. What is under way is not called back.
    """
    endpoint = _of(apps, asked.app, asked.endpoint)
    if not records.disable(endpoint.id, url=endpoint.url, reason=reason, now=now):
        return []
    return [_switched(asked, WebhookEndpointDisabled(endpoint.id, reason, asked.actor), now)]


def enable(asked: Switching, *, records: DeskRecords, apps: Apps, now: datetime) -> list[Draft]:
    """Has the endpoint told again; what the journal is told of it. Raises EndpointUnknown.

    Nothing when it is not disabled.
    """
    endpoint = _of(apps, asked.app, asked.endpoint)
    if not records.enable(endpoint.id, url=endpoint.url):
        return []
    return [_switched(asked, WebhookEndpointEnabled(endpoint.id, asked.actor), now)]


def drop_some(
    *, records: DeskRecords, apps: Apps, app: AppId, endpoint: EndpointId, state: DroppedState, limit: int
) -> int:
    """Gives up some of what the endpoint has not taken, in one transaction; how many: `limit`, while there are more.

    The events stay in the feed, and can be replayed. Raises DropRefused for what waits, unless the endpoint is disabled
    or is not configured: else it may be on its way.
    """
    configured = _configured(apps, app).get(endpoint)
    if state == "waiting" and configured and not records.stays_disabled(endpoint, url=configured.url):
        raise DropRefused(
            f"webhook {endpoint!r} is told what waits for it: disable it first (purser webhooks disable {endpoint}), "
            "or name what else is to be dropped (--state exhausted --state parked)"
        )
    return records.drop(endpoint, state=state, limit=limit)


def _switched(asked: Switching, payload: Payload, now: datetime) -> Draft:
    return Draft(
        payload=payload,
        app=asked.app,
        subject=webhook_endpoint_subject(app=asked.app, endpoint_id=asked.endpoint),
        user_id=None,
        occurred_at=now,
        trace_id=asked.trace_id,
    )


def _configured(apps: Apps, app: AppId) -> dict[EndpointId, WebhookEndpoint]:
    known = apps.by_id.get(app)
    return {endpoint.id: endpoint for endpoint in known.webhooks} if known else {}


def _of(apps: Apps, app: AppId, endpoint: EndpointId) -> WebhookEndpoint:
    """The endpoint as it is configured. Raises EndpointUnknown."""
    configured = _configured(apps, app).get(endpoint)
    if configured is None:
        raise _unknown(endpoint, apps, app)
    return configured


def _unknown(endpoint: EndpointId, apps: Apps, app: AppId) -> EndpointUnknown:
    there_are = ", ".join(sorted(_configured(apps, app))) or "none"
    return EndpointUnknown(f"app {app!r} has no webhook {endpoint!r}; there are: {there_are}")


def _floor(moment: datetime) -> EventId:
    return EventId(uuid7_floor(max(moment, EPOCH)))


def _following(event_id: EventId) -> EventId:
    """The next id that there may be."""
    return EventId(UUID(int=event_id.int + 1))
