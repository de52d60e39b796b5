"""The only wiring of the notifier: a process that decides who is to hear, one that tells, and one for operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from flask import Flask
from sqlalchemy import Connection, Engine

from notifier import api, tasks
from notifier.desk import Desk
from notifier.domain.addresses import Reach
from notifier.domain.deliveries import Delivery
from notifier.domain.endpoints import EndpointKey, configured_endpoints, endpoint_problems
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
from notifier.store.watching import deliveries_watched
from notifier.webhook.poster import WebhookPoster
from shared import tracing
from shared.apps import Apps, WebhookEndpoint
from shared.bus import journal
from shared.bus.feed import Feed
from shared.bus.heartbeat import Heartbeat
from shared.bus.routes import NOTIFIER
from shared.bus.wake import Sleeper
from shared.bus.worker import look_for_cycles_seldom, serve_consumer
from shared.clock import Clock, SystemClock
from shared.database import INTERACTIVE_TIMEOUT_S, connect_engine, transact
from shared.http import install_conventions
from shared.ids import IdSource, system_ids
from shared.log import configure_logging, get_logger
from shared.metrics.read import DATABASE_UP, Family, ReadAtScrape
from shared.metrics.serving import serve_metrics
from shared.schedule import Job, Schedule, Stopped, run_until_told
from shared.settings import checked_apps, read, refuse

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
