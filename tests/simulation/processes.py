"""The services' processes as their app.py wires them, on simulated outsides. Each can die, and begins anew without
anything that it had in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import patch

import ledger.app
import ledger.desk
from gateway.store.feed import PostgresFeed
from gateway.store.journal import PostgresJournal
from ledger import tasks as ledger_tasks
from ledger.settings import LedgerSchedulerSettings
from ledger.tables import tables_on
from notifier import tasks as notifier_tasks
from notifier.app import Record, settling
from notifier.domain.deliveries import Answer, Delivery, Message
from notifier.domain.endpoints import configured_endpoints
from notifier.handlers.sending import Attempted, attempt
from notifier.sending import JITTER_MAX, SETTLE_WITHIN_S, TURN_WITHIN_S
from notifier.store.deliveries import Deliveries
from shared.apps import Apps, WebhookEndpoint
from shared.bus import worker
from shared.bus.consumer import SHORT_RETRY_MAX_S, ConsumerRuntime, InBatches, OneByOne
from shared.bus.courier import Courier, Publisher
from shared.bus.feed import Feed
from shared.bus.heartbeat import Heartbeat
from shared.bus.routes import CONSUMERS, LEDGER, NOTIFIER, VERIFIER, VERIFIER_LOOKUPS, VERIFIER_STORE, ConsumerName
from shared.bus.wake import Sleeper, Waker
from shared.catalog import Catalog
from shared.clock import Clock
from shared.ids import EventId, IdSource
from shared.jws import JwsVerifier
from shared.schedule import Job
from tests.simulation.apple import SimulatedAppStore
from tests.simulation.bus import Letter, SimulatedBus
from tests.simulation.database import Crash, SimulatedDatabase
from tests.simulation.luck import Luck
from verifier import tasks as verifier_tasks
from verifier.store import PostgresRecords

CALL_WITHIN_S: Final = 10.0
AT_ONCE: Final = 50
"""Deliveries that the webhooks' process takes at once: all that there are, so that no order of theirs matters."""
SAVED: Final = LedgerSchedulerSettings.model_construct(answers_kept_days=30, audit_interval_s=0)
ROLES: Final[Mapping[ConsumerName, str]] = {
    VERIFIER: "purser_verifier",
    VERIFIER_STORE: "purser_verifier",
    VERIFIER_LOOKUPS: "purser_verifier",
    LEDGER: "purser_ledger",
    NOTIFIER: "purser_notifier",
}


@dataclass(frozen=True, slots=True)
class Outside:
    """What the processes of one run have in common."""

    database: SimulatedDatabase
    store: SimulatedAppStore
    signatures: JwsVerifier
    bus: SimulatedBus
    luck: Luck
    clock: Clock
    ids: IdSource
    apps: Apps
    catalog: Catalog


