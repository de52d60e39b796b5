"""Inbound from the clock: sends what is due, each endpoint in a lane of its own.

One thread looks what is due and hands it to the lanes. Each lane has threads of its own, so an endpoint that hangs
holds nothing but its own; what several of them have found out is settled together.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final, Protocol

from sqlalchemy.exc import SQLAlchemyError

from notifier.domain.deliveries import GONE, Answer, Delivery
from notifier.domain.endpoints import EndpointKey
from notifier.domain.lanes import Lane
from notifier.handlers.ports import Poster
from notifier.handlers.sending import Attempted, Unsendable, attempt
from shared import tracing, trail
from shared.apps import WebhookEndpoint
from shared.bus.group_commit import GroupCommit
from shared.bus.heartbeat import Heartbeat
from shared.bus.wake import Sleeper
from shared.clock import Clock
from shared.database import DatabaseUnavailable
from shared.ids import IdSource
from shared.log import get_logger
from shared.metrics.counted import WEBHOOK_ATTEMPT_DURATION, WEBHOOK_ATTEMPTS
from shared.schedule import Stopped
from shared.tracing import Span
from shared.trail import Place

log = get_logger(__name__)

POLL_S: Final = 0.25
"""How often to look without having been woken: a retry that has come due wakes nobody."""
REST_S: Final = 0.02
"""At least so long between two looks: under load the journal grows, and calls end, all the time."""
REST_BUSY_S: Final = 0.005
"""The same while more is due than lanes had room for: it is they who are to set the pace."""
AWAY_S: Final = 1.0
JITTER_MAX: Final = 1.2
SETTLE_WITHIN_S: Final = 35.0
"""More than settling takes when all goes well. What is not settled by then is sent again, by whoever comes first."""

TAKEN_AHEAD: Final = 4
"""So many times what may be called at once is taken at once."""
TURN_WITHIN_S: Final = 10.0
"""What has not had its turn by then is given back. Its lease is longer by all that a call and its settling take."""
THREADS_A_CALL: Final = 4
"""Threads, for each call that may be made at once: most of them settle what they have heard."""

Settle = Callable[[Sequence[Attempted]], None]
Answered = Callable[[Answer | Unsendable], None]
Work = Callable[[WebhookEndpoint, Delivery, Answered], None]


class Record(Protocol):
    """What is due, on record; each call is a transaction of its own, and raises DatabaseUnavailable."""

    def take(
        self, room: Mapping[EndpointKey, tuple[WebhookEndpoint, int]], *, now: datetime, lost_at: datetime
    ) -> Sequence[Delivery]:
        """Takes what is due, so many for each endpoint at most; it is due again at `lost_at`."""
        ...

    def give_back(self, deliveries: Sequence[Delivery], *, now: datetime) -> None:
        """These will not be tried: they are due again, but for those that somebody else has taken by now."""
        ...


class Sender:
    """Sends until it is stopped. Several processes may do so at once; each has lanes of its own."""

    def __init__(
        self,
        *,
        endpoints: Mapping[EndpointKey, WebhookEndpoint],
        record: Record,
        settle: Settle,
        poster: Poster,
        call_within_s: float,
        sleeper: Sleeper,
        heartbeat: Heartbeat,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        """`settle` writes down what attempts came to, in one transaction; `call_within_s` is what a call may take."""
        self._record = record
        self._settling = GroupCommit(_one_each(settle), may_join=_is_of_another_delivery)
        self._poster = poster
        self._lease = timedelta(seconds=TURN_WITHIN_S + call_within_s + SETTLE_WITHIN_S)
        self._sleeper = sleeper
        self._heartbeat = heartbeat
        self._clock = clock
        self._ids = ids
        for key in endpoints:
            for outcome in ("taken", "refused", "unreachable"):
                WEBHOOK_ATTEMPTS.begin(key.app, key.id, outcome)
        self._lanes = {
            key: _LaneThreads(endpoint, self._try, clock=clock, sleeper=sleeper) for key, endpoint in endpoints.items()
        }
        self._rest = threading.Event()  # never set: a pause that needs no clock of its own

    def run(self, stopped: Stopped) -> None:
        """Sends what is due, as it comes due, until it is stopped. A database that is away is waited for."""
        while not stopped():
            try:
                taken = self.send_due()
            except (DatabaseUnavailable, SQLAlchemyError) as error:  # the next look may fare better
                log.warning("what is due cannot be looked up", error=type(error).__name__)
                self._sleeper.wait(AWAY_S)
                continue
            self._heartbeat.beat()
            self._rest.wait(REST_BUSY_S if taken else REST_S)
            self._sleeper.wait(POLL_S)

    def close(self, *, within_s: float) -> None:
        """Gives back what was not begun, and waits for what was. What is not done by then is sent again."""
        deadline_s = self._clock.monotonic() + within_s
        left = [delivery for lane in self._lanes.values() for delivery in lane.empty()]
        try:
            self._record.give_back(left, now=self._clock.now())
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            log.warning("what was not sent is sent later", deliveries=len(left), error=type(error).__name__)
        for lane in self._lanes.values():
            lane.finish(within_s=deadline_s - self._clock.monotonic())

    def send_due(self) -> int:
        """Has what is due tried, as far as the lanes have room; how many. Raises DatabaseUnavailable."""
        now, now_s = self._clock.now(), self._clock.monotonic()
        room = {key: (lane.endpoint, size) for key, lane in self._lanes.items() if (size := lane.room(now_s)) > 0}
        if missed := [delivery for lane in self._lanes.values() for delivery in lane.missed()]:
            self._record.give_back(missed, now=now)
        if not room:
            return 0
        taken = self._record.take(room, now=now, lost_at=now + self._lease)
        for key, deliveries in groupby(sorted(taken, key=_endpoint_name), key=lambda each: each.key.endpoint):
            self._lanes[key].enter(deliveries, now_s=now_s)
        return len(taken)

    def _try(self, endpoint: WebhookEndpoint, delivery: Delivery, answered: Answered) -> None:
        """One attempt, and its settlement. Never raises."""
        with trail.at(Place.of(delivery.event)):
            outcome = self._outcome(endpoint, delivery)
            _count(delivery.key.endpoint, outcome)
            answered(outcome)
            try:
                jitter = self._ids.uniform(1.0, JITTER_MAX)
                self._settling.submit(Attempted(delivery, endpoint, outcome, jitter))
            except Exception as error:  # noqa: BLE001  the thread's edge: it is due again when its lease is over
                log.error("a webhook is not settled", error=type(error).__name__)

    def _outcome(self, endpoint: WebhookEndpoint, delivery: Delivery) -> Answer | Unsendable:
        try:
            with tracing.span("POST webhook", kind="client") as span:
                outcome = attempt(delivery, endpoint=endpoint, poster=self._poster)
                _describe(span, delivery, outcome)
                return outcome
        except Exception as error:  # a bug: it parks this one, and no other
            log.exception("a webhook cannot be sent")
            return Unsendable(f"it cannot be sent: {type(error).__name__}")


class _LaneThreads:
    """One endpoint's lane, and the threads that work in it: started when they are needed, and so many at most.

    More is taken than is called at once, so that a look costs less than a call, and it waits here for its turn. A call
    is over for its lane when it has its answer: what settling then takes is no reason to call less.
    """

    def __init__(self, endpoint: WebhookEndpoint, work: Work, *, clock: Clock, sleeper: Sleeper) -> None:
        self.endpoint = endpoint
        self._work = work
        self._clock = clock
        self._sleeper = sleeper
        self._lane = Lane.of(endpoint.calls_at_once)
        self._changed = threading.Condition()
        self._taken: deque[tuple[Delivery, float]] = deque()
        self._missed: list[Delivery] = []  # their turn
        self._calls: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        self._calling = 0
        self._busy = 0  # threads that call or settle
        self._threads = 0

    def room(self, now_s: float) -> int:
        """How many more deliveries are to be taken now: none, until what waits is less than may be called at once."""
        with self._changed:
            self._go_on()  # a pause may be over, which nobody tells
            at_once = self._lane.room(in_flight=0, now_s=now_s)
            if len(self._taken) >= at_once:
                return 0
            ahead = at_once if self._lane.is_probed else at_once * TAKEN_AHEAD
            return max(0, ahead - self._calling - len(self._taken))

    def enter(self, deliveries: Iterable[Delivery], *, now_s: float) -> None:
        """Has these tried, each when there is room."""
        with self._changed:
            self._taken.extend((delivery, now_s) for delivery in deliveries)
            self._go_on()

    def missed(self) -> list[Delivery]:
        """Takes out what has missed its turn."""
        with self._changed:
            missed, self._missed = self._missed, []
            return missed

    def empty(self) -> list[Delivery]:
        """Takes out what waits for its turn, or has missed it."""
        with self._changed:
            left = [*self._missed, *(delivery for delivery, _ in self._taken)]
            self._missed.clear()
            self._taken.clear()
            return left

    def finish(self, *, within_s: float) -> bool:
        """Waits until nothing is in flight; False when that takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._busy == 0, timeout=max(0.0, within_s))

    def _go_on(self) -> None:
        """Gives what waits to threads, as far as the lane has room. The lock is held."""
        now_s = self._clock.monotonic()
        while self._taken and self._lane.room(in_flight=self._calling, now_s=now_s) and self._has_a_thread():
            delivery, taken_s = self._taken.popleft()
            if now_s - taken_s > TURN_WITHIN_S:  # the endpoint is slow, or has failed meanwhile
                self._missed.append(delivery)
                continue
            self._calling += 1
            self._busy += 1
            self._calls.put(delivery)

    def _has_a_thread(self) -> bool:
        """Whether one is free; one more is started if there may be more."""
        if self._busy < self._threads:
            return True
        if self._threads >= self.endpoint.calls_at_once * THREADS_A_CALL:
            return False
        try:
            threading.Thread(target=self._serve, name=f"to {self.endpoint.id}", daemon=True).start()
        except RuntimeError:  # the system has no more for us: it is tried again with each look
            log.warning("a webhook waits for a thread", endpoint=self.endpoint.id)
            return False
        self._threads += 1
        return True

    def _serve(self) -> None:
        while True:
            self._work(self.endpoint, self._calls.get(), self._answered)
            with self._changed:
                self._busy -= 1
                self._go_on()
                self._changed.notify_all()

    def _answered(self, outcome: Answer | Unsendable) -> None:
        with self._changed:
            self._calling -= 1
            if isinstance(outcome, Answer):
                self._lane = self._lane.heard(outcome, now_s=self._clock.monotonic())
                if outcome.status == GONE:  # nothing more to it: what waits is kept for when it is enabled
                    self._missed.extend(delivery for delivery, _ in self._taken)
                    self._taken.clear()
            self._go_on()
            hungry = len(self._taken) < self._lane.width
        if hungry:
            self._sleeper.interrupt()


