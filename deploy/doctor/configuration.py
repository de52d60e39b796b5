"""The configuration as the processes would read it, and what is wrong with it. Reads variables and files, no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deploy.addresses import known_environment
from deploy.doctor.findings import Finding, failed, ok, unchecked, warning
from deploy.errors import DeployError
from deploy.monitor import MonitorSettings
from deploy.settings import StackSettings
from gateway.settings import GatewaySettings
from ledger.settings import LedgerApiSettings, LedgerSchedulerSettings, LedgerSettings
from notifier.domain.addresses import IpNetwork
from notifier.settings import EndpointsSettings, NotifierApiSettings, NotifierSettings, WebhooksSettings
from shared.apps import Apps, AppsInvalid, load_apps
from shared.catalog import Catalog, CatalogInvalid, load_catalog
from shared.settings import (
    AppsSettings,
    BrokerSettings,
    CourierSettings,
    DatabaseSettings,
    Piece,
    ProcessSettings,
    TrustSettings,
    examine,
)
from simulator.settings import SimulatorSettings
from verifier.settings import ReconcilerSettings, StoreSettings, VerifierSettings

READ_BY: Mapping[str, type[Piece]] = {
    "simulator": SimulatorSettings,
    "ledger-api": LedgerApiSettings,
    "notifier-api": NotifierApiSettings,
    "gateway": GatewaySettings,
    "courier": CourierSettings,
    "verifier": VerifierSettings,
    "verifier-store": VerifierSettings,
    "verifier-lookups": VerifierSettings,
    "reconciler": ReconcilerSettings,
    "ledger": LedgerSettings,
    "ledger-scheduler": LedgerSchedulerSettings,
    "notifier": NotifierSettings,
    "webhooks": WebhooksSettings,
    "flower": MonitorSettings,
}
"""Which settings each process of `deploy.processes` reads when it starts."""

OPTIONAL = {"flower"}
"""What an installation may do without."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What could be read. None: it could not, and the finding that says why is in the list beside it."""

    production: bool
    stack: StackSettings | None
    trust: TrustSettings | None
    store: StoreSettings | None
    ledger_url: str | None
    notifier_url: str | None
    database_url: str | None
    broker_url: str | None
    allowed_networks: tuple[IpNetwork, ...]
    apps: Apps | None
    catalog: Catalog | None


def read_configuration(processes: Iterable[str]) -> tuple[Configuration, list[Finding]]:
    """What these processes would read, beside a `purser up` or alone; and what is wrong with it."""
    stack, problems = examine(StackSettings)
    given: Mapping[str, str] = {}
    if stack is not None:
        try:
            given = known_environment(stack)
        except DeployError as error:
            problems.append(str(error))
    process, _ = examine(ProcessSettings, given)
    production = process is not None and process.production
    names = [name for name in processes if not (production and name == "simulator")]
    findings = [_of_the_stack(problems)] if problems else []
    findings += _of_the_processes(names, given)
    files, _ = examine(AppsSettings, given)
    apps, apps_finding = _apps(files)
    catalog, catalog_finding = _catalog(files)
    gateway, _ = examine(GatewaySettings, given)
    store, _ = examine(StoreSettings, given)
    trust, _ = examine(TrustSettings, given)
    database, _ = examine(DatabaseSettings, given)
    broker, _ = examine(BrokerSettings, given)
    endpoints, _ = examine(EndpointsSettings, given)
    configuration = Configuration(
        production=production,
        stack=stack,
        trust=trust,
        store=store,
        ledger_url=None if gateway is None else gateway.ledger_url,
        notifier_url=None if gateway is None else gateway.notifier_url,
        database_url=None if database is None else database.database_url.get_secret_value(),
        broker_url=None if broker is None else broker.broker_url.get_secret_value(),
        allowed_networks=() if endpoints is None else endpoints.allowed_networks(),
        apps=apps,
        catalog=catalog,
    )
    return configuration, [*findings, apps_finding, catalog_finding]


def _of_the_stack(problems: list[str]) -> Finding:
    return failed("settings", "; ".join(problems), "set the variables that are named")


def _of_the_processes(names: Iterable[str], given: Mapping[str, str]) -> list[Finding]:
    """A finding per thing that is wrong, with the processes that would not start for it; one if nothing is."""
    refused: dict[str, list[str]] = {}
    well = []
    for name in names:
        _, problems = examine(READ_BY[name], given)
        for problem in problems:
            refused.setdefault(problem, []).append(name)
        if not problems:
            well.append(name)
    wrong = [_refused(problem, needed_by) for problem, needed_by in refused.items()]
    return [*wrong, *([ok("settings", f"complete for {', '.join(well)}")] if well else [])]


def _refused(problem: str, needed_by: list[str]) -> Finding:
    say = warning if set(needed_by) <= OPTIONAL else failed
    return say("settings", problem, f"set it for {', '.join(needed_by)}")


def _apps(files: AppsSettings | None) -> tuple[Apps | None, Finding]:
    if files is None:
        return None, unchecked("apps file", "the settings cannot be read")
    try:
        apps = load_apps(files.apps_file)
    except AppsInvalid as error:
        return None, failed("apps file", str(error), "mend the file that PURSER_APPS_FILE names")
    return apps, ok("apps file", f"{files.apps_file}: {', '.join(apps.by_id)}")


def _catalog(files: AppsSettings | None) -> tuple[Catalog | None, Finding]:
    if files is None:
        return None, unchecked("catalogue", "the settings cannot be read")
    try:
        catalog = load_catalog(files.catalog_file)
    except CatalogInvalid as error:
        return None, failed("catalogue", str(error), "mend the file that PURSER_CATALOG_FILE names")
    return catalog, ok("catalogue", f"{files.catalog_file}: {len(catalog.products)} products")
