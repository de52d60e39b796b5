"""The ledger as its processes run it, on one database: the worker's runtime and the API's desk, put together alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from deploy.settings import PROJECT
from ledger import tasks
from ledger.app import API_CONNECTIONS, ROLE
from ledger.desk import Desk
from ledger.domain.books import WalletKey
from ledger.domain.commands import Answer, Command
from ledger.domain.statements import WalletStatement
from ledger.tables import tables_on
from shared.apps import load_apps
from shared.bus.consumer import ConsumerRuntime
from shared.bus.routes import CONSUMERS, LEDGER
from shared.bus.wake import Waker
from shared.bus.worker import look_for_cycles_seldom
from shared.catalog import load_catalog
from shared.clock import SystemClock
from shared.database import connect_engine
from shared.ids import EventId, system_ids
from shared.log import configure_logging

EXAMPLES: Final = PROJECT / "deploy" / "examples"
WORKER_THREADS: Final = 2
"""Messages that a worker process handles at a time (ledger.app.run_worker)."""
API_THREADS: Final = 8
"""Requests that an API process answers at a time (deploy.processes)."""


class Bookkeeper:
    """Handles the ledger's events and answers its calls, without a broker and without HTTP. Thread-safe."""

    def __init__(self, database_url: str) -> None:
        configure_logging(service="benchmark", level="warning")
        look_for_cycles_seldom()
        apps, catalog = load_apps(EXAMPLES / "apps.toml"), load_catalog(EXAMPLES / "catalog.toml")
        ids, clock = system_ids(), SystemClock()
        self._engine = connect_engine(
            database_url, role=ROLE, pool_size=API_CONNECTIONS, application_name="benchmark-ledger"
        )
        self._waker = Waker(self._engine)
        self._runtime = ConsumerRuntime(
            consumer=CONSUMERS[LEDGER],
            handlers=tasks.postings(tables_on=tables_on(ids), catalog=catalog, apps=apps, ids=ids, clock=clock),
            engine=self._engine,
            waker=self._waker,
            ids=ids,
        )
        self._desk = Desk(engine=self._engine, catalog=catalog, apps=apps, ids=ids, clock=clock)

    def handle(self, event_type: str, event_ids: Sequence[EventId]) -> None:
        """One message of the bus."""
        self._runtime.handle(event_type, event_ids)

    def ask(self, command: Command) -> Answer:
        """One call, together with what other threads ask at the same moment."""
        return self._desk.execute(command)

    def look(self, key: WalletKey) -> WalletStatement:
        """A wallet."""
        return self._desk.wallet(key)

    def close(self) -> None:
        self._waker.close()
        self._engine.dispose()