def _count(endpoint: EndpointKey, outcome: Answer | Unsendable) -> None:
    """Counts an attempt; what cannot be sent was none."""
    if isinstance(outcome, Answer):
        came_to = "unreachable" if outcome.status is None else "taken" if outcome.error is None else "refused"
        WEBHOOK_ATTEMPTS.add(endpoint.app, endpoint.id, came_to)
        WEBHOOK_ATTEMPT_DURATION.add(outcome.duration_ms / 1000, endpoint.app, endpoint.id)


def _describe(span: Span, delivery: Delivery, outcome: Answer | Unsendable) -> None:
    """Without the URL, which may hold a secret."""
    key = delivery.key
    span.attributes |= {"purser.app": key.app, "purser.endpoint": key.endpoint_id, "purser.attempt": delivery.number}
    span.attributes |= {tracing.EVENT_ID: str(key.event_id), "purser.event_type": delivery.event.type}
    if isinstance(outcome, Unsendable):
        span.error = "unsendable"
    else:
        span.error = outcome.error
        span.attributes |= {} if outcome.status is None else {"http.response.status_code": outcome.status}


def _endpoint_name(delivery: Delivery) -> str:
    return str(delivery.key.endpoint)


def _one_each(settle: Settle) -> Callable[[Sequence[Attempted]], Sequence[None]]:
    """For group commit, which wants a result for each."""

    def write(attempted: Sequence[Attempted]) -> Sequence[None]:
        settle(attempted)
        return [None] * len(attempted)

    return write


def _is_of_another_delivery(attempted: Attempted, others: Sequence[Attempted]) -> bool:
    """A delivery that was taken for lost, and is settled twice after all, is settled once by each transaction."""
    return all(attempted.delivery.key != other.delivery.key for other in others)
