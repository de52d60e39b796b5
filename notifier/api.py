"""The internal API: what operators ask, through the gateway. Translation only.

A path stands in ROUTES or it does not exist, and it cannot stand there without saying who may call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Protocol, TypeVar
from uuid import UUID

from flask import Blueprint, Response, request
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from notifier.domain.deliveries import DeliveryState
from notifier.domain.desk import (
    AttemptView,
    DeliveryHistory,
    DeliveryPage,
    DeliveryPlace,
    DeliveryView,
    EndpointView,
    Replayed,
    Told,
    Trial,
)
from notifier.handlers.desk import PAGE_MAX, DeliveryUnknown, EndpointUnknown
from shared.apps import ENDPOINT_ID_PATTERN, Apps, EndpointId
from shared.callers import Caller, Door, Right, nowhere
from shared.clock import rfc3339
from shared.http import answer, malformed, not_found, read_body, read_query, trace_id
from shared.ids import AppId, EventId

BODY_BYTES_MAX: Final = 16 * 1024
"""Several times what any of these calls says."""
REASON_LENGTH_MAX: Final = 500
PAGE_DEFAULT: Final = 50
REPLAYED_MAX: Final = 20_000
"""Events that one call looks at, or a few more: so many are made due within the gateway's patience."""
PLACE_PATTERN: Final = rf"^[0-9a-f]{{32}}\.{ENDPOINT_ID_PATTERN[1:]}"
"""The event's id and the endpoint's. To callers it is one word without a meaning."""
_ENDPOINT_ID: Final = re.compile(ENDPOINT_ID_PATTERN)

READ: Final = Right("read", clients=nowhere)
ADMINISTER: Final = Right("admin", clients=nowhere)

M = TypeVar("M", bound=BaseModel)


class Desk(Protocol):
    """What operators see and do; each call is durable when it returns. Raises DatabaseUnavailable.

    Raises EndpointUnknown or DeliveryUnknown for what the app does not have.
    """

    def endpoints(self, app: AppId) -> Sequence[EndpointView]: ...

    def deliveries(
        self,
        app: AppId,
        *,
        endpoint: EndpointId | None,
        state: DeliveryState | None,
        after: DeliveryPlace | None,
        limit: int,
    ) -> DeliveryPage: ...

    def delivery(self, app: AppId, event_id: EventId) -> Told: ...

    def resend(self, app: AppId, event_id: EventId, *, endpoint: EndpointId | None, actor: str) -> int: ...

    def replay(
        self,
        app: AppId,
        endpoint: EndpointId,
        *,
        since: datetime,
        until: datetime | None,
        delivered: bool,
        actor: str,
        limit: int | None,
    ) -> Replayed: ...

    def test(self, app: AppId, endpoint: EndpointId) -> Trial: ...

    def enable(self, app: AppId, endpoint: EndpointId, *, actor: str, trace_id: str) -> EndpointView: ...

    def disable(self, app: AppId, endpoint: EndpointId, *, reason: str, actor: str, trace_id: str) -> EndpointView: ...

    def ready(self) -> None:
        """Whether the database answers."""
        ...


# ---- what comes in ----------------------------------------------------------------------------------------------


def _moment(value: object) -> datetime:
    """RFC 3339, which lets `t` and `z` be small."""
    try:
        moment = datetime.fromisoformat(value.upper()) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("a moment is wanted, such as 2026-11-22T12:00:00Z")
    return moment


def _says_something(text: str) -> str:
    if not text.strip() or "\0" in text:  # PostgreSQL's text has no NUL
        raise ValueError("it is blank, or holds a NUL")
    return text


Moment = Annotated[datetime, BeforeValidator(_moment)]
NamedEndpoint = Annotated[EndpointId, Field(pattern=ENDPOINT_ID_PATTERN)]


class DeliveriesQuery(BaseModel):
    """Which deliveries, and which page: `after` is the `next` of the page before."""

    endpoint: NamedEndpoint | None = None
    state: DeliveryState | None = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    after: Annotated[str | None, Field(pattern=PLACE_PATTERN)] = None


class ResendBody(BaseModel):
    """`POST …/deliveries/{event}/resend`. No endpoint: all that were to hear of the event."""

    endpoint: NamedEndpoint | None = None


class ReplayBody(BaseModel):
    """`POST …/endpoints/{endpoint}/replay`. No `until`: up to now."""

    since: Moment
    until: Moment | None = None
    delivered: bool = False


