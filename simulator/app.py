"""The wiring. `build()` makes the store for whoever wants it without HTTP, `create_app()` serves it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flask import Flask

from shared.apps import Apps, AppsInvalid, load_apps
from shared.catalog import Catalog, CatalogInvalid, load_catalog
from shared.clock import Clock, SystemClock
from shared.ids import IdSource, system_ids
from shared.log import configure_logging, get_logger
from shared.settings import read, refuse
from simulator.api import create_api
from simulator.certificates import Authority, AuthorityInvalid, load_or_create
from simulator.faults import FaultBoard
from simulator.notifications import NotificationSender
from simulator.ocsp import OcspResponder
from simulator.rates import RateLimits
from simulator.receipts import ReceiptSeal
from simulator.records import Records
from simulator.server_api import add_server_api
from simulator.settings import SimulatorSettings
from simulator.signing import Signer
from simulator.state import State
from simulator.storefront import AppStore
from simulator.tokens import KeyInvalid, TokenCheck

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Simulator:
    """The store with all that belongs to it. `close` ends the sender's threads."""

    authority: Authority
    store: AppStore
    records: Records
    tokens: TokenCheck
    sender: NotificationSender
    faults: FaultBoard
    clock: Clock
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
    ocsp_url: str | None = None,
    clock: Clock | None = None,
    ids: IdSource | None = None,
) -> Simulator:
    """A store whose certificates are under `data_dir` (made if there are none) and whose notifications go to the URL.

    Certificates that are made now name `ocsp_url`. Raises AuthorityInvalid, KeyInvalid, or OSError when the directory
    cannot be written.
    """
    clock, ids = clock or SystemClock(), ids or system_ids()
    tokens = TokenCheck(apps, clock)
    authority = load_or_create(data_dir, now=clock.now(), ocsp_url=ocsp_url)
    faults, state, signer = FaultBoard(ids), State(clock), Signer(authority)
    sender = NotificationSender(url=webhook_url, clock=clock, faults=faults, retry_compression=retry_compression)
    store = AppStore(
        apps=apps,
        catalog=catalog,
        state=state,
        signer=signer,
        seal=ReceiptSeal(authority),
        sender=sender,
        clock=clock,
        ids=ids,
    )
    records = Records(state=state, signer=signer, notifications=sender, clock=clock, ids=ids)
    return Simulator(authority, store, records, tokens, sender, faults, clock, ids)


def build_from(settings: SimulatorSettings) -> Simulator:
    """The store that the settings describe; ends the process with a sentence when it cannot be."""
    try:
        built = build(
            data_dir=settings.data_dir,
            apps=load_apps(settings.apps_file),
            catalog=load_catalog(settings.catalog_file),
            webhook_url=settings.simulator_webhook_url,
            retry_compression=settings.simulator_retry_compression,
            ocsp_url=settings.ocsp_url,
        )
    except (AppsInvalid, CatalogInvalid, AuthorityInvalid, KeyInvalid) as error:
        refuse(str(error))
    except OSError as error:
        refuse(f"PURSER_DATA_DIR: {settings.data_dir}: {error.strerror}")
    _say_where_ocsp_is_asked(built.authority, settings)
    return built


def _say_where_ocsp_is_asked(authority: Authority, settings: SimulatorSettings) -> None:
    """Certificates outlive an address: those of before still verify, but their revocation is asked for elsewhere."""
    if authority.ocsp_url != settings.ocsp_url:
        log.warning(
            "the kept certificates name another OCSP address: remove their directory to have new ones made",
            named=authority.ocsp_url,
            here=settings.ocsp_url,
            directory=str(settings.data_dir / "simulator"),
        )


def create_app() -> Flask:
    """The WSGI application, for a server with one process: all of the store is in its memory."""
    settings = read(SimulatorSettings)
    if settings.production:
        refuse("PURSER_PRODUCTION: the simulator hands out goods for nothing; it does not run in production")
    configure_logging(service="simulator", level=settings.log_level)
    return serve(build_from(settings))


def serve(simulator: Simulator) -> Flask:
    """The WSGI application over a store that was built."""
    app = create_api(
        store=simulator.store,
        records=simulator.records,
        sender=simulator.sender,
        responder=OcspResponder(simulator.authority, faults=simulator.faults, clock=simulator.clock),
        faults=simulator.faults,
        root_pem=simulator.authority.root_pem,
        ids=simulator.ids,
    )
    add_server_api(
        app,
        records=simulator.records,
        tokens=simulator.tokens,
        faults=simulator.faults,
        rates=RateLimits(simulator.clock),
        clock=simulator.clock,
    )
    return app


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
