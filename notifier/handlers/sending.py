"""One attempt to tell an endpoint; what attempts come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from notifier.domain.deliveries import (
    BODY_BYTES_MAX,
    Answer,
    AttemptNumber,
    Delivery,
    Settlement,
    Verdict,
    judge,
    message_of,
)
from notifier.domain.endpoints import EndpointKey
from notifier.handlers.ports import Deliveries, Poster
from shared.apps import WebhookEndpoint
from shared.events import (
    Draft,
    OutwardEventUnknown,
    UnreadEvent,
    WebhookDelivered,
    WebhookEndpointDisabled,
    WebhookExhausted,
    following,
)
from shared.ids import webhook_endpoint_subject
from shared.log import get_logger

log = get_logger(__name__)

ACTOR = "notifier"
"""Who disables an endpoint that fails."""


@dataclass(frozen=True, slots=True)
class Unsendable:
    """No attempt was made, and none will be until an operator says so."""

    reason: str


@dataclass(frozen=True, slots=True)
class Attempted:
    """What came of a delivery, at the endpoint as it was configured then. `jitter`: see domain.deliveries.judge."""

    delivery: Delivery
    endpoint: WebhookEndpoint
    outcome: Answer | Unsendable
    jitter: float

    @property
    def verdict(self) -> Verdict:
        if isinstance(self.outcome, Unsendable):
            return Verdict("parked", self.outcome.reason)
        return judge(
            self.outcome,
            number=self.delivery.number,
            delays_s=self.endpoint.retry_delays_s,
            jitter=self.jitter,
        )


def attempt(delivery: Delivery, *, endpoint: WebhookEndpoint, poster: Poster) -> Answer | Unsendable:
    """One attempt to tell the endpoint, unless the message cannot be sent to anybody."""
    if isinstance(delivery.event, UnreadEvent):
        return Unsendable(f"a newer release recorded this {delivery.event.type}, and this one cannot read it")
    try:
        message = message_of(delivery.event)
    except OutwardEventUnknown as error:
        return Unsendable(str(error))
    if len(message.body) > BODY_BYTES_MAX:
        return Unsendable(f"the message has {len(message.body)} bytes, more than {BODY_BYTES_MAX}")
    return poster.post(message, endpoint=endpoint)


def settle(attempted: Sequence[Attempted], *, deliveries: Deliveries, now: datetime) -> list[Draft]:
    """Puts on record what was found out, and how it goes on; what is to be told of it. No delivery comes twice."""
    judged = [(each, each.verdict) for each in attempted]
    numbers = deliveries.settle([_settlement(each, verdict, now) for each, verdict in judged], now=now)
    settled = [(each, verdict) for each, verdict in judged if each.delivery.key in numbers]
    for each, verdict in settled:
        _say(each, verdict)
    told = [
        draft
        for each, verdict in settled
        if (draft := _told(each, verdict, numbers[each.delivery.key], now)) is not None
    ]
    return [*told, *_disabled(settled, deliveries, now)]


def _settlement(attempted: Attempted, verdict: Verdict, now: datetime) -> Settlement:
    answer = attempted.outcome if isinstance(attempted.outcome, Answer) else None
    due_at = None if verdict.delay_s is None else now + timedelta(seconds=verdict.delay_s)
    return Settlement(attempted.delivery.key, attempted.delivery.lost_at, answer, verdict, due_at)


def _told(attempted: Attempted, verdict: Verdict, number: AttemptNumber, now: datetime) -> Draft | None:
    """What the journal is told of a delivery that has come to its end."""
    event, outcome = attempted.delivery.event, attempted.outcome
    if isinstance(event, UnreadEvent) or isinstance(outcome, Unsendable):
        return None
    if verdict.state == "delivered" and outcome.status is not None:
        delivered = WebhookDelivered(attempted.endpoint.id, event.id, event.type, attempt=number, status=outcome.status)
        return following(event, delivered, occurred_at=now)
    if verdict.state == "exhausted":
        exhausted = WebhookExhausted(
            attempted.endpoint.id, event.id, event.type, attempts=number, reason=verdict.reason or ""
        )
        return following(event, exhausted, occurred_at=now)
    return None


def _disabled(settled: Iterable[tuple[Attempted, Verdict]], deliveries: Deliveries, now: datetime) -> list[Draft]:
    """Disables the endpoints that are not to be told any more; what the journal is told of it."""
    made = [(each, verdict) for each, verdict in settled if isinstance(each.outcome, Answer)]
    newest = {each.delivery.key.endpoint: each for each, _ in made}
    reasons = _given_up(made, newest, deliveries, now)
    reasons |= {each.delivery.key.endpoint: "it answered 410 Gone" for each, verdict in made if verdict.endpoint_gone}
    return [
        _disable(key, newest[key], reason, now)
        for key, reason in reasons.items()
        if deliveries.disable(key, url=newest[key].endpoint.url, reason=reason, now=now)
    ]


def _given_up(
    made: Sequence[tuple[Attempted, Verdict]],
    newest: Mapping[EndpointKey, Attempted],
    deliveries: Deliveries,
    now: datetime,
) -> dict[EndpointKey, str]:
    """Puts on record how the endpoints do; which of them have failed for so long that they are given up, and why."""
    took = {each.delivery.key.endpoint for each, verdict in made if verdict.state == "delivered"}
    failures = Counter(key for each, _ in made if (key := each.delivery.key.endpoint) not in took)
    deliveries.taken_by(took)
    failing = deliveries.failed(
        {key: (newest[key].endpoint.url, count) for key, count in failures.items()},
        now=now,
    )
    return {
        each.key: f"it has taken nothing since {each.since:%Y-%m-%d %H:%M} UTC, {each.failures} attempts long"
        for each in failing
        if each.is_given_up(now=now)
    }


def _disable(key: EndpointKey, last: Attempted, reason: str, now: datetime) -> Draft:
    log.error("webhook endpoint disabled", app=key.app, endpoint=key.id, reason=reason)
    return Draft(
        payload=WebhookEndpointDisabled(key.id, reason, ACTOR),
        app=key.app,
        subject=webhook_endpoint_subject(app=key.app, endpoint_id=key.id),
        user_id=None,
        occurred_at=now,
        trace_id=last.delivery.event.trace_id,
        causation_id=last.delivery.event.id,
    )


def _say(attempted: Attempted, verdict: Verdict) -> None:
    """Logs what an operator may want to know; never the URL, which may hold a secret."""
    key = attempted.delivery.key
    if verdict.state == "delivered":
        log.debug("webhook taken", app=key.app, endpoint=key.endpoint_id, event_id=str(key.event_id))
        return
    say = log.warning if verdict.state == "waiting" else log.error
    say(
        "webhook not taken",
        app=key.app,
        endpoint=key.endpoint_id,
        event_id=str(key.event_id),
        attempt=attempted.delivery.number,
        state=verdict.state,
        reason=verdict.reason,
    )