class EmptyBody(BaseModel):
    """Of a call that takes nothing to say."""


class DisableBody(BaseModel):
    """`POST …/endpoints/{endpoint}/disable`"""

    reason: Annotated[str, Field(min_length=1, max_length=REASON_LENGTH_MAX), AfterValidator(_says_something)]


def _read_optional_body(model: type[M]) -> M:
    """The request's body, where each member may be left out: then so may the body. Raises Problem: 400, 413."""
    return read_body(model) if request.get_data() else model()


def _event(text: str) -> EventId:
    """The event of a path. Raises Problem: 404 for what is no event's id."""
    try:
        value = UUID(text)
    except ValueError:
        value = None
    if value is None or str(value) != text:
        raise not_found("there is no such event")
    return EventId(value)


def _endpoint(text: str) -> EndpointId:
    """The endpoint of a path. Raises Problem: 404 for what is no endpoint's id."""
    if _ENDPOINT_ID.fullmatch(text) is None:
        raise not_found("there is no such endpoint")
    return EndpointId(text)


def write_place(place: DeliveryPlace) -> str:
    """A place in the list, as a caller is given it."""
    return f"{place.event_id.hex}.{place.endpoint}"


def read_place(text: str) -> DeliveryPlace:
    """The place that `write_place` wrote; `text` is of PLACE_PATTERN."""
    event_id, _, endpoint = text.partition(".")
    return DeliveryPlace(EventId(UUID(hex=event_id)), EndpointId(endpoint))


# ---- what goes out ----------------------------------------------------------------------------------------------


def _when(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def _endpoint_document(endpoint: EndpointView) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "host": endpoint.host,
        "events": endpoint.events,
        "state": endpoint.state,
        "disabled_at": _when(endpoint.disabled_at),
        "reason": endpoint.reason,
        "failing_since": _when(endpoint.failing_since),
        "failures": endpoint.failures,
        "waiting": endpoint.waiting,
        "oldest_waiting_at": _when(endpoint.oldest_waiting_at),
        "failed": endpoint.failed,
        "delivered_at": _when(endpoint.delivered_at),
    }


def _delivery_document(delivery: DeliveryView) -> dict[str, Any]:
    return {
        "event_id": str(delivery.event_id),
        "endpoint": delivery.endpoint,
        "type": delivery.type,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "created_at": rfc3339(delivery.created_at),
        "due_at": _when(delivery.due_at),
        "settled_at": _when(delivery.settled_at),
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
    }


def _history_document(history: DeliveryHistory) -> dict[str, Any]:
    attempts = [_attempt_document(attempt) for attempt in history.attempt_list]
    return {**_delivery_document(history.delivery), "attempt_list": attempts}


def _attempt_document(attempt: AttemptView) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "at": rfc3339(attempt.at),
        "status": attempt.status,
        "duration_ms": attempt.duration_ms,
        "answer": attempt.answer,
        "error": attempt.error,
        "retry_after_s": attempt.retry_after_s,
    }


# ---- the views --------------------------------------------------------------------------------------------------


def endpoints(desk: Desk, caller: Caller) -> Response:
    """The app's endpoints, and how they do."""
    return answer({"endpoints": [_endpoint_document(each) for each in desk.endpoints(caller.app.id)]})


def deliveries(desk: Desk, caller: Caller) -> Response:
    """A page of deliveries, the newest event first."""
    query = read_query(DeliveriesQuery)
    after = None if query.after is None else read_place(query.after)
    try:
        page = desk.deliveries(
            caller.app.id, endpoint=query.endpoint, state=query.state, after=after, limit=query.limit
        )
    except EndpointUnknown as error:
        raise malformed(f"endpoint: {error}") from error
    return answer(
        {
            "deliveries": [_delivery_document(each) for each in page.deliveries],
            "next": None if page.next_after is None else write_place(page.next_after),
        }
    )


def delivery(desk: Desk, caller: Caller, event_id: str) -> Response:
    """What became of telling an event, attempt by attempt."""
    told = desk.delivery(caller.app.id, _event(event_id))
    return answer(
        {
            "event_id": str(told.event_id),
            "message": told.message,
            "deliveries": [_history_document(each) for each in told.deliveries],
        }
    )


