"""The wiring, and the two workers' entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, Engine

from notifier import handlers
from notifier.domain import endpoint_problems
from notifier.settings import NotifierSettings
from notifier.store import Deliveries, Records
from notifier.tasks import outward_handlers, webhook_handlers
from notifier.webhook import WebhookPoster
from shared.apps import Apps, AppsInvalid, load_apps
from shared.bus.consumer import ConsumerRuntime, InBatches, OneByOne
from shared.bus.routes import CONSUMERS, NOTIFIER, WEBHOOKS
from shared.bus.wake import Waker
from shared.bus.worker import serve_consumer
from shared.clock import Clock, SystemClock
from shared.database import connect_engine
from shared.events import Event, WebhookQueued
from shared.ids import IdSource, system_ids
from shared.outcome import Handled
from shared.settings import EXAMPLE_SECRETS, read, refuse

ROLE: Final = "purser_notifier"
NOTIFIER_THREADS: Final = 2
WEBHOOKS_THREADS: Final = 16
"""Messages at once; each spreads its ids over the process's pool of calls outside."""
JITTER_MAX: Final = 1.2


def notifier_runtime(*, engine: Engine, apps: Apps, clock: Clock, ids: IdSource, waker: Waker) -> ConsumerRuntime:
    """Outward events become deliveries."""
    handling = queueing(apps=apps, clock=clock)
    return ConsumerRuntime(consumer=CONSUMERS[NOTIFIER], handlers=handling, engine=engine, waker=waker, ids=ids)


def webhooks_runtime(
    *, engine: Engine, apps: Apps, poster: handlers.Poster, clock: Clock, ids: IdSource, waker: Waker
) -> ConsumerRuntime:
    """Deliveries become attempts."""
    handling = telling(engine=engine, apps=apps, poster=poster, clock=clock, ids=ids)
    return ConsumerRuntime(consumer=CONSUMERS[WEBHOOKS], handlers=handling, engine=engine, waker=waker, ids=ids)


def queueing(*, apps: Apps, clock: Clock) -> Mapping[str, InBatches | OneByOne[Any]]:
    """What the first worker does with each type of event."""
    return outward_handlers(
        lambda connection, events: handlers.queue_deliveries(
            events, apps=apps, deliveries=Deliveries(connection), now=clock.now()
        )
    )


def telling(
    *, engine: Engine, apps: Apps, poster: handlers.Poster, clock: Clock, ids: IdSource
) -> Mapping[str, InBatches | OneByOne[Any]]:
    """What the second worker does with each type of event."""
    records = Records(engine)

    def attempt(queued: Event[WebhookQueued], _failures: int) -> handlers.Attempted | handlers.Held:
        return handlers.attempt(queued, apps=apps, records=records, poster=poster)

    def settle(connection: Connection, queued: Event[Any], fact: handlers.Attempted | handlers.Held) -> Handled:
        return handlers.settle(
            queued, fact, deliveries=Deliveries(connection), jitter=ids.uniform(1.0, JITTER_MAX), now=clock.now()
        )

    return webhook_handlers(attempt, settle)


def run_worker() -> None:
    """The worker that puts deliveries down, until it is told to stop."""
    settings, apps = configuration()
    engine = _engine(settings, pool_size=NOTIFIER_THREADS + 1, name="purser-notifier")
    handling = queueing(apps=apps, clock=SystemClock())
    serve_consumer(NOTIFIER, handling, engine=engine, settings=settings, threads=NOTIFIER_THREADS)


def run_webhooks_worker() -> None:
    """The worker that makes the attempts, until it is told to stop."""
    settings, apps = configuration()
    clock, ids = SystemClock(), system_ids()
    engine = _engine(settings, pool_size=WEBHOOKS_THREADS + 1, name="purser-webhooks")
    poster = WebhookPoster(
        clock=clock, connect_timeout_s=settings.webhook_connect_timeout_s, timeout_s=settings.webhook_timeout_s
    )
    handling = telling(engine=engine, apps=apps, poster=poster, clock=clock, ids=ids)
    serve_consumer(WEBHOOKS, handling, engine=engine, settings=settings, threads=WEBHOOKS_THREADS)


def configuration() -> tuple[NotifierSettings, Apps]:
    """Settings and apps; ends the process with a sentence for each thing that is wrong with them."""
    settings = read(NotifierSettings)
    try:
        apps = load_apps(settings.apps_file)
    except AppsInvalid as error:
        refuse(f"PURSER_APPS_FILE: {error}")
    problems = endpoint_problems(apps, production=settings.production, example_secrets=EXAMPLE_SECRETS)
    if problems:
        refuse(*(f"PURSER_APPS_FILE: {problem}" for problem in problems))
    return settings, apps


def _engine(settings: NotifierSettings, *, pool_size: int, name: str) -> Engine:
    # One connection more than threads: the waker's.
    return connect_engine(
        settings.database_url.get_secret_value(), role=ROLE, pool_size=pool_size, application_name=name
    )
