"""The only wiring of the notifier: a process that decides who is to hear, one that tells, and one for operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from flask import Flask
from sqlalchemy import Connection, Engine

from notifier import api, tasks
from notifier.domain.addresses import Reach
from notifier.domain.deliveries import Delivery, DeliveryState
from notifier.domain.desk import (
    DeliveryPage,
    DeliveryPlace,
    DeliveryView,
    EndpointView,
    Replayed,
    Span,
    Stretch,
    Told,
    Trial,
)
from notifier.domain.endpoints import EndpointKey, configured_endpoints, endpoint_problems
from notifier.handlers import desk
from notifier.handlers.desk import DroppedState, Observe
from notifier.handlers.ports import Poster
from notifier.handlers.sending import Attempted, settle
from notifier.sending import Sender
from notifier.settings import (
    EndpointsSettings,
    NotifierApiSettings,
    NotifierSettings,
    PostingSettings,
    WebhooksSettings,
)
from notifier.store.deliveries import Deliveries
from notifier.store.desk import DeskRecords
from notifier.store.watching import deliveries_watched
from notifier.webhook.poster import WebhookPoster
from shared import tracing, trail
from shared.apps import Apps, EndpointId, WebhookEndpoint
from shared.bus import journal
from shared.bus.feed import Feed
from shared.bus.heartbeat import Heartbeat
from shared.bus.routes import NOTIFIER
from shared.bus.wake import Sleeper, Waker
from shared.bus.worker import look_for_cycles_seldom, serve_consumer
from shared.clock import Clock, SystemClock
from shared.database import INTERACTIVE_TIMEOUT_S, connect_engine, transact
from shared.events import Draft
from shared.http import install_conventions
from shared.ids import AppId, EventId, IdSource, system_ids
from shared.log import configure_logging, get_logger
from shared.metrics.read import DATABASE_UP, Family, ReadAtScrape
from shared.metrics.serving import serve_metrics
from shared.schedule import Job, Schedule, Stopped, run_until_told
from shared.settings import checked_apps, read, refuse
from shared.trail import Place, event_span

log = get_logger(__name__)

T = TypeVar("T")

ROLE: Final = "purser_notifier"
WEBHOOKS: Final = "webhooks"
API: Final = "notifier-api"
CONNECTIONS: Final = 8
"""Of the process that sends: one looks what is due, one listens, the others settle."""
API_CONNECTIONS: Final = 9
"""One for each of its threads, and the one that wakes who sends."""
FINISH_WITHIN_S: Final = 10.0
"""What calls that have begun still get when the process is told to stop; less than its supervisor grants it."""
FORGET_EVERY_S: Final = 600.0
FORGOTTEN_AT_ONCE_MAX: Final = 1_000


def run_worker() -> None:
    """Queues outward events for the endpoints that want them until it is told to stop."""
    settings = read(NotifierSettings)
    handlers = tasks.queueing(
        deliveries_on=Deliveries, feed_on=Feed, apps=apps_with_endpoints(settings), clock=SystemClock()
    )
    engine = connect_engine(settings.database_url.get_secret_value(), role=ROLE, pool_size=4, application_name=NOTIFIER)
    serve_consumer(NOTIFIER, handlers, engine=engine, settings=settings, threads=2)


def run_webhooks_worker() -> None:
    """Tells the endpoints until it is told to stop."""
    settings = read(WebhooksSettings)
    configure_logging(service=WEBHOOKS, level=settings.log_level)
    tracing.start(service=WEBHOOKS, settings=settings)
    look_for_cycles_seldom()
    clock, ids = SystemClock(), system_ids()
    engine = connect_engine(
        settings.database_url.get_secret_value(), role=ROLE, pool_size=CONNECTIONS, application_name=WEBHOOKS
    )
    sleeper = Sleeper(engine)
    sender = build_sender(settings, engine=engine, sleeper=sleeper, clock=clock, ids=ids)
    serve_metrics(settings, ReadAtScrape(watching(settings, engine=engine, clock=clock), up=DATABASE_UP, clock=clock))
    jobs = [
        Job("send", every_s=0.0, work=sender.run),
        forgetting(engine, kept=timedelta(days=settings.webhook_kept_days), clock=clock),
    ]
    run_until_told(Schedule(jobs, heartbeat=Heartbeat(None)))  # the sender beats by itself
    sender.close(within_s=FINISH_WITHIN_S)
    sleeper.close()
    engine.dispose()


def build_sender(
    settings: WebhooksSettings, *, engine: Engine, sleeper: Sleeper, clock: Clock, ids: IdSource
) -> Sender:
    """The sender that the settings describe; ends the process with a sentence when there can be none."""
    return Sender(
        endpoints=configured_endpoints(apps_with_endpoints(settings)),
        record=Record(engine),
        settle=settling(engine, clock=clock, ids=ids),
        poster=webhook_poster(settings, clock=clock),
        call_within_s=settings.webhook_timeout_s,
        sleeper=sleeper,
        heartbeat=Heartbeat(settings.heartbeat_file),
        clock=clock,
        ids=ids,
    )


def watching(settings: EndpointsSettings, *, engine: Engine, clock: Clock) -> Callable[[], list[Family]]:
    """What the configured endpoints have not taken, as it is told at the scrape."""
    endpoints = list(configured_endpoints(apps_with_endpoints(settings)))
    return lambda: transact(engine, lambda connection: deliveries_watched(connection, endpoints, now=clock.now()))


def webhook_poster(settings: PostingSettings, *, clock: Clock) -> WebhookPoster:
    """Who calls the endpoints, within the settings' limits."""
    return WebhookPoster(
        clock=clock,
        connect_timeout_s=settings.webhook_connect_timeout_s,
        timeout_s=settings.webhook_timeout_s,
        reach=Reach.of(production=settings.production, allowed_networks=settings.allowed_networks()),
    )