class SimulatedWaker(Waker):
    """Wakes the courier at once, without a thread: that would be no part of the story."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def poke(self) -> None:
        self._wake()


class Processes:
    """All of them. `restart` is what a crash, or an operator, does to one."""

    def __init__(self, outside: Outside, *, waker: Waker) -> None:
        self._outside = outside
        self._waker = waker
        self._begin: dict[str, Callable[[], None]] = {
            "gateway": self._begin_gateway,
            "courier": self._begin_courier,
            "ledger-api": self._begin_ledger_api,
            "ledger-scheduler": self._begin_ledger_scheduler,
            "webhooks": self._begin_webhooks,
            **{str(name): lambda name=name: self._begin_worker(name) for name in CONSUMERS},  # type: ignore[misc]
        }
        self.workers: dict[ConsumerName, Worker] = {}
        for begin in self._begin.values():
            begin()

    @property
    def names(self) -> Sequence[str]:
        return list(self._begin)

    def restart(self, name: str) -> None:
        self._begin[name]()

    # ---- as each app.py does it -----------------------------------------------------------------------------------

    def _begin_gateway(self) -> None:
        engine = self._outside.database.engine("purser_gateway")
        self.journal = PostgresJournal(engine=engine, waker=self._waker, ids=self._outside.ids)
        self.feed = PostgresFeed(engine=engine)

    def _begin_courier(self) -> None:
        out = self._outside
        self.courier = Courier(
            engine=out.database.engine("purser_courier"),
            publisher=cast("Publisher", out.bus),
            sleeper=cast("Sleeper", None),  # for `run`; here somebody else says when
            clock=out.clock,
            consumers=CONSUMERS,
            heartbeat=Heartbeat(None),
        )

    def _begin_ledger_api(self) -> None:
        out = self._outside
        with patch.object(ledger.desk, "Waker", lambda _: self._waker):
            self.ledger = ledger.desk.Desk(
                engine=out.database.engine(ledger.app.ROLE),
                catalog=out.catalog,
                apps=out.apps,
                ids=out.ids,
                clock=out.clock,
            )

    def _begin_ledger_scheduler(self) -> None:
        out = self._outside
        with patch.object(ledger.app, "Waker", lambda _: self._waker):
            jobs = ledger.app.scheduled_jobs(
                SAVED, engine=out.database.engine(ledger.app.ROLE), apps=out.apps, ids=out.ids, clock=out.clock
            )
        self.jobs: list[Job] = [job for job in jobs if job.name != "forget"]

    def _begin_webhooks(self) -> None:
        self.webhooks = Webhooks(self._outside)

    def _begin_worker(self, name: ConsumerName) -> None:
        out = self._outside
        runtime = ConsumerRuntime(
            consumer=CONSUMERS[name],
            handlers=self._handlers(name),
            engine=out.database.engine(ROLES[name]),
            waker=self._waker,
            ids=out.ids,
        )
        self.workers[name] = Worker(runtime, out.bus)

    def _handlers(self, name: ConsumerName) -> Mapping[str, InBatches | OneByOne[Any]]:
        out = self._outside
        checking: dict[str, Any] = {
            "records_on": PostgresRecords,
            "signatures": out.signatures,
            "apps": out.apps,
            "catalog": out.catalog,
            "clock": out.clock,
        }
        if name == VERIFIER:
            return verifier_tasks.local_checks(**checking)
        if name == VERIFIER_STORE:
            return verifier_tasks.receipt_checks(receipts=out.store, transactions=out.store, **checking)
        if name == VERIFIER_LOOKUPS:
            return verifier_tasks.lookups(transactions=out.store, **checking)
        if name == LEDGER:
            return ledger_tasks.postings(
                tables_on=tables_on(out.ids),
                catalog=out.catalog,
                apps=out.apps,
                ids=out.ids,
                clock=out.clock,
            )
        return notifier_tasks.queueing(deliveries_on=Deliveries, feed_on=Feed, apps=out.apps, clock=out.clock)


# ---- a worker, without Celery ------------------------------------------------------------------------------------


class Worker:
    """Does what the consumer's Celery tasks do (the same functions); Celery's own part is played by the bus."""

    def __init__(self, runtime: ConsumerRuntime, bus: SimulatedBus) -> None:
        self._bus = bus
        self._tasks = {
            event_type: worker._one_by_one(runtime, event_type, cast("Any", _InTurn()), SHORT_RETRY_MAX_S)
            if isinstance(handler, OneByOne)
            else worker._batch(runtime, event_type)
            for event_type, handler in runtime.handlers.items()
        }

    def handle(self, letter: Letter) -> None:
        """Handles a message to its end; what is to be tried again soon comes as another message, in its time."""
        message = letter.message
        try:
            self._tasks[message.event_type](
                _Task(message.event_type), [str(event_id) for event_id in message.event_ids], message.alone
            )
        except _Again as again:
            self._bus.put(
                type(message)(message.queue, message.event_type, again.event_ids or message.event_ids, again.alone),
                after_s=again.countdown_s,
            )


class _Again(Exception):
    """What Celery's Retry is to the tasks."""

    def __init__(self, event_ids: tuple[EventId, ...], alone: bool, countdown_s: float) -> None:
        super().__init__(countdown_s)
        self.event_ids = event_ids
        self.alone = alone
        self.countdown_s = countdown_s


