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
from simulator.agenda import Agenda, Clockwork, Setting
from simulator.api import create_api
from simulator.api_subscriptions import add_subscription_routes
from simulator.certificates import Authority, AuthorityInvalid, load_or_create
from simulator.faults import FaultBoard
from simulator.notifications import SETTLED_MAX, NotificationSender
from simulator.ocsp import OcspResponder
from simulator.rates import RateLimits
from simulator.receipts import ReceiptSeal
from simulator.records import Records
from simulator.server_api import add_server_api
from simulator.settings import SimulatorSettings
from simulator.shelf import Shelf
from simulator.signing import Signer
from simulator.state import State
from simulator.storefront import AppStore
from simulator.subscribers import Subscribers
from simulator.telling import Teller
from simulator.tokens import KeyInvalid, TokenCheck

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Simulator:
    """The store with all that belongs to it. `close` ends its threads."""

    authority: Authority
    shelf: Shelf
    store: AppStore
    subscribers: Subscribers
    records: Records
    tokens: TokenCheck
    sender: NotificationSender
    agenda: Agenda
    clockwork: Clockwork
    faults: FaultBoard
    clock: Clock
    ids: IdSource

    def close(self) -> None:
        self.clockwork.close()
        self.sender.close()


def build(
    *,
    data_dir: Path,
    apps: Apps,
    catalog: Catalog,
    webhook_url: str,
    retry_compression: float = 3600,
    notifications_kept: int = SETTLED_MAX,
    month_s: float | None = None,
    ocsp_url: str | None = None,
    clock: Clock | None = None,
    ids: IdSource | None = None,
) -> Simulator:
    """A store whose certificates are under `data_dir` (made if there are none) and whose notifications go to the URL.

    With `month_s` a month of subscriptions lasts so many seconds, and they live by themselves; without it on command.
    Certificates that are made now name `ocsp_url`. Raises AuthorityInvalid, KeyInvalid, or OSError when the directory
    cannot be written.
    """
    clock, ids = clock or SystemClock(), ids or system_ids()
    tokens = TokenCheck(apps, clock)
    authority = load_or_create(data_dir, now=clock.now(), ocsp_url=ocsp_url)
    faults, signer, seal = FaultBoard(ids), Signer(authority), ReceiptSeal(authority)
    agenda = Agenda(clock, Setting(month_s=month_s, running=month_s is not None))
    state, shelf = State(clock, plan=agenda.plan), Shelf(apps, catalog)
    sender = NotificationSender(
        url=webhook_url,
        clock=clock,
        faults=faults,
        retry_compression=retry_compression,
        settled_max=notifications_kept,
    )
    teller = Teller(state=state, signer=signer, seal=seal, sender=sender, clock=clock, ids=ids)
    subscribers = Subscribers(state=state, teller=teller, listings=shelf, agenda=agenda, clock=clock, ids=ids)
    return Simulator(
        authority=authority,
        shelf=shelf,
        store=AppStore(shelf=shelf, state=state, seal=seal, teller=teller, agenda=agenda, clock=clock, ids=ids),
        subscribers=subscribers,
        records=Records(state=state, signer=signer, notifications=sender, teller=teller, clock=clock),
        tokens=tokens,
        sender=sender,
        agenda=agenda,
        clockwork=Clockwork(agenda, subscribers.advance),
        faults=faults,
        clock=clock,
        ids=ids,
    )


def build_from(settings: SimulatorSettings) -> Simulator:
    """The store that the settings describe; ends the process with a sentence when it cannot be."""
    try:
        built = build(
            data_dir=settings.data_dir,
            apps=load_apps(settings.apps_file),
            catalog=load_catalog(settings.catalog_file),
            webhook_url=settings.simulator_webhook_url,
            retry_compression=settings.simulator_retry_compression,
            notifications_kept=settings.simulator_notifications_kept,
            month_s=settings.simulator_month_s,
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
        shelf=simulator.shelf,
        store=simulator.store,
        records=simulator.records,
        sender=simulator.sender,
        responder=OcspResponder(simulator.authority, faults=simulator.faults, clock=simulator.clock),
        faults=simulator.faults,
        root_pem=simulator.authority.root_pem,
        ids=simulator.ids,
    )
    add_subscription_routes(
        app,
        subscribers=simulator.subscribers,
        shelf=simulator.shelf,
        agenda=simulator.agenda,
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
