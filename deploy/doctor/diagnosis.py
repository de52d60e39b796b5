"""Which checks there are, in the order of the table; what a check needs and could not be read leaves it unchecked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from deploy.doctor.anchors import check_anchors
from deploy.doctor.apps import check_apps
from deploy.doctor.arrival import check_arrival
from deploy.doctor.broker import check_broker, check_workers
from deploy.doctor.configuration import Configuration, read_configuration
from deploy.doctor.database import check_database
from deploy.doctor.examination import LIMIT_S, Check, examine
from deploy.doctor.findings import Finding, failed, unchecked
from deploy.doctor.metrics import NAME as METRICS
from deploy.doctor.metrics import check_metrics
from deploy.doctor.network import (
    check_endpoints,
    check_flower,
    check_ocsp,
    check_server,
    check_verify_receipt,
    check_webhook_path,
)
from deploy.doctor.reconciliation import NAME as RECONCILIATION
from deploy.doctor.reconciliation import check_reconciliation
from deploy.doctor.server_api import check_server_api
from deploy.doctor.telling import NAME as TELLING
from deploy.doctor.telling import check_telling
from deploy.remembered import recall
from deploy.scraping import addresses_beside
from deploy.settings import StackSettings, reach_of
from notifier.domain.addresses import Reach
from shared.apps import App
from shared.clock import Clock
from shared.events import Environment

T = TypeVar("T")

ARRIVAL = "test notification"
UNREAD = "what it needs could not be read here"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the doctor. `gateway`: its URL, if it is not at its port on this machine."""

    processes: Sequence[str]
    gateway: str | None = None
    test_notification: bool = False
    app: str | None = None
    environments: Sequence[Environment] = ("production", "sandbox")
    wait_s: float = 60.0


def diagnose(question: Question, *, clock: Clock) -> list[Finding]:
    """Everything that was found, in the order of the table."""
    configuration, findings = read_configuration(question.processes)
    return [*findings, *examine(list(_checks(configuration, question, clock)), clock=clock)]


def _checks(known: Configuration, question: Question, clock: Clock) -> Iterable[Check]:
    yield _given(
        "apps",
        known.apps,
        lambda apps: check_apps(
            apps,
            catalog=known.catalog,
            production=known.production,
            clock=clock,
            allowed_networks=known.allowed_networks,
        ),
    )
    yield _given(
        "trust anchors",
        known.trust,
        lambda trust: check_anchors(trust, production=known.production, now=clock.now()),
    )
    yield _given("database", known.database_url, check_database)
    yield _given("broker", known.broker_url, check_broker)
    yield _given("workers", known.broker_url, check_workers)
    yield from _servers(known, question, clock)
    yield _given(
        "verifyReceipt",
        known.store,
        lambda settings: check_verify_receipt(
            [
                ("production", settings.apple_verify_receipt_url),
                ("sandbox", settings.apple_verify_receipt_sandbox_url),
            ],
            clock=clock,
        ),
    )
    for app in known.apps or ():
        yield _server_api(app, known, clock)
    yield _reconciliation(known, clock)
    if known.trust is not None and known.trust.apple_ocsp:
        yield _given("OCSP", known.store, lambda settings: check_ocsp(settings.apple_api_url))
    reach = Reach.of(production=known.production, allowed_networks=known.allowed_networks)
    yield _given("webhooks", known.apps, lambda apps: check_endpoints(apps, reach=reach))
    yield _telling(known, clock)
    if question.test_notification:
        yield from _test_notifications(known, question, clock)


def _servers(known: Configuration, question: Question, clock: Clock) -> Iterable[Check]:
    gateway = question.gateway or _ours(known.stack, "gateway_port")
    yield _given(
        "gateway",
        gateway,
        lambda url: check_server("gateway", url, clock=clock, remedy="purser run gateway, or --gateway URL"),
    )
    yield _given("notification URL", gateway, lambda url: check_webhook_path(url, clock=clock))
    yield _given(
        "ledger-api",
        known.ledger_url,
        lambda url: check_server(
            "ledger-api", url.rstrip("/"), clock=clock, remedy="purser run ledger-api, or mend PURSER_LEDGER_URL"
        ),
    )
    yield _given(
        "notifier-api",
        known.notifier_url,
        lambda url: check_server(
            "notifier-api", url.rstrip("/"), clock=clock, remedy="purser run notifier-api, or mend PURSER_NOTIFIER_URL"
        ),
    )
    yield _given("flower", _ours(known.stack, "flower_port"), lambda url: check_flower(url, clock=clock))
    if known.stack is not None and known.stack.metrics_port and recall(known.stack.data_dir) is not None:
        addresses = addresses_beside(known.stack)
        yield Check(METRICS, lambda: check_metrics(addresses))


def _ours(stack: StackSettings | None, port_setting: str) -> str | None:
    """A server of ours on this machine."""
    return None if stack is None else f"http://{reach_of(stack.bind)}:{getattr(stack, port_setting)}"


def _given(name: str, value: T | None, check: Callable[[T], Sequence[Finding]]) -> Check:
    """The check of something that could be read, or the word that it could not."""
    if value is None:
        return Check(name, lambda: [unchecked(name, UNREAD)])
    return Check(name, lambda: check(value))


def _server_api(app: App, known: Configuration, clock: Clock) -> Check:
    return _given(
        f"Server API {app.id}", known.store, lambda settings: check_server_api(app, settings=settings, clock=clock)
    )


def _reconciliation(known: Configuration, clock: Clock) -> Check:
    url = known.database_url
    if url is None:
        return Check(RECONCILIATION, lambda: [unchecked(RECONCILIATION, UNREAD)])
    return _given(RECONCILIATION, known.apps, lambda apps: check_reconciliation(apps, database_url=url, clock=clock))


def _telling(known: Configuration, clock: Clock) -> Check:
    url = known.database_url
    if url is None:
        return Check(TELLING, lambda: [unchecked(TELLING, UNREAD)])
    return _given(TELLING, known.apps, lambda apps: check_telling(apps, database_url=url, clock=clock))


def _test_notifications(known: Configuration, question: Question, clock: Clock) -> Iterable[Check]:
    if known.apps is not None and question.app is not None and question.app not in known.apps.by_id:
        yield Check(ARRIVAL, lambda: [failed(ARRIVAL, f"there is no app {question.app!r}", "one of the apps file")])
    for app in known.apps or ():
        if question.app in (None, app.id):
            for environment in question.environments:
                yield _test_notification(app, environment, known, question, clock)


def _test_notification(
    app: App, environment: Environment, known: Configuration, question: Question, clock: Clock
) -> Check:
    name = f"{ARRIVAL} {app.id} {environment}"
    settings, database_url = known.store, known.database_url
    if settings is None or database_url is None:
        return Check(name, lambda: [unchecked(name, UNREAD)])
    return Check(
        name,
        lambda: check_arrival(
            name,
            app,
            environment,
            settings=settings,
            database_url=database_url,
            wait_s=question.wait_s,
            clock=clock,
        ),
        limit_s=question.wait_s + LIMIT_S,
    )
