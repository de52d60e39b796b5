"""The only wiring of the verifier: two processes, one that checks signatures, one that waits on the store."""

from __future__ import annotations

from shared.bus.routes import VERIFIER, VERIFIER_STORE
from shared.bus.worker import OUTSIDE_CALLS_MAX, serve_consumer
from shared.clock import SystemClock
from shared.database import connect_engine
from shared.jws import JwsVerifier
from shared.settings import checked_apps, checked_catalog, read
from shared.trust import trust_anchors
from verifier import tasks
from verifier.apple.patience import PatientReceiptStore
from verifier.apple.receipts import VerifyReceiptClient, store_session
from verifier.settings import VerifierSettings
from verifier.store import PostgresRecords

ROLE = "purser_verifier"


def run_worker() -> None:
    """Checks StoreKit 2 transactions and notifications until it is told to stop."""
    settings = read(VerifierSettings)
    handlers = tasks.local_checks(
        records_on=PostgresRecords,
        signatures=JwsVerifier(anchors=trust_anchors(settings, production=settings.production)),
        apps=checked_apps(settings, production=settings.production),
        clock=SystemClock(),
    )
    engine = connect_engine(settings.database_url.get_secret_value(), role=ROLE, pool_size=4, application_name=VERIFIER)
    serve_consumer(VERIFIER, handlers, engine=engine, settings=settings, threads=2)


def run_store_worker() -> None:
    """Asks the store about receipts until it is told to stop."""
    settings = read(VerifierSettings)
    clock = SystemClock()
    client = VerifyReceiptClient(
        session=store_session(connections=OUTSIDE_CALLS_MAX),
        production_url=settings.apple_verify_receipt_url,
        sandbox_url=settings.apple_verify_receipt_sandbox_url,
        connect_timeout_s=settings.store_connect_timeout_s,
        read_timeout_s=settings.store_read_timeout_s,
        clock=clock,
    )
    handlers = tasks.store_checks(
        records_on=PostgresRecords,
        store=PatientReceiptStore(client, checked_catalog(settings)),
        apps=checked_apps(settings, production=settings.production),
        clock=clock,
    )
    engine = connect_engine(
        settings.database_url.get_secret_value(), role=ROLE, pool_size=16, application_name=VERIFIER_STORE
    )
    serve_consumer(VERIFIER_STORE, handlers, engine=engine, settings=settings, threads=32)
