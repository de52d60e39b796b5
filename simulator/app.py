"""The wiring. `build()` makes the store for whoever wants it without HTTP, `create_app()` serves it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flask import Flask

from shared.apps import Apps, AppsInvalid, load_apps
from shared.catalog import Catalog, CatalogInvalid, load_catalog
from shared.clock import Clock, SystemClock
from shared.ids import IdSource, system_ids
from shared.log import configure_logging
from shared.settings import read, refuse
from simulator.api import create_api
from simulator.certificates import Authority, AuthorityInvalid, load_or_create
from simulator.faults import FaultBoard
from simulator.notifications import NotificationSender
from simulator.receipts import ReceiptSeal
from simulator.settings import SimulatorSettings
from simulator.signing import Signer
from simulator.state import State
from simulator.storefront import AppStore


@dataclass(frozen=True, slots=True)
class Simulator:
    """The store with all that belongs to it. `close` ends the sender's threads."""

    authority: Authority
    store: AppStore
    sender: NotificationSender
    faults: FaultBoard
    ids: IdSource

    def close(self) -> None:
        self.sender.close()


def build(
    *,
    data_dir: Path,
    apps: Apps,
    catalog: Catalog,
    webhook_url: str,
    retry_compression: float = 3600,
    clock: Clock | None = None,
    ids: IdSource | None = None,
) -> Simulator:
    """A store whose certificates are under `data_dir` (made if there are none) and whose notifications go to the URL.

    Raises AuthorityInvalid, or OSError when the directory cannot be written.
    """
    clock, ids = clock or SystemClock(), ids or system_ids()
    authority = load_or_create(data_dir, now=clock.now())
    faults = FaultBoard(ids)
    sender = NotificationSender(url=webhook_url, clock=clock, faults=faults, retry_compression=retry_compression)
    store = AppStore(
        apps=apps,
        catalog=catalog,
        state=State(clock),
        signer=Signer(authority),
        seal=ReceiptSeal(authority),
        sender=sender,
        faults=faults,
        clock=clock,
        ids=ids,
    )
    return Simulator(authority=authority, store=store, sender=sender, faults=faults, ids=ids)


def build_from(settings: SimulatorSettings) -> Simulator:
    """The store that the settings describe; ends the process with a sentence when it cannot be."""
    try:
        return build(
            data_dir=settings.data_dir,
            apps=load_apps(settings.apps_file),
            catalog=load_catalog(settings.catalog_file),
            webhook_url=settings.simulator_webhook_url,
            retry_compression=settings.simulator_retry_compression,
        )
    except (AppsInvalid, CatalogInvalid, AuthorityInvalid) as error:
        refuse(str(error))
    except OSError as error:
        refuse(f"PURSER_DATA_DIR: {settings.data_dir}: {error.strerror}")


def create_app() -> Flask:
    """The WSGI application, for a server with one process: all of the store is in its memory."""
    settings = read(SimulatorSettings)
    if settings.production:
        refuse("PURSER_PRODUCTION: the simulator hands out goods for nothing; it does not run in production")
    configure_logging(service="simulator", level=settings.log_level)
    return serve(build_from(settings))


def serve(simulator: Simulator) -> Flask:
    """The WSGI application over a store that was built."""
    return create_api(
        store=simulator.store,
        sender=simulator.sender,
        faults=simulator.faults,
        root_pem=simulator.authority.root_pem,
        ids=simulator.ids,
    )


def main() -> None:
    """Serves the store until it is told to stop."""
    from granian import Granian
    from granian.constants import Interfaces

    settings = read(SimulatorSettings)
    Granian(
        "simulator.app:create_app",
        factory=True,
        address=settings.bind,
        port=settings.simulator_port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=settings.simulator_threads,
        log_access=False,
    ).serve()


if __name__ == "__main__":
    main()
