"""The configuration as the processes would read it, and what is wrong with it. Reads variables and files, no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from deploy.addresses import known_environment
from deploy.doctor.findings import Finding, failed, ok, unchecked, warning
from deploy.errors import DeployError
from deploy.monitor import MonitorSettings
from deploy.settings import StackSettings
from gateway.settings import GatewaySettings
from ledger.settings import LedgerApiSettings, LedgerSettings
from notifier.settings import NotifierSettings
from shared.apps import Apps, AppsInvalid, load_apps
from shared.catalog import Catalog, CatalogInvalid, load_catalog
from shared.settings import (
    EXAMPLE_SECRETS,
    AppsSettings,
    BrokerSettings,
    DatabaseSettings,
    Piece,
    ProcessSettings,
    TrustSettings,
    WorkerSettings,
)
from simulator.settings import SimulatorSettings
from verifier.settings import StoreSettings, VerifierSettings

S = TypeVar("S", bound=BaseSettings)

READ_BY: Mapping[str, type[Piece]] = {
    "simulator": SimulatorSettings,
    "ledger-api": LedgerApiSettings,
    "gateway": GatewaySettings,
    "courier": WorkerSettings,
    "verifier": VerifierSettings,
    "verifier-store": VerifierSettings,
    "ledger": LedgerSettings,
    "notifier": NotifierSettings,
    "webhooks": NotifierSettings,
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
    database_url: str | None
    broker_url: str | None
    apps: Apps | None
    catalog: Catalog | None


def read_configuration(processes: Iterable[str]) -> tuple[Configuration, list[Finding]]:
    """What these processes would read, beside a `purser up` or alone; and what is wrong with it."""
    stack, problems = load(StackSettings, {})
    given: Mapping[str, str] = {}
    if stack is not None:
        try:
            given = known_environment(stack)
        except DeployError as error:
            problems.append(str(error))
    process, _ = load(ProcessSettings, given)
    production = process is not None and process.production
    names = [name for name in processes if not (production and name == "simulator")]
    findings = [_of_the_stack(problems)] if problems else []
    findings += _of_the_processes(names, given)
    files, _ = load(AppsSettings, given)
    apps, apps_finding = _apps(files)
    catalog, catalog_finding = _catalog(files)
    gateway, _ = load(GatewaySettings, given)
    store, _ = load(StoreSettings, given)
    trust, _ = load(TrustSettings, given)
    database, _ = load(DatabaseSettings, given)
    broker, _ = load(BrokerSettings, given)
    configuration = Configuration(
        production=production,
        stack=stack,
        trust=trust,
        store=store,
        ledger_url=None if gateway is None else gateway.ledger_url,
        database_url=None if database is None else database.database_url.get_secret_value(),
        broker_url=None if broker is None else broker.broker_url.get_secret_value(),
        apps=apps,
        catalog=catalog,
    )
    return configuration, [*findings, apps_finding, catalog_finding]


def load(settings_class: type[S], given: Mapping[str, str]) -> tuple[S | None, list[str]]:
    """The settings from the environment and the variables given besides, or a sentence per variable that is bad.

    `shared.settings.read` says the same, and ends the process with it.
    """
    values: dict[str, Any] = {name.removeprefix("PURSER_").lower(): value for name, value in given.items()}
    try:
        settings = settings_class(**values)
    except ValidationError as error:
        return None, [f"{_variable(problem['loc'])}: {problem['msg']}" for problem in error.errors()]
    if isinstance(settings, ProcessSettings) and settings.production:
        return settings, [f"{name} holds an example's secret, in production" for name in _examples(settings)]
    return settings, []


def _variable(location: tuple[int | str, ...]) -> str:
    return "PURSER_" + "_".join(str(part) for part in location).upper()


def _examples(settings: BaseSettings) -> list[str]:
    return [
        _variable((name,))
        for name, value in settings
        if isinstance(value, SecretStr) and any(secret in value.get_secret_value() for secret in EXAMPLE_SECRETS)
    ]


def _of_the_stack(problems: list[str]) -> Finding:
    return failed("settings", "; ".join(problems), "set the variables that are named")


def _of_the_processes(names: Iterable[str], given: Mapping[str, str]) -> list[Finding]:
    """A finding per thing that is wrong, with the processes that would not start for it; one if nothing is."""
    refused: dict[str, list[str]] = {}
    well = []
    for name in names:
        _, problems = load(READ_BY[name], given)
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
