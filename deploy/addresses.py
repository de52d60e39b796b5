"""Where everything is, and the PURSER_ variables that tell our processes so."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.errors import StackInvalid
from deploy.remembered import Remembered, recall
from deploy.settings import GivenStoreSettings, StackSettings, reach_of


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the running system is reached from this machine. The URLs of the servers carry their passwords."""

    gateway: str
    ledger: str
    notifier: str
    simulator: str
    flower: str
    flower_login: tuple[str, str]
    database_url: str
    broker_url: str


def addresses(settings: StackSettings, remembered: Remembered) -> Addresses:
    """Where everything is: what is given, and the embedded stack's for what is not."""
    from deploy.postgres import database_url
    from deploy.redis import broker_url

    host = reach_of(settings.bind)
    password = settings.flower_password.get_secret_value() if settings.flower_password else remembered.flower_password
    return Addresses(
        gateway=f"http://{host}:{settings.gateway_port}",
        ledger=f"http://{host}:{settings.ledger_port}",
        notifier=f"http://{host}:{settings.notifier_port}",
        simulator=f"http://{host}:{settings.simulator_port}",
        flower=f"http://{host}:{settings.flower_port}",
        flower_login=(settings.flower_user, password),
        database_url=settings.database_url.get_secret_value()
        if settings.database_url
        else database_url(port=remembered.postgres_port, password=remembered.postgres_password),
        broker_url=settings.broker_url.get_secret_value()
        if settings.broker_url
        else broker_url(port=remembered.redis_port, password=remembered.redis_password),
    )


def recalled_addresses(settings: StackSettings) -> Addresses:
    """Where everything is, for a command beside a running `purser up`.

    Raises StackInvalid where neither URLs nor an embedded stack's memory are there.
    """
    remembered = recall(settings.data_dir)
    if remembered is None and settings.database_url is None:
        raise _unknown("PURSER_DATABASE_URL", settings)
    if remembered is None and settings.broker_url is None:
        raise _unknown("PURSER_BROKER_URL", settings)
    return addresses(settings, remembered or NOTHING_REMEMBERED)


def recalled_database_url(settings: StackSettings) -> str:
    """Where the database is, for a command that needs nothing else: a container may know of no broker.

    Raises StackInvalid where neither its URL nor an embedded stack's memory is there.
    """
    remembered = recall(settings.data_dir)
    if remembered is None and settings.database_url is None:
        raise _unknown("PURSER_DATABASE_URL", settings)
    return addresses(settings, remembered or NOTHING_REMEMBERED).database_url


def _unknown(variable: str, settings: StackSettings) -> StackInvalid:
    return StackInvalid(
        f"{variable} is not set, and {settings.data_dir} holds no embedded stack: `purser up` makes one"
    )


NOTHING_REMEMBERED = Remembered(
    postgres_port=0, redis_port=0, postgres_password="", redis_password="", service_token="", flower_password=""
)


def known_environment(settings: StackSettings) -> dict[str, str]:
    """The variables of a process that is started beside a `purser up`, or without one: what is known, and no more.

    Only what is not set in our own environment; a process refuses to start when something that it needs is missing.
    """
    remembered = recall(settings.data_dir)
    files = {"PURSER_APPS_FILE": str(settings.apps_file), "PURSER_CATALOG_FILE": str(settings.catalog_file)}
    if remembered is None:
        return files
    simulator = (settings.data_dir / "simulator").exists() and not settings.production
    return environment(settings, remembered, GivenStoreSettings(), simulator=simulator)


def environment(
    settings: StackSettings, remembered: Remembered, given: GivenStoreSettings, *, simulator: bool
) -> dict[str, str]:
    """The PURSER_ variables of our processes: what was given, and for the rest the embedded stack and the simulator."""
    where = addresses(settings, remembered)
    variables = {
        "PURSER_DATABASE_URL": where.database_url,
        "PURSER_BROKER_URL": where.broker_url,
        "PURSER_SERVICE_TOKEN": settings.service_token.get_secret_value()
        if settings.service_token
        else remembered.service_token,
        "PURSER_FLOWER_PASSWORD": where.flower_login[1],
        "PURSER_DATA_DIR": str(settings.data_dir),
        "PURSER_APPS_FILE": str(settings.apps_file),
        "PURSER_CATALOG_FILE": str(settings.catalog_file),
        "PURSER_LEDGER_URL": given.ledger_url or where.ledger,
        "PURSER_NOTIFIER_URL": given.notifier_url or where.notifier,
        "PURSER_BIND": settings.bind,
        "PURSER_GATEWAY_PORT": str(settings.gateway_port),
        "PURSER_LEDGER_PORT": str(settings.ledger_port),
        "PURSER_NOTIFIER_PORT": str(settings.notifier_port),
        "PURSER_SIMULATOR_PORT": str(settings.simulator_port),
        "PURSER_FLOWER_PORT": str(settings.flower_port),
        "PURSER_FLOWER_USER": settings.flower_user,
    }
    return variables | (_simulated_store(settings, where, given) if simulator else {})


def _simulated_store(settings: StackSettings, where: Addresses, given: GivenStoreSettings) -> dict[str, str]:
    root = str(settings.data_dir / "simulator" / "root.pem")
    store = where.simulator
    return {
        "PURSER_APPLE_ROOT_FILES": ",".join(filter(None, [given.apple_root_files, root])),
        "PURSER_APPLE_VERIFY_RECEIPT_URL": given.apple_verify_receipt_url or f"{store}/verifyReceipt",
        "PURSER_APPLE_VERIFY_RECEIPT_SANDBOX_URL": given.apple_verify_receipt_sandbox_url
        or f"{store}/sandbox/verifyReceipt",
        "PURSER_APPLE_API_URL": given.apple_api_url or store,
        "PURSER_APPLE_API_SANDBOX_URL": given.apple_api_sandbox_url or f"{store}/sandbox",
        "PURSER_SIMULATOR_URL": given.simulator_url or store,
        "PURSER_SIMULATOR_WEBHOOK_URL": given.simulator_webhook_url or f"{where.gateway}/webhooks/apple",
    }
