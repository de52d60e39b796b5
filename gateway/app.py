"""The only wiring of the gateway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from flask import Flask
from sqlalchemy import Connection, Engine

from gateway.api import openapi, reference
from gateway.api.credentials import Credentials
from gateway.api.errors import install_errors
from gateway.api.limits import Limits
from gateway.api.routes import install_routes
from gateway.api.services import Services
from gateway.domain.purchases import Standing
from gateway.domain.rates import parse_rate
from gateway.service_client import ServiceClient
from gateway.settings import GatewaySettings
from gateway.store.feed import PostgresFeed
from gateway.store.journal import PostgresJournal, standings
from gateway.store.waiting import WaitingRoom
from shared import tracing
from shared.apps import Apps
from shared.bus import journal
from shared.bus.wake import Waker
from shared.clock import Clock, SystemClock
from shared.database import INTERACTIVE_TIMEOUT_S, connect_engine
from shared.http import install_conventions
from shared.ids import AppId, IdSource, PurchaseId, UserId, system_ids
from shared.log import configure_logging
from shared.settings import checked_apps, checked_catalog, read, refuse
from shared.trust import jws_verifier

ROLE: Final = "purser_gateway"
CONNECTIONS_OF_THREADS: Final = 2
"""Beside one for each request: the one that wakes the courier, and the one of those who wait."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The WSGI application with what belongs to it."""

    app: Flask
    engine: Engine
    waker: Waker
    waiting: WaitingRoom

    def close(self) -> None:
        """Ends the threads and the connections."""
        self.waiting.close()
        self.waker.close()
        self.engine.dispose()


def create_app() -> Flask:
    """The WSGI application, configured by the environment."""
    settings = read(GatewaySettings)
    configure_logging(service="gateway", level=settings.log_level)
    tracing.start(service="gateway", settings=settings)
    return build(settings, clock=SystemClock(), ids=system_ids()).app


def build(settings: GatewaySettings, *, clock: Clock, ids: IdSource) -> Gateway:
    """The gateway that the settings describe; ends the process with a sentence when there can be none.

    Nothing is connected, and no thread runs, before the first request.
    """
    engine = connect_engine(
        settings.database_url.get_secret_value(),
        role=ROLE,
        pool_size=settings.gateway_threads + CONNECTIONS_OF_THREADS,
        application_name="gateway",
        timeout_s=INTERACTIVE_TIMEOUT_S,
        autocommit=True,
    )
    waker, waiting = Waker(engine), WaitingRoom(engine=engine, seats=settings.waiters_max)
    apps = checked_apps(settings, production=settings.production)
    contract = openapi.document()
    services = Services(
        apps=apps,
        catalog=checked_catalog(settings),
        credentials=_credentials(apps, clock),
        limits=_limits(settings, clock),
        journal=PostgresJournal(engine=engine, waker=waker, ids=ids),
        feed=PostgresFeed(engine=engine),
        waiting=waiting,
        signatures=jws_verifier(settings, production=settings.production),
        ledger=_ledger(settings),
        notifier=_notifier(settings),
        clock=clock,
        ids=ids,
        contract=msgspec.json.encode(contract),
        reference=reference.page(contract),
    )
    return Gateway(app=_serve(services), engine=engine, waker=waker, waiting=waiting)


# ---- what operators ask, on a connection of their own ------------------------------------------------------------


def standings_of(connection: Connection, *, app: AppId, purchases: Sequence[PurchaseId]) -> list[Standing]:
    """How these purchases stand; of those that are known."""
    return standings(connection, journal.heads(connection, app=app, subjects=purchases))


def standings_of_user(connection: Connection, *, app: AppId, user_id: UserId, limit: int) -> list[Standing]:
    """How so many of a user's purchases stand, the newest first."""
    return standings(connection, journal.heads_of_user(connection, app=app, user_id=user_id, limit=limit, before=None))


# ---- what the gateway is made of ---------------------------------------------------------------------------------


def _serve(services: Services) -> Flask:
    app = Flask(__name__, static_folder=None)
    install_conventions(app, ids=services.ids)
    install_errors(app)
    install_routes(app, services=services)
    return app


def _credentials(apps: Apps, clock: Clock) -> Credentials:
    try:
        return Credentials(apps=apps, clock=clock)
    except (OSError, ValueError) as error:
        refuse(f"PURSER_APPS_FILE: client_tokens: {error}")


def _limits(settings: GatewaySettings, clock: Clock) -> Limits:
    return Limits(
        users=parse_rate(settings.rate_limit_user),
        submissions=parse_rate(settings.rate_limit_submissions),
        failures=parse_rate(settings.rate_limit_failures),
        proxies=settings.proxies(),
        clock=clock,
    )


def _ledger(settings: GatewaySettings) -> ServiceClient:
    return ServiceClient(
        service="ledger",
        url=settings.ledger_url,
        service_token=settings.service_token.get_secret_value(),
        calls_at_once=settings.gateway_threads,
        connect_timeout_s=settings.ledger_connect_timeout_s,
        read_timeout_s=settings.ledger_read_timeout_s,
    )


def _notifier(settings: GatewaySettings) -> ServiceClient:
    return ServiceClient(
        service="notifier",
        url=settings.notifier_url,
        service_token=settings.service_token.get_secret_value(),
        calls_at_once=settings.operators_max,
        connect_timeout_s=settings.notifier_connect_timeout_s,
        read_timeout_s=settings.notifier_read_timeout_s,
    )
