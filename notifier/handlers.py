"""The use-cases: who is to hear of an event; one attempt to tell; what the attempt comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from notifier.domain import (
    BODY_BYTES_MAX,
    Answer,
    AttemptNumber,
    Delivery,
    DeliveryKey,
    Message,
    Verdict,
    endpoints_for,
    find_endpoint,
    judge,
    message_of,
)
from shared.apps import Apps, EndpointId, WebhookEndpoint
from shared.events import Draft, Event, WebhookDelivered, WebhookExhausted, WebhookQueued, following
from shared.ids import AppId
from shared.log import get_logger
from shared.outcome import Handled, Later

log = get_logger(__name__)


class Deliveries(Protocol):
    """The deliveries on record, within one transaction."""

    def add(self, wanted: Mapping[DeliveryKey, str], *, now: datetime) -> AbstractSet[DeliveryKey]:
        """Puts waiting deliveries of events of these types on record; the new ones: a known one stays as it is."""
        ...

    def attempts(self, key: DeliveryKey) -> int:
        """How many attempts are on record."""
        ...

    def settle(
        self,
        key: DeliveryKey,
        *,
        number: AttemptNumber,
        answer: Answer,
        verdict: Verdict,
        next_attempt_at: datetime | None,
        now: datetime,
    ) -> None:
        """Puts the attempt, and the delivery's new state, on record."""
        ...

    def hold(self, key: DeliveryKey, *, reason: str) -> None:
        """Parks the delivery with no attempt made."""
        ...

    def switch_off(self, *, app: AppId, endpoint_id: EndpointId, url: str, reason: str, now: datetime) -> None:
        """Switches the endpoint off, as long as it has this URL."""
        ...

    def switch_on(self, *, app: AppId, endpoint_id: EndpointId) -> None:
        """Switches the endpoint on again."""
        ...


class Records(Protocol):
    """What is on record, read outside any transaction of the caller's."""

    def find(self, key: DeliveryKey) -> Delivery | None:
        """The delivery with its event."""
        ...


class Poster(Protocol):
    """Posts messages."""

    def post(self, message: Message, *, url: str, secret: str) -> Answer:
        """Signs and posts it, once. A failure is an answer too: nothing is raised for it."""
        ...


@dataclass(frozen=True, slots=True)
class Attempted:
    """An attempt was made at this URL. `probing`: of an endpoint that is switched off."""

    answer: Answer
    url: str
    probing: bool


@dataclass(frozen=True, slots=True)
class Held:
    """No attempt was made, and none will be until an operator says so."""

    reason: str


Fact = Attempted | Held


def queue_deliveries(events: Sequence[Event[Any]], *, apps: Apps, deliveries: Deliveries, now: datetime) -> Handled:
    """One delivery of each event to each endpoint of its app that wants to hear of it."""
    wanted = {
        DeliveryKey(event.app, endpoint.id, event.id): event
        for event in events
        for endpoint in endpoints_for(apps, app=event.app, event_type=event.type)
    }
    new = deliveries.add({key: event.type for key, event in wanted.items()}, now=now)
    return Handled(drafts=[_queued(key, event, now) for key, event in wanted.items() if key in new])


def attempt(queued: Event[WebhookQueued], *, apps: Apps, records: Records, poster: Poster) -> Fact:
    """One attempt to tell the endpoint, unless it is not to be told."""
    key = DeliveryKey.of(queued)
    delivery = records.find(key)
    if delivery is None:
        return Held("there is no record of this delivery")
    endpoint = find_endpoint(apps, app=key.app, endpoint_id=key.endpoint_id)
    if endpoint is None:
        return Held("the endpoint is no longer configured")
    return _tell(endpoint, delivery, poster)