class _Task:
    """As much of a Celery task as the tasks use of it, on Redis."""

    app = SimpleNamespace(conf=SimpleNamespace(broker_url="redis://"))

    def __init__(self, name: str) -> None:
        self.name = name

    def retry(
        self, *, countdown: float, args: tuple[list[str], bool] | None = None, argsrepr: str | None = None
    ) -> _Again:
        event_ids, alone = args or ([], False)
        return _Again(tuple(worker._parsed(event_ids)), alone, countdown)


class _InTurn:
    """A pool that does all at once, one after the other, in the thread of who asks."""

    def submit(self, work: Callable[..., Any], *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*args, **named))
        return future


# ---- webhooks, without threads -----------------------------------------------------------------------------------


class Webhooks:
    """Takes what is due, posts and settles it, as notifier.sending.Sender does with threads."""

    def __init__(self, outside: Outside) -> None:
        engine = outside.database.engine("purser_notifier")
        self._record = Record(engine)
        self._settle = settling(engine, clock=outside.clock, ids=outside.ids)
        self._endpoints = configured_endpoints(outside.apps)
        self._clock = outside.clock
        self._ids = outside.ids
        self._lease = timedelta(seconds=TURN_WITHIN_S + CALL_WITHIN_S + SETTLE_WITHIN_S)
        self._taken: list[tuple[Delivery, float]] = []

    def take(self) -> None:
        """Takes all that is due; what was taken before and has missed its turn goes back."""
        now, now_s = self._clock.now(), self._clock.monotonic()
        missed = [each for each, taken_s in self._taken if now_s - taken_s > TURN_WITHIN_S]
        self._taken = [(each, taken_s) for each, taken_s in self._taken if now_s - taken_s <= TURN_WITHIN_S]
        self._record.give_back(missed, now=now)
        room = {key: (endpoint, AT_ONCE) for key, endpoint in self._endpoints.items()}
        taken = self._record.take(room, now=now, lost_at=now + self._lease)
        in_order = sorted(taken, key=lambda each: (each.key.event_id, each.key.endpoint_id))
        self._taken += [(delivery, now_s) for delivery in in_order]

    def in_turn(self) -> list[Delivery]:
        """What was taken and is still to be sent, each delivery once, as it was taken last."""
        now_s = self._clock.monotonic()
        return list({each.key: each for each, taken_s in self._taken if now_s - taken_s <= TURN_WITHIN_S}.values())

    def send(self, deliveries: Sequence[Delivery], poster: SimulatedPoster) -> None:
        """Posts them, and settles together what it has found out."""
        self._taken = [(each, taken_s) for each, taken_s in self._taken if each not in deliveries]
        attempted = []
        for delivery in deliveries:
            endpoint = self._endpoints[delivery.key.endpoint]
            outcome = attempt(delivery, endpoint=endpoint, poster=poster)
            attempted.append(Attempted(delivery, endpoint, outcome, self._ids.uniform(1.0, JITTER_MAX)))
        if poster.is_unheard():
            raise Crash("after the post, before it is settled")
        self._settle(attempted)


class SimulatedPoster:
    """The app's backend, and the road to it. `took` is what it has answered well, by endpoint and event."""

    def __init__(self, *, luck: Luck, clock: Clock) -> None:
        self.took: set[tuple[str, str]] = set()
        self._luck = luck
        self._clock = clock

    def post(self, message: Message, *, endpoint: WebhookEndpoint) -> Answer:
        if self._luck.strikes("webhook_refused"):
            status = self._luck.choice((None, 500, 503))
            return Answer(at=self._clock.now(), duration_ms=1, status=status, trouble="timed out")
        self.took.add((endpoint.id, message.id))
        return Answer(at=self._clock.now(), duration_ms=1, status=200)

    def is_unheard(self) -> bool:
        return self._luck.strikes("webhook_unheard")
