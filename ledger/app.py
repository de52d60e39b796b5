"""The only wiring of the ledger: the worker that posts, the scheduler, and the internal API that reads and is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from flask import Flask
from sqlalchemy import Connection, Engine

from ledger import api, tasks
from ledger.desk import Desk
from ledger.domain.audit import Report
from ledger.domain.books import TransactionKey
from ledger.domain.entitlements import Holder
from ledger.domain.subscriptions import SubscriptionKey
from ledger.handlers import refund_requests
from ledger.handlers.auditing import Observe, audit
from ledger.handlers.entitlements import end_entitlements
from ledger.handlers.expiring import EXPIRED_AT_ONCE_MAX, expire_holds
from ledger.handlers.subscriptions import lapse_subscriptions
from ledger.schedule import auditing, expiring, forgetting
from ledger.settings import LedgerApiSettings, LedgerSchedulerSettings, LedgerSettings
from ledger.store import (
    PostgresAnswers,
    PostgresAudits,
    PostgresCommissions,
    PostgresEntitlements,
    PostgresEvidence,
    PostgresRefundRequests,
    PostgresSubscriptions,
    Run,
    audits_alone,
)
from ledger.tables import books_on, tables_on
from shared import tracing
from shared.apps import Apps
from shared.bus import journal
from shared.bus.heartbeat import Heartbeat
from shared.bus.routes import LEDGER
from shared.bus.wake import Waker
from shared.bus.worker import serve_consumer
from shared.clock import Clock, SystemClock
from shared.database import INTERACTIVE_LOCK_TIMEOUT_S, INTERACTIVE_TIMEOUT_S, connect_engine, transact
from shared.http import install_conventions
from shared.ids import IdSource, system_ids
from shared.log import configure_logging
from shared.metrics.serving import serve_metrics
from shared.schedule import Job, Schedule, run_until_told
from shared.settings import checked_apps, checked_catalog, read

ROLE = "purser_ledger"
SCHEDULER = "ledger-scheduler"
SCHEDULER_CONNECTIONS = 7
"""One for each of its jobs, and one to wake the courier."""
FORGOTTEN_AT_ONCE_MAX = 1_000
TOLD_AFTER = timedelta(seconds=20)
"""So long after its time the end of a subscription's period, and of what it gave, is told: the word of its renewal may
be on its way, and nobody is to hear of an end that was none. Whoever asks is told at once."""
API_CONNECTIONS = 8
"""Of one API process. What is asked for at once is done together, so fewer than it has threads are enough."""

T = TypeVar("T")


def run_worker() -> None:
    """Posts what the store says until it is told to stop."""
    settings = read(LedgerSettings)
    ids = system_ids()
    handling = tasks.postings(
        tables_on=tables_on(ids),
        catalog=checked_catalog(settings),
        apps=checked_apps(settings, production=settings.production),
        ids=ids,
        clock=SystemClock(),
    )
    engine = connect_engine(settings.database_url.get_secret_value(), role=ROLE, pool_size=4, application_name=LEDGER)
    serve_consumer(LEDGER, handling, engine=engine, settings=settings, threads=2)


# ---- what the ledger does by itself ------------------------------------------------------------------------------


def run_scheduler() -> None:
    """Ends what is over, audits and forgets until SIGTERM or SIGINT."""
    settings = read(LedgerSchedulerSettings)
    configure_logging(service=SCHEDULER, level=settings.log_level)
    tracing.start(service=SCHEDULER, settings=settings)
    url = settings.database_url.get_secret_value()
    engine = connect_engine(url, role=ROLE, pool_size=SCHEDULER_CONNECTIONS, application_name=SCHEDULER)
    apps = checked_apps(settings, production=settings.production)
    serve_metrics(settings)
    jobs = scheduled_jobs(settings, engine=engine, apps=apps, ids=system_ids(), clock=SystemClock())
    run_until_told(Schedule(jobs, heartbeat=Heartbeat(settings.heartbeat_file)))


def scheduled_jobs(
    settings: LedgerSchedulerSettings, *, engine: Engine, apps: Apps, ids: IdSource, clock: Clock
) -> list[Job]:
    """What is done, and how often."""
    run = partial(transact, engine)
    audits, waker = PostgresAudits(run), Waker(engine)

    def ending(
        name: str,
        due_on: Callable[[Connection], Callable[..., Sequence[Any]]],
        end: Callable[..., int],
        *,
        after: timedelta = timedelta(0),
    ) -> Job:
        def oldest(besides: int) -> Sequence[Any]:
            limit = EXPIRED_AT_ONCE_MAX + besides
            return run(lambda connection: due_on(connection)(now=clock.now() - after, limit=limit))

        def end_all(due: Sequence[Any]) -> int:
            count: int = run(lambda connection: end(connection, ids=ids, clock=clock, due=due))
            waker.poke()
            return count

        return expiring(name, due=oldest, end=end_all)

    def forget_some() -> int:
        before = clock.now() - timedelta(days=settings.answers_kept_days)
        return run(lambda connection: PostgresAnswers(connection).forget(before=before, limit=FORGOTTEN_AT_ONCE_MAX))

    jobs = [
        ending("expire-holds", lambda on: PostgresCommissions(on).due_holds, partial(expire_holds_on, apps=apps)),
        ending("expire-requests", lambda on: PostgresRefundRequests(on).due, partial(expire_requests_on, apps=apps)),
        ending(
            "lapse-subscriptions",
            lambda on: PostgresSubscriptions(on).due,
            lapse_subscriptions_on,
            after=TOLD_AFTER,
        ),
        ending(
            "end-entitlements",
            lambda on: PostgresEntitlements(on).due,
            end_entitlements_on,
            after=TOLD_AFTER,
        ),
        forgetting(forget_some, audits=audits, clock=clock),
    ]
    if settings.audit_interval_s:
        interval = timedelta(seconds=settings.audit_interval_s)
        alone = partial(audits_alone, engine)
        evidence = PostgresEvidence(run)
        jobs.append(auditing(evidence=evidence, audits=audits, alone=alone, interval=interval, clock=clock))
    return jobs


def expire_requests_on(
    connection: Connection, *, apps: Apps, ids: IdSource, clock: Clock, due: Sequence[TransactionKey] | None = None
) -> int:
    """Ends some of the requests for refunds whose time is over; how many."""
    expired = refund_requests.expire_requests(
        books=books_on(connection, ids),
        requests=PostgresRefundRequests(connection),
        commissions=PostgresCommissions(connection),
        apps=apps,
        new_id=ids.event_id,
        new_trace=ids.trace_id,
        now=clock.now(),
        due=due,
    )
    journal.append(connection, expired.drafts, ids=ids)
    return expired.count


def expire_holds_on(
    connection: Connection, *, apps: Apps, ids: IdSource, clock: Clock, due: Sequence[UUID] | None = None
) -> int:
    """Ends some of the holds whose time is over; how many."""
    expired = expire_holds(
        books=books_on(connection, ids),
        commissions=PostgresCommissions(connection),
        apps=apps,
        new_id=ids.event_id,
        new_trace=ids.trace_id,
        now=clock.now(),
        due=due,
    )
    journal.append(connection, expired.drafts, ids=ids)
    return expired.count


def lapse_subscriptions_on(
    connection: Connection, *, ids: IdSource, clock: Clock, due: Sequence[SubscriptionKey]
) -> int:
    """Tells what has become of these subscriptions by time alone; of how many."""
    drafts = lapse_subscriptions(
        due, subscriptions=PostgresSubscriptions(connection), new_trace=ids.trace_id, now=clock.now()
    )
    journal.append(connection, drafts, ids=ids)
    return len(drafts)


def end_entitlements_on(connection: Connection, *, ids: IdSource, clock: Clock, due: Sequence[Holder]) -> int:
    """Ends what these users may use no more, since its time is over; how many entitlements."""
    drafts = end_entitlements(
        due, entitlements=PostgresEntitlements(connection), new_trace=ids.trace_id, now=clock.now()
    )
    journal.append(connection, drafts, ids=ids)
    return len(drafts)


def audit_books(run: Run, *, clock: Clock, since: datetime | None, observe: Observe) -> Report:
    """Audits the books, whoever else does, and keeps the report if it is of all. Raises DatabaseUnavailable."""
    report = audit(
        evidence=PostgresEvidence(run), audits=PostgresAudits(run), clock=clock, since=since, observe=observe
    )
    assert report is not None  # nobody stops it
    return report


# ---- the internal API --------------------------------------------------------------------------------------------


def create_api() -> Flask:
    """The internal API, as a WSGI application."""
    settings = read(LedgerApiSettings)
    configure_logging(service="ledger-api", level=settings.log_level)
    tracing.start(service="ledger-api", settings=settings)
    return build_api(settings, ids=system_ids(), clock=SystemClock())


def build_api(settings: LedgerApiSettings, *, ids: IdSource, clock: Clock) -> Flask:
    """The internal API that the settings describe; ends the process with a sentence when there can be none."""
    engine = connect_engine(
        settings.database_url.get_secret_value(),
        role=ROLE,
        pool_size=API_CONNECTIONS,
        application_name="ledger-api",
        timeout_s=INTERACTIVE_TIMEOUT_S,
        lock_timeout_s=INTERACTIVE_LOCK_TIMEOUT_S,
    )
    catalog, apps = checked_catalog(settings), checked_apps(settings, production=settings.production)
    desk = Desk(engine=engine, catalog=catalog, apps=apps, ids=ids, clock=clock)
    app = Flask(__name__, static_folder=None)
    install_conventions(app, ids=ids)
    app.register_blueprint(
        api.routes(
            queries=api.Queries(
                wallet=desk.wallet,
                entries=desk.entries,
                subscriptions=desk.subscriptions,
                entitlements=desk.entitlements,
                ready=desk.ready,
                metrics=desk.metrics,
            ),
            commands=desk.execute,
            refund_requests=desk,
            apps=apps,
            currencies=catalog.currencies,
            service_token=settings.service_token.get_secret_value(),
        )
    )
    return app
