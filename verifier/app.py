"""The only wiring of the verifier: a process that checks signatures, and two that wait on the store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from shared.apps import Apps
from shared.bus.consumer import OneByOne
from shared.bus.routes import VERIFIER, VERIFIER_LOOKUPS, VERIFIER_STORE, ConsumerName
from shared.bus.worker import serve_consumer
from shared.clock import Clock, SystemClock
from shared.database import connect_engine
from shared.jws import JwsVerifier
from shared.settings import checked_apps, checked_catalog, read
from shared.trust import jws_verifier
from verifier import tasks
from verifier.apple.keys import checked_signing_keys
from verifier.apple.lookups import TransactionLookups
from verifier.apple.ocsp import OcspRegistry
from verifier.apple.pace import Pace
from verifier.apple.patience import PatientReceiptStore, PatientTransactionStore
from verifier.apple.receipts import VerifyReceiptClient
from verifier.apple.server_api import ServerApi
from verifier.apple.transport import Transport, store_session
from verifier.settings import VerifierSettings
from verifier.store import PostgresRecords

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
        clock=clock,
    )
    engine = connect_engine(settings.database_url.get_secret_value(), role=ROLE, pool_size=4, application_name=VERIFIER)
    serve_consumer(VERIFIER, handlers, engine=engine, settings=settings, threads=2)


def run_store_worker() -> None:
    """Asks the store about receipts until it is told to stop."""
    settings, clock, apps = _patient_worker()
    transport = _transport(settings, connections=CALLS_MAX)
    receipts = VerifyReceiptClient(
        transport=transport,
        production_url=settings.apple_verify_receipt_url,
        sandbox_url=settings.apple_verify_receipt_sandbox_url,
        clock=clock,
    )
    handlers = tasks.receipt_checks(
        records_on=PostgresRecords,
        receipts=PatientReceiptStore(receipts, checked_catalog(settings)),
        transactions=_transactions(settings, apps, transport, clock),
        signatures=_signatures(settings, clock),
        apps=apps,
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
    api = ServerApi(
        keys=checked_signing_keys(apps),
        transport=transport,
        production_url=settings.apple_api_url,
        sandbox_url=settings.apple_api_sandbox_url,
        pace=Pace(share=settings.apple_api_share, clock=clock),
        clock=clock,
    )
    return PatientTransactionStore(TransactionLookups(api))


def _signatures(settings: VerifierSettings, clock: Clock) -> JwsVerifier:
    """With OCSP if the settings say so; its thread ends with the process."""
    revocation = (
        OcspRegistry(transport=_transport(settings, connections=1), clock=clock) if settings.apple_ocsp else None
    )
    return jws_verifier(settings, production=settings.production, revocation=revocation)


def _transport(settings: VerifierSettings, *, connections: int) -> Transport:
    return Transport(
        session=store_session(connections=connections),
        connect_timeout_s=settings.store_connect_timeout_s,
        read_timeout_s=settings.store_read_timeout_s,
    )
