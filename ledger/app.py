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
from ledger.api.metrics import metrics_text
from ledger.apple import AppleRefunds
from ledger.domain.audit import Report
from ledger.domain.belongings import EntitlementList, SubscriptionPage, SubscriptionPlace
from ledger.domain.books import TransactionKey, WalletKey
from ledger.domain.commands import Answer, Command
from ledger.domain.entitlements import Holder
from ledger.domain.refund_requests import NotEligible, RefundRequestView
from ledger.domain.statements import EntryPage, WalletStatement
from ledger.domain.subscriptions import SubscriptionKey
from ledger.handlers import commands as executing
from ledger.handlers import reading, refund_requests
from ledger.handlers.auditing import Observe, audit
from ledger.handlers.entitlements import end_entitlements
from ledger.handlers.expiring import EXPIRED_AT_ONCE_MAX, expire_holds
from ledger.handlers.ports import Tables
from ledger.handlers.subscriptions import lapse_subscriptions
from ledger.schedule import auditing, expiring, forgetting
from ledger.settings import LedgerApiSettings, LedgerSchedulerSettings, LedgerSettings
from ledger.store import (
    HOUSE_SHARDS,
    PostgresAnswers,
    PostgresAudits,
    PostgresBelongings,
    PostgresBooks,
    PostgresCommissions,
    PostgresEntitlements,
    PostgresEvidence,
    PostgresRefundRequests,
    PostgresSubscriptions,
    PostgresWallets,
    Run,
    audits_alone,
)
from shared import tracing
from shared.apps import Apps
from shared.bus import journal
from shared.bus.group_commit import GroupCommit
from shared.bus.heartbeat import Heartbeat
from shared.bus.routes import LEDGER
from shared.bus.wake import Waker
from shared.bus.worker import serve_consumer
from shared.catalog import Catalog
from shared.clock import Clock, SystemClock
from shared.database import INTERACTIVE_LOCK_TIMEOUT_S, INTERACTIVE_TIMEOUT_S, connect_engine, transact
from shared.events import Store
from shared.http import install_conventions
from shared.ids import AppId, IdSource, PurchaseId, UserId, system_ids
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


def books_on(connection: Connection, ids: IdSource) -> PostgresBooks:
    """The books on a connection, each time with another of the house's accounts."""
    return PostgresBooks(connection, shard=int(ids.uniform(0, HOUSE_SHARDS)) % HOUSE_SHARDS)


def tables_on(ids: IdSource) -> Callable[[Connection], Tables]:
    """All that the worker's use-case writes, on a connection."""
    return lambda connection: Tables(
        books=books_on(connection, ids),
        requests=PostgresRefundRequests(connection),
        commissions=PostgresCommissions(connection),
        subscriptions=PostgresSubscriptions(connection),
        entitlements=PostgresEntitlements(connection),
    )


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
        def oldest() -> Sequence[Any]:
            return run(lambda connection: due_on(connection)(now=clock.now() - after, limit=EXPIRED_AT_ONCE_MAX))

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


# ---- what users have beside wallets ------------------------------------------------------------------------------


def subscriptions_of(
    run: Run, holder: Holder, *, after: SubscriptionPlace | None, limit: int, clock: Clock
) -> SubscriptionPage:
    """A page of a user's subscriptions. Raises DatabaseUnavailable."""
    page: SubscriptionPage = run(
        lambda connection: reading.read_subscriptions(
            belongings=PostgresBelongings(connection), holder=holder, after=after, limit=limit, now=clock.now()
        )
    )
    return page


def entitlements_of(run: Run, holder: Holder, *, catalog: Catalog, clock: Clock) -> EntitlementList:
    """What a user may use. Raises DatabaseUnavailable."""
    found: EntitlementList = run(
        lambda connection: reading.read_entitlements(
            belongings=PostgresBelongings(connection), catalog=catalog, holder=holder, now=clock.now()
        )
    )
    return found


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