class Record:
    """As notifier.sending.Record: each call in a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def take(
        self, room: Mapping[EndpointKey, tuple[WebhookEndpoint, int]], *, now: datetime, lost_at: datetime
    ) -> list[Delivery]:
        return transact(self._engine, lambda connection: Deliveries(connection).take(room, now=now, lost_at=lost_at))

    def give_back(self, deliveries: Sequence[Delivery], *, now: datetime) -> None:
        transact(self._engine, lambda connection: Deliveries(connection).give_back(deliveries, now=now))


def settling(engine: Engine, *, clock: Clock, ids: IdSource) -> Callable[[Sequence[Attempted]], None]:
    """Writes down what attempts came to, and tells the journal, in one transaction."""

    def write(attempted: Sequence[Attempted]) -> None:
        def on(connection: Connection) -> None:
            drafts = settle(attempted, deliveries=Deliveries(connection), now=clock.now())
            journal.append(connection, drafts, ids=ids)

        transact(engine, on)

    return write


def forgetting(engine: Engine, *, kept: timedelta, clock: Clock) -> Job:
    """What has been on record for long enough is removed, a little at a time."""

    def forget(stopped: Stopped) -> None:
        before = clock.now() - kept
        for endpoint in transact(engine, lambda connection: Deliveries(connection).endpoints()):
            while not stopped() and _forget_some(engine, endpoint, before) == FORGOTTEN_AT_ONCE_MAX:
                pass

    return Job("forget-deliveries", every_s=FORGET_EVERY_S, work=forget)


def _forget_some(engine: Engine, endpoint: EndpointKey, before: datetime) -> int:
    return transact(
        engine,
        lambda connection: Deliveries(connection).forget(endpoint, before=before, limit=FORGOTTEN_AT_ONCE_MAX),
    )


def apps_with_endpoints(settings: EndpointsSettings) -> Apps:
    """The apps; ends the process with a sentence for each thing that is wrong with them or their webhooks."""
    apps = checked_apps(settings, production=settings.production)
    allowed_networks = settings.allowed_networks()
    if problems := endpoint_problems(apps, production=settings.production, allowed_networks=allowed_networks):
        refuse(*(f"PURSER_APPS_FILE: {settings.apps_file}: {problem}" for problem in problems))
    return apps


# ---- the internal API --------------------------------------------------------------------------------------------


def create_api() -> Flask:
    """The internal API, as a WSGI application."""
    settings = read(NotifierApiSettings)
    configure_logging(service=API, level=settings.log_level)
    tracing.start(service=API, settings=settings)
    return build_api(settings, clock=SystemClock(), ids=system_ids())


def build_api(settings: NotifierApiSettings, *, clock: Clock, ids: IdSource) -> Flask:
    """The internal API that the settings describe; ends the process with a sentence when there can be none."""
    engine = connect_engine(
        settings.database_url.get_secret_value(),
        role=ROLE,
        pool_size=API_CONNECTIONS,
        application_name=API,
        timeout_s=INTERACTIVE_TIMEOUT_S,
    )
    apps = apps_with_endpoints(settings)
    operators = Desk(engine=engine, apps=apps, poster=webhook_poster(settings, clock=clock), clock=clock, ids=ids)
    app = Flask(__name__, static_folder=None)
    install_conventions(app, ids=ids)
    app.register_blueprint(
        api.routes(desk=operators, apps=apps, service_token=settings.service_token.get_secret_value())
    )
    return app


# ---- the operator's desk -----------------------------------------------------------------------------------------


class Desk:
    """What an operator sees and does, each in a transaction of one database; all of it one app's. Thread-safe.

    Every method but `test` raises DatabaseUnavailable; those that name an endpoint or an event raise EndpointUnknown or
    DeliveryUnknown (notifier.handlers.desk). `actor` is who does it: `operator`, or `server:<key id>`.
    """

    def __init__(self, *, engine: Engine, apps: Apps, poster: Poster, clock: Clock, ids: IdSource) -> None:
        self._engine = engine
        self._apps = apps
        self._poster = poster
        self._clock = clock
        self._ids = ids
        self._waker = Waker(engine)

    def close(self) -> None:
        """Ends what wakes the sender."""
        self._waker.close()

    def endpoints(self, app: AppId) -> list[EndpointView]:
        """All endpoints of the app, by id."""
        return self._on(app, lambda records: desk.read_endpoints(records=records, apps=self._apps, app=app))

    def deliveries(
        self,
        app: AppId,
        *,
        endpoint: EndpointId | None = None,
        state: DeliveryState | None = None,
        after: DeliveryPlace | None = None,
        limit: int,
    ) -> DeliveryPage:
        """A page of at most `limit` deliveries (1 to PAGE_MAX), the newest event first."""
        return self._on(
            app,
            lambda records: desk.read_deliveries(
                records=records, apps=self._apps, app=app, endpoint=endpoint, state=state, after=after, limit=limit
            ),
        )

    def delivery(self, app: AppId, event_id: EventId) -> Told:
        """An outward event, with every attempt to tell it."""
        return self._on(app, lambda records: desk.read_delivery(records=records, event_id=event_id))

    def resend(self, app: AppId, event_id: EventId, *, endpoint: EndpointId | None, actor: str) -> int:
        """Has the event told once more, to one endpoint or to all that were to hear of it; to how many."""
        queued = self._on(
            app,
            lambda records: desk.resend(
                records=records,
                apps=self._apps,
                app=app,
                event_id=event_id,
                endpoint=endpoint,
                now=self._clock.now(),
            ),
        )
        self._waker.poke()
        log.info("a webhook is sent again", app=app, event_id=str(event_id), endpoint=endpoint, actor=actor)
        return queued

    def replay(
        self,
        app: AppId,
        endpoint: EndpointId,
        *,
        since: datetime,
        until: datetime | None = None,
        delivered: bool = False,
        actor: str,
        limit: int | None = None,
        observe: Observe = desk.unobserved,
    ) -> Replayed:
        """Has the endpoint told of all that it wants of that time and has not taken; with `delivered`, of all.

        In many short transactions, and harmless when done again: what was queued before one fails stays so.
        """
        asked = desk.Replay(app, endpoint, since, until or self._clock.now(), delivered)

        def stretch(span: Span) -> Stretch:
            done = self._on(
                app,
                lambda records: desk.replay_stretch(
                    span, asked=asked, records=records, apps=self._apps, now=self._clock.now()
                ),
            )
            self._waker.poke()
            return done

        done = desk.replay(asked, stretch=stretch, limit=limit, observe=observe)
        log.info("webhooks are replayed", app=app, endpoint=endpoint, queued=done.queued, actor=actor)
        return done

    def test(self, app: AppId, endpoint: EndpointId) -> Trial:
        """Posts a message that tells nothing, now; nothing of it is recorded."""
        id = self._ids.event_id()
        here = trail.place() or Place(self._ids.trace_id(), event_span(id))  # nobody's request, on the command line
        with trail.at(here), tracing.span("POST webhook", kind="client"):
            return desk.try_endpoint(
                poster=self._poster, apps=self._apps, app=app, endpoint=endpoint, id=id, now=self._clock.now()
            )

    def disable(
        self, app: AppId, endpoint: EndpointId, *, reason: str, actor: str, trace_id: str | None = None
    ) -> EndpointView:
        """Keeps what is to be told to the endpoint waiting; how it stands then."""
        asked = desk.Switching(app, endpoint, actor, trace_id or self._ids.trace_id())
        return self._switch(
            asked,
            lambda records: desk.disable(asked, records=records, apps=self._apps, reason=reason, now=self._clock.now()),
        )

    def enable(self, app: AppId, endpoint: EndpointId, *, actor: str, trace_id: str | None = None) -> EndpointView:
        """Has the endpoint told again, first of all of what it has missed; how it stands then.

        What waits for its next attempt is due now, also where the endpoint was not disabled.
        """
        asked = desk.Switching(app, endpoint, actor, trace_id or self._ids.trace_id())
        view = self._switch(
            asked, lambda records: desk.enable(asked, records=records, apps=self._apps, now=self._clock.now())
        )
        while self._make_some_due(app, endpoint) == desk.AT_ONCE_MAX:
            pass
        self._waker.poke()
        return view

    def drop(self, app: AppId, endpoint: EndpointId, *, states: Sequence[DroppedState], actor: str) -> int:
        """Gives up what the endpoint has not taken, as it stands; how many. Raises DropRefused (see `drop_some`).

        In many short transactions, and harmless when done again: what was dropped before one fails stays so.
        """
        self._on(app, lambda records: desk.read_endpoint(records=records, apps=self._apps, app=app, endpoint=endpoint))
        # what waits comes first: when it is refused, nothing is dropped
        dropped = sum(
            self._drop_all(app, endpoint, state=state)
            for state in sorted(set(states), key=lambda state: state != "waiting")
        )
        log.info("webhooks are dropped", app=app, endpoint=endpoint, states=states, dropped=dropped, actor=actor)
        return dropped

    def ready(self) -> None:
        """Whether the database answers."""
        transact(self._engine, lambda connection: connection.exec_driver_sql("select 1"))

    def _make_some_due(self, app: AppId, endpoint: EndpointId) -> int:
        """In a transaction of its own, so that many hold nothing for long."""
        now = self._clock.now()
        return self._on(app, lambda records: records.make_due(endpoint, now=now, limit=desk.AT_ONCE_MAX))

    def _drop_all(self, app: AppId, endpoint: EndpointId, *, state: DroppedState) -> int:
        """Each stretch in a transaction of its own, likewise."""
        dropped = 0
        while some := self._drop_some(app, endpoint, state=state):
            dropped += some
        return dropped

    def _drop_some(self, app: AppId, endpoint: EndpointId, *, state: DroppedState) -> int:
        return self._on(
            app,
            lambda records: desk.drop_some(
                records=records, apps=self._apps, app=app, endpoint=endpoint, state=state, limit=desk.AT_ONCE_MAX
            ),
        )

    def _switch(self, asked: desk.Switching, switch: Callable[[DeskRecords], Sequence[Draft]]) -> EndpointView:
        def work(connection: Connection) -> EndpointView:
            records = DeskRecords(connection, asked.app)
            journal.append(connection, switch(records), ids=self._ids)
            return desk.read_endpoint(records=records, apps=self._apps, app=asked.app, endpoint=asked.endpoint)

        view = transact(self._engine, work)
        self._waker.poke()
        return view

    def _on(self, app: AppId, work: Callable[[DeskRecords], T]) -> T:
        return transact(self._engine, lambda connection: work(DeskRecords(connection, app)))


def undelivered(connection: Connection, app: AppId, event_ids: Sequence[EventId]) -> list[DeliveryView]:
    """What an app's endpoints have not taken of these events: it waits, or was given up."""
    found = DeskRecords(connection, app).of_events(event_ids)
    return [delivery for delivery in found if delivery.state != "delivered"]


def endpoints_of(connection: Connection, apps: Apps, app: AppId) -> list[EndpointView]:
    """All endpoints of an app, by id."""
    return desk.read_endpoints(records=DeskRecords(connection, app), apps=apps, app=app)
