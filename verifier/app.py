"""The only wiring of the verifier: a process that checks signatures, two that wait on the store, and one that asks it
what never came.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from requests import Session
from sqlalchemy import Engine

from shared import tracing
from shared.apps import App, Apps
from shared.bus.consumer import OneByOne
from shared.bus.heartbeat import Heartbeat
from shared.bus.routes import VERIFIER, VERIFIER_LOOKUPS, VERIFIER_STORE, ConsumerName
from shared.bus.wake import Waker
from shared.bus.worker import serve_consumer
from shared.clock import Clock, SystemClock
from shared.database import connect_engine, transact
from shared.ids import system_ids
from shared.jws import JwsVerifier
from shared.log import configure_logging
from shared.metrics.read import DATABASE_UP, Family, ReadAtScrape, family
from shared.metrics.serving import serve_metrics
from shared.schedule import Job, Schedule, run_until_told
from shared.settings import checked_apps, checked_catalog, read
from shared.trust import jws_verifier
from verifier import tasks
from verifier.apple.keys import checked_signing_keys
from verifier.apple.lookups import TransactionLookups
from verifier.apple.memory import AppleMemory
from verifier.apple.ocsp import OcspRegistry
from verifier.apple.pace import Pace
from verifier.apple.patience import PatientReceiptStore, PatientTransactionStore
from verifier.apple.receipts import VerifyReceiptClient
from verifier.apple.server_api import ServerApi
from verifier.apple.transport import Transport, store_session
from verifier.domain.reconciliation import Reconciliation, Road
from verifier.handlers.reconciling import Reconciler, askable, wanted
from verifier.schedule import SUBSCRIPTIONS_EVERY_S, breathing, reconciling
from verifier.settings import ReconcilerSettings, StoreSettings, VerifierSettings
from verifier.store import PostgresReconciliations, PostgresRecords, Run, reconciles_alone

ROLE: Final = "purser_verifier"

CALLS_MAX: Final = 128
"""Questions to the store in flight per process: a store that takes 300 ms then answers some 400 of them a second."""

MESSAGES_MAX: Final = 16
"""Messages at a time, of up to 32 questions each: a message waits for its slowest, and others fill the gap."""

YIELDS: Final = 10
"""How nice a process is that waits on the store: on a busy machine, what waits for nobody goes first."""


def run_worker() -> None:
    """Checks StoreKit 2 transactions and notifications until it is told to stop."""
    settings = read(VerifierSettings)
    clock = SystemClock()
    handlers = tasks.local_checks(
        records_on=PostgresRecords,
        signatures=_signatures(settings, clock),
        apps=checked_apps(settings, production=settings.production),
        catalog=checked_catalog(settings),
        clock=clock,
    )
    engine = connect_engine(settings.database_url.get_secret_value(), role=ROLE, pool_size=4, application_name=VERIFIER)
    serve_consumer(VERIFIER, handlers, engine=engine, settings=settings, threads=2)


def run_store_worker() -> None:
    """Asks the store about receipts until it is told to stop."""
    settings, clock, apps = _patient_worker()
    catalog = checked_catalog(settings)
    transport = _transport(settings, connections=CALLS_MAX)
    receipts = VerifyReceiptClient(
        transport=transport,
        production_url=settings.apple_verify_receipt_url,
        sandbox_url=settings.apple_verify_receipt_sandbox_url,
        clock=clock,
    )
    handlers = tasks.receipt_checks(
        records_on=PostgresRecords,
        receipts=PatientReceiptStore(receipts, catalog),
        transactions=_transactions(settings, apps, transport, clock),
        signatures=_signatures(settings, clock),
        apps=apps,
        catalog=catalog,
        clock=clock,
    )
    _serve_patiently(VERIFIER_STORE, handlers, settings)


def run_lookups_worker() -> None:
    """Asks the store about bare transaction ids until it is told to stop."""
    settings, clock, apps = _patient_worker()
    handlers = tasks.lookups(
        records_on=PostgresRecords,
        transactions=_transactions(settings, apps, _transport(settings, connections=CALLS_MAX), clock),
        signatures=_signatures(settings, clock),
        apps=apps,
        catalog=checked_catalog(settings),
        clock=clock,
    )
    _serve_patiently(VERIFIER_LOOKUPS, handlers, settings)


def _patient_worker() -> tuple[VerifierSettings, Clock, Apps]:
    os.nice(YIELDS)
    settings = read(VerifierSettings)
    return settings, SystemClock(), checked_apps(settings, production=settings.production)


def _serve_patiently(name: ConsumerName, handlers: Mapping[str, OneByOne[Any]], settings: VerifierSettings) -> None:
    engine = connect_engine(settings.database_url.get_secret_value(), role=ROLE, pool_size=16, application_name=name)
    serve_consumer(name, handlers, engine=engine, settings=settings, threads=MESSAGES_MAX, outside_calls=CALLS_MAX)


def _transactions(
    settings: VerifierSettings, apps: Apps, transport: Transport, clock: Clock
) -> PatientTransactionStore:
    pace = Pace(share=settings.apple_api_share, clock=clock)
    return PatientTransactionStore(TransactionLookups(_server_api(settings, apps, transport, pace, clock)))


# ---- what the store said, and never came -------------------------------------------------------------------------

RECONCILER: Final = "reconciler"

RECONCILER_CONNECTIONS: Final = 6
"""For each of its jobs one, and one for the lock of each that has it; one to wake the courier."""

TURN_WAIT_S_MAX: Final = 30.0
"""Nobody waits for the reconciler, so it waits for its turn, and for the end of a rate limit that is short."""


def run_reconciler() -> None:
    """Asks the store what it had said until SIGTERM or SIGINT."""
    settings = read(ReconcilerSettings)
    configure_logging(service=RECONCILER, level=settings.log_level)
    tracing.start(service=RECONCILER, settings=settings)
    url = settings.database_url.get_secret_value()
    engine = connect_engine(url, role=ROLE, pool_size=RECONCILER_CONNECTIONS, application_name=RECONCILER)
    apps = checked_apps(settings, production=settings.production)
    signatures = jws_verifier(settings, production=settings.production)
    with reconciler_on(engine, apps=apps, settings=settings, signatures=signatures, clock=SystemClock()) as reconciler:
        read_looked = partial(reconciliations_watched, settings, engine=engine, apps=apps)
        serve_metrics(settings, ReadAtScrape(read_looked, up=DATABASE_UP, clock=SystemClock()))
        jobs = reconciling_jobs(settings, engine=engine, apps=apps, reconciler=reconciler)
        run_until_told(Schedule(jobs, heartbeat=Heartbeat(settings.heartbeat_file)))


def reconciliations_watched(settings: ReconcilerSettings, *, engine: Engine, apps: Apps) -> list[Family]:
    """What was missed, and when it was last looked, as it is told at the scrape. Raises DatabaseUnavailable.

    Where only `purser reconcile` asks, nobody is to have looked lately, and so nothing is told of when that was.
    """
    known = {
        (each.key.app, each.key.environment, each.key.road): each
        for each in reconciliations(partial(transact, engine), apps)
    }
    missed = {labels: each.missed for labels, each in known.items()}
    looked = {
        labels: each.checked_at.timestamp()
        for labels, each in known.items()
        if each.checked_at is not None and settings.reconcile_interval_s
    }
    return [
        family("purser_reconciliation_missed_total", missed),
        family("purser_reconciliation_looked_timestamp_seconds", looked),
    ]


def reconciling_jobs(settings: ReconcilerSettings, *, engine: Engine, apps: Apps, reconciler: Reconciler) -> list[Job]:
    """What is asked, and how often; of apps that have a key for it."""
    select_one = partial(transact, engine, lambda connection: connection.exec_driver_sql("select 1").scalar_one())
    jobs = [breathing(select_one)]
    asking = askable(apps)
    if settings.reconcile_interval_s and asking:
        every: dict[Road, float] = {
            "notifications": settings.reconcile_interval_s,
            "subscriptions": SUBSCRIPTIONS_EVERY_S,
        }
        jobs += [
            reconciling(road, reconciler=reconciler, apps=asking, every_s=every_s) for road, every_s in every.items()
        ]
    return jobs


@contextmanager
def reconciler_on(
    engine: Engine,
    *,
    apps: Apps,
    settings: StoreSettings,
    signatures: JwsVerifier,
    clock: Clock,
    patience_s: float = 0,
) -> Iterator[Reconciler]:
    """The reconciler for all apps that have a key. `patience_s`: so long another one that is at it is waited for.

    `signatures` are checked as the gateway checks them, without OCSP: what is recorded here is verified again by who
    acts on it. Each road asks one question after the other, so two connections to the store are enough.
    """
    ids, waker = system_ids(), Waker(engine)
    with store_session(connections=2) as session:
        pace = Pace(share=settings.apple_api_share, clock=clock, wait_s_max=TURN_WAIT_S_MAX)
        transport = _transport_on(session, settings)
        try:
            yield Reconciler(
                memory=AppleMemory(_server_api(settings, apps, transport, pace, clock)),
                records=PostgresReconciliations(partial(transact, engine), ids=ids, appended=waker.poke),
                signatures=signatures,
                apps=apps,
                alone=partial(reconciles_alone, engine, patience_s=patience_s),
                clock=clock,
                new_trace=ids.trace_id,
            )
        finally:
            waker.close()


def reconciliations(run: Run, apps: Iterable[App]) -> Sequence[Reconciliation]:
    """How far each that is wanted of these apps has come, those included that were never begun; of others that are on
    record nothing. Raises DatabaseUnavailable.
    """
    known = {each.key: each for each in PostgresReconciliations(run, ids=system_ids(), appended=lambda: None).all()}
    return [known.get(key, Reconciliation(key)) for key in wanted(apps)]


# ---- what these are made of --------------------------------------------------------------------------------------


def _signatures(settings: VerifierSettings, clock: Clock) -> JwsVerifier:
    """With OCSP if the settings say so; its thread ends with the process."""
    revocation = (
        OcspRegistry(transport=_transport(settings, connections=1), clock=clock) if settings.apple_ocsp else None
    )
    return jws_verifier(settings, production=settings.production, revocation=revocation)


def _server_api(settings: StoreSettings, apps: Apps, transport: Transport, pace: Pace, clock: Clock) -> ServerApi:
    return ServerApi(
        keys=checked_signing_keys(apps),
        transport=transport,
        production_url=settings.apple_api_url,
        sandbox_url=settings.apple_api_sandbox_url,
        pace=pace,
        clock=clock,
    )


def _transport(settings: StoreSettings, *, connections: int) -> Transport:
    """On a session that ends with the process."""
    return _transport_on(store_session(connections=connections), settings)


def _transport_on(session: Session, settings: StoreSettings) -> Transport:
    return Transport(
        session=session,
        connect_timeout_s=settings.store_connect_timeout_s,
        read_timeout_s=settings.store_read_timeout_s,
    )
