"""The only wiring of the ledger: the worker that books, and the internal API that reads."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask
from sqlalchemy import Connection

from ledger import api, handlers, tasks
from ledger.domain.books import WalletKey
from ledger.domain.statements import EntryPage, WalletStatement
from ledger.settings import LedgerApiSettings, LedgerSettings
from ledger.store import HOUSE_SHARDS, PostgresBooks, PostgresWallets
from shared.bus.routes import LEDGER
from shared.bus.worker import serve_consumer
from shared.clock import SystemClock
from shared.database import connect_engine, transact
from shared.http import install_conventions
from shared.ids import IdSource, system_ids
from shared.log import configure_logging
from shared.settings import checked_apps, checked_catalog, read

ROLE = "purser_ledger"
API_THREADS = 8
"""Connections of one API process: as many as it has blocking threads."""


def run_worker() -> None:
    """Books what the store says until it is told to stop."""
    settings = read(LedgerSettings)
    ids = system_ids()
    handling = tasks.postings(
        books_on=books_on(ids),
        catalog=checked_catalog(settings),
        apps=checked_apps(settings, production=settings.production),
        ids=ids,
        clock=SystemClock(),
    )
    engine = connect_engine(settings.database_url.get_secret_value(), role=ROLE, pool_size=4, application_name=LEDGER)
    serve_consumer(LEDGER, handling, engine=engine, settings=settings, threads=2)


def books_on(ids: IdSource) -> Callable[[Connection], PostgresBooks]:
    """The books on a connection, each time with another of the house's accounts."""
    return lambda connection: PostgresBooks(connection, shard=int(ids.uniform(0, HOUSE_SHARDS)) % HOUSE_SHARDS)


def create_api() -> Flask:
    """The internal API, as a WSGI application."""
    settings = read(LedgerApiSettings)
    configure_logging(service="ledger-api", level=settings.log_level)
    engine = connect_engine(
        settings.database_url.get_secret_value(), role=ROLE, pool_size=API_THREADS, application_name="ledger-api"
    )
    catalog = checked_catalog(settings)

    def wallet(key: WalletKey) -> WalletStatement:
        return transact(
            engine,
            lambda connection: handlers.read_wallet(wallets=PostgresWallets(connection), catalog=catalog, key=key),
        )

    def entries(key: WalletKey, *, before: int | None, limit: int) -> EntryPage:
        return transact(
            engine,
            lambda connection: handlers.read_entries(
                wallets=PostgresWallets(connection), key=key, before=before, limit=limit
            ),
        )

    def ready() -> None:
        transact(engine, lambda connection: connection.exec_driver_sql("select 1"))

    app = Flask(__name__, static_folder=None)
    install_conventions(app, ids=system_ids())
    app.register_blueprint(
        api.routes(
            queries=api.Queries(wallet=wallet, entries=entries, ready=ready),
            apps=checked_apps(settings, production=settings.production),
            service_token=settings.service_token.get_secret_value(),
        )
    )
    return app