class Desk:
    """The use-cases, each in a transaction of one database. Thread-safe; every method raises DatabaseUnavailable."""

    def __init__(self, *, engine: Engine, catalog: Catalog, apps: Apps, ids: IdSource, clock: Clock) -> None:
        self._engine = engine
        self._catalog = catalog
        self._apps = apps
        self._ids = ids
        self._clock = clock
        self._waker = Waker(engine)
        self._group = GroupCommit(self._execute, may_join=_is_of_another_key)
        self._stores: dict[Store, refund_requests.StoreRefunds] = {"apple": AppleRefunds()}

    def execute(self, command: Command) -> Answer:
        """Does what is asked, with what else is asked for at this moment in one transaction."""
        answer = self._group.submit(command)
        self._waker.poke()
        return answer

    def ask(
        self,
        *,
        app: AppId,
        purchase_id: PurchaseId,
        only_user: UserId | None,
        actor: str,
        reason: str | None,
        trace_id: str,
    ) -> RefundRequestView | NotEligible | None:
        """A user asks for a refund."""
        asked = refund_requests.Ask(app, purchase_id, actor, trace_id, only_user=only_user, reason=reason)

        def work(connection: Connection) -> refund_requests.Asked:
            done = refund_requests.ask(
                asked,
                books=books_on(connection, self._ids),
                requests=PostgresRefundRequests(connection),
                commissions=PostgresCommissions(connection),
                catalog=self._catalog,
                apps=self._apps,
                stores=self._stores,
                new_id=self._ids.event_id,
                now=self._clock.now(),
            )
            journal.append(connection, done.drafts, ids=self._ids)
            return done

        answer = transact(self._engine, work).answer
        self._waker.poke()
        return answer

    def find(self, *, app: AppId, id: UUID, only_user: UserId | None) -> RefundRequestView | None:
        """A request for a refund."""
        return self._reading(
            lambda connection: refund_requests.find(
                requests=PostgresRefundRequests(connection), stores=self._stores, app=app, id=id, only_user=only_user
            )
        )

    def wallet(self, key: WalletKey) -> WalletStatement:
        """A wallet."""
        return self._reading(
            lambda connection: reading.read_wallet(wallets=PostgresWallets(connection), catalog=self._catalog, key=key)
        )

    def entries(self, key: WalletKey, *, before: int | None, limit: int) -> EntryPage:
        """A page of its entries."""
        return self._reading(
            lambda connection: reading.read_entries(
                wallets=PostgresWallets(connection), key=key, before=before, limit=limit
            )
        )

    def subscriptions(self, holder: Holder, *, after: SubscriptionPlace | None, limit: int) -> SubscriptionPage:
        """A page of a user's subscriptions."""
        return subscriptions_of(self._reading, holder, after=after, limit=limit, clock=self._clock)

    def entitlements(self, holder: Holder) -> EntitlementList:
        """What a user may use."""
        return entitlements_of(self._reading, holder, catalog=self._catalog, clock=self._clock)

    def ready(self) -> None:
        """Whether the database answers."""
        self._reading(lambda connection: connection.exec_driver_sql("select 1"))

    def metrics(self) -> bytes:
        """What the newest audit found, in Prometheus' text."""
        return metrics_text(PostgresAudits(self._reading).newest())

    def _reading(self, work: Callable[[Connection], T]) -> T:
        return transact(self._engine, work)

    def _execute(self, commands: Sequence[Command]) -> Sequence[Answer]:
        def work(connection: Connection) -> Sequence[Answer]:
            executed = executing.execute(
                commands,
                books=books_on(connection, self._ids),
                commissions=PostgresCommissions(connection),
                answers=PostgresAnswers(connection),
                apps=self._apps,
                render=api.render,
                new_id=self._ids.event_id,
                now=self._clock.now(),
            )
            journal.append(connection, executed.drafts, ids=self._ids)
            return executed.answers

        return transact(self._engine, work)


def _is_of_another_key(command: Command, others: Sequence[Command]) -> bool:
    """A repeat is answered after the first, whose answer it is to find."""
    if command.key is None:
        return True
    named = (command.key.call, command.key.key)
    return all(other.key is None or (other.key.call, other.key.key) != named for other in others)
