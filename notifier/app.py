"""The only wiring of the notifier: two processes, one that decides who is to hear, one that tells."""

from __future__ import annotations

from notifier import tasks
from notifier.domain import endpoint_problems
from notifier.settings import NotifierSettings
from notifier.store import Deliveries, Records
from notifier.webhook import CALLS_MAX, WebhookPoster
from shared.apps import Apps
from shared.bus.routes import NOTIFIER, WEBHOOKS
from shared.bus.worker import serve_consumer
from shared.clock import SystemClock
from shared.database import connect_engine
from shared.ids import system_ids
from shared.settings import checked_apps, read, refuse

ROLE = "purser_notifier"


def run_worker() -> None:
    """Queues outward events for the endpoints that want them until it is told to stop."""
    settings = read(NotifierSettings)
    handlers = tasks.queueing(deliveries_on=Deliveries, apps=apps_with_endpoints(settings), clock=SystemClock())
    engine = connect_engine(settings.database_url.get_secret_value(), role=ROLE, pool_size=4, application_name=NOTIFIER)
    serve_consumer(NOTIFIER, handlers, engine=engine, settings=settings, threads=2)


def run_webhooks_worker() -> None:
    """Tells the endpoints until it is told to stop."""
    settings = read(NotifierSettings)
    clock = SystemClock()
    engine = connect_engine(
        settings.database_url.get_secret_value(), role=ROLE, pool_size=16, application_name=WEBHOOKS
    )
    handlers = tasks.telling(
        deliveries_on=Deliveries,
        records=Records(engine),
        poster=WebhookPoster(
            clock=clock, connect_timeout_s=settings.webhook_connect_timeout_s, timeout_s=settings.webhook_timeout_s
        ),
        apps=apps_with_endpoints(settings),
        clock=clock,
        ids=system_ids(),
    )
    serve_consumer(WEBHOOKS, handlers, engine=engine, settings=settings, threads=16, outside_calls=CALLS_MAX)


def apps_with_endpoints(settings: NotifierSettings) -> Apps:
    """The apps; ends the process with a sentence for each thing that is wrong with them or their webhooks."""
    apps = checked_apps(settings, production=settings.production)
    if problems := endpoint_problems(apps, production=settings.production):
        refuse(*(f"PURSER_APPS_FILE: {settings.apps_file}: {problem}" for problem in problems))
    return apps