def resend(desk: Desk, caller: Caller, event_id: str) -> Response:
    """An event is told once more."""
    event, body = _event(event_id), _read_optional_body(ResendBody)
    try:
        queued = desk.resend(caller.app.id, event, endpoint=body.endpoint, actor=caller.actor)
    except EndpointUnknown as error:
        raise malformed(f"endpoint: {error}") from error
    return answer({"queued": queued})


def replay(desk: Desk, caller: Caller, endpoint_id: str) -> Response:
    """What happened in a time is told once more."""
    endpoint, body = _endpoint(endpoint_id), read_body(ReplayBody)
    if body.until is not None and body.until < body.since:
        raise malformed("until: it is before `since`")
    replayed = desk.replay(
        caller.app.id,
        endpoint,
        since=body.since,
        until=body.until,
        delivered=body.delivered,
        actor=caller.actor,
        limit=REPLAYED_MAX,
    )
    return answer({"queued": replayed.queued, "next_since": _when(replayed.next_since)})


def test(desk: Desk, caller: Caller, endpoint_id: str) -> Response:
    """An endpoint is sent something that tells nothing."""
    endpoint, _ = _endpoint(endpoint_id), _read_optional_body(EmptyBody)
    trial = desk.test(caller.app.id, endpoint)
    return answer(
        {
            "message_id": str(trial.message_id),
            "taken": trial.taken,
            "status": trial.status,
            "duration_ms": trial.duration_ms,
            "answer": trial.answer,
            "error": trial.error,
        }
    )


def enable(desk: Desk, caller: Caller, endpoint_id: str) -> Response:
    """An endpoint is told again."""
    endpoint, _ = _endpoint(endpoint_id), _read_optional_body(EmptyBody)
    enabled = desk.enable(caller.app.id, endpoint, actor=caller.actor, trace_id=trace_id())
    return answer(_endpoint_document(enabled))


def disable(desk: Desk, caller: Caller, endpoint_id: str) -> Response:
    """An endpoint is told no more."""
    endpoint, body = _endpoint(endpoint_id), read_body(DisableBody)
    disabled = desk.disable(caller.app.id, endpoint, reason=body.reason, actor=caller.actor, trace_id=trace_id())
    return answer(_endpoint_document(disabled))


def healthz(_desk: Desk) -> Response:
    """Whether the process answers."""
    return answer({"status": "ok"})


def readyz(desk: Desk) -> Response:
    """Whether the database answers."""
    desk.ready()
    return answer({"status": "ready"})


# ---- the routes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Route:
    """One call. `view` is given the desk, the caller if a right is needed, and the parts of the path."""

    method: str
    path: str
    needs: Right | None  # None: open to everybody
    view: Callable[..., Response]


ROUTES: Final = (
    Route("GET", "/v1/webhooks/endpoints", READ, endpoints),
    Route("POST", "/v1/webhooks/endpoints/<endpoint_id>/replay", ADMINISTER, replay),
    Route("POST", "/v1/webhooks/endpoints/<endpoint_id>/test", ADMINISTER, test),
    Route("POST", "/v1/webhooks/endpoints/<endpoint_id>/enable", ADMINISTER, enable),
    Route("POST", "/v1/webhooks/endpoints/<endpoint_id>/disable", ADMINISTER, disable),
    Route("GET", "/v1/webhooks/deliveries", READ, deliveries),
    Route("GET", "/v1/webhooks/deliveries/<event_id>", READ, delivery),
    Route("POST", "/v1/webhooks/deliveries/<event_id>/resend", ADMINISTER, resend),
    Route("GET", "/healthz", None, healthz),
    Route("GET", "/readyz", None, readyz),
)


def routes(*, desk: Desk, apps: Apps, service_token: str) -> Blueprint:
    """The API as a blueprint, each call behind the check of who may make it."""
    blueprint = Blueprint("notifier", __name__)
    blueprint.register_error_handler(EndpointUnknown, _not_there)
    blueprint.register_error_handler(DeliveryUnknown, _not_there)
    door = Door(apps, service_token, BODY_BYTES_MAX)
    for route in ROUTES:
        view = door.guarded(route.view, desk, needs=route.needs)
        blueprint.add_url_rule(route.path, endpoint=route.view.__name__, view_func=view, methods=[route.method])
    return blueprint


def _not_there(error: Exception) -> Response:
    return not_found(str(error)).response()