def settle(
    queued: Event[WebhookQueued],
    fact: Fact,
    *,
    deliveries: Deliveries,
    jitter: float,
    now: datetime,
) -> Handled:
    """Puts on record what was found out, and says how it goes on. `jitter`: see `domain.judge`."""
    key = DeliveryKey.of(queued)
    if isinstance(fact, Held):
        deliveries.hold(key, reason=fact.reason)
        return Handled(parked={queued.id: fact.reason})
    number = AttemptNumber(deliveries.attempts(key) + 1)
    verdict = judge(fact.answer, number=number, jitter=jitter, probing=fact.probing)
    deliveries.settle(
        key,
        number=number,
        answer=fact.answer,
        verdict=verdict,
        next_attempt_at=None if verdict.delay_s is None else now + timedelta(seconds=verdict.delay_s),
        now=now,
    )
    _switch(key, verdict, fact, deliveries, now)
    _say(key, number, verdict)
    return _handled(queued, number=number, answer=fact.answer, verdict=verdict, now=now)


def _queued(key: DeliveryKey, event: Event[Any], now: datetime) -> Draft:
    payload = WebhookQueued(endpoint_id=key.endpoint_id, event_id=event.id, event_type=event.type)
    return following(event, payload, occurred_at=now)


def _tell(endpoint: WebhookEndpoint, delivery: Delivery, poster: Poster) -> Fact:
    off = delivery.switched_off_at(endpoint.url)
    if off is not None and not delivery.retried_by_operator:
        return Held(off.reason)
    message = message_of(delivery.event)
    if len(message.body) > BODY_BYTES_MAX:
        return Held(f"the message has {len(message.body)} bytes, more than {BODY_BYTES_MAX}")
    answer = poster.post(message, url=endpoint.url, secret=endpoint.secret)
    return Attempted(answer=answer, url=endpoint.url, probing=off is not None)


def _switch(key: DeliveryKey, verdict: Verdict, fact: Attempted, deliveries: Deliveries, now: datetime) -> None:
    if verdict.endpoint == "switch off":
        deliveries.switch_off(
            app=key.app, endpoint_id=key.endpoint_id, url=fact.url, reason=verdict.reason or "", now=now
        )
    elif verdict.endpoint == "switch on":
        deliveries.switch_on(app=key.app, endpoint_id=key.endpoint_id)


def _say(key: DeliveryKey, number: AttemptNumber, verdict: Verdict) -> None:
    """Logs what an operator may want to know; never the URL, which may hold a secret."""
    if verdict.state == "delivered":
        return
    say = log.warning if verdict.state == "waiting" else log.error
    say(
        "webhook not taken",
        app=key.app,
        endpoint=key.endpoint_id,
        event_id=str(key.event_id),
        attempt=number,
        state=verdict.state,
        reason=verdict.reason,
    )


def _handled(
    queued: Event[WebhookQueued], *, number: AttemptNumber, answer: Answer, verdict: Verdict, now: datetime
) -> Handled:
    reason = verdict.reason or ""
    match verdict.state:
        case "delivered":
            return Handled(drafts=[_delivered(queued, number, answer, now)])
        case "waiting":
            return Handled(later={queued.id: Later(reason, verdict.delay_s)})
        case "exhausted":
            return Handled(drafts=[_exhausted(queued, number, reason, now)], parked={queued.id: reason})
        case "parked":
            return Handled(parked={queued.id: reason})


def _delivered(queued: Event[WebhookQueued], number: AttemptNumber, answer: Answer, now: datetime) -> Draft:
    told = queued.payload
    payload = WebhookDelivered(
        endpoint_id=told.endpoint_id,
        event_id=told.event_id,
        event_type=told.event_type,
        attempt=number,
        status=answer.status or 0,
    )
    return following(queued, payload, occurred_at=now)


def _exhausted(queued: Event[WebhookQueued], number: AttemptNumber, reason: str, now: datetime) -> Draft:
    told = queued.payload
    payload = WebhookExhausted(
        endpoint_id=told.endpoint_id,
        event_id=told.event_id,
        event_type=told.event_type,
        attempts=number,
        reason=reason,
    )
    return following(queued, payload, occurred_at=now)
