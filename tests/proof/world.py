"""The system that is put to the proof, and the hands that are laid on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil
from pydantic import SecretStr
from sqlalchemy import Engine, create_engine

from deploy.processes import PROCESSES, Process
from deploy.settings import PROJECT, StackSettings
from deploy.stack import Parts, Stack
from deploy.supervisor import Spec, Status
from shared.clock import SystemClock
from shared.ids import system_ids
from tests.proof.backend import Backend
from tests.proof.network import PEERS, Network, network
from tests.support.stack import Servers, child_environment, own_settings, reachable_directory, running_servers
from tests.support.system import WEBHOOK_SECRET, Reached

RETRY_DELAYS_S: Final = [1, 2, 5, *([10] * 29)]
"""Of the webhooks, as an app may set them: the usual schedule's third attempt comes after five minutes."""
RECONCILE_S: Final = 30
"""How often the store is asked what never came; usually it is a quarter of an hour."""
AUDITED_WITHIN_S: Final = 600.0

_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "postgres": ("PURSER_DATABASE_URL",),
    "broker": ("PURSER_BROKER_URL",),
    "store": (
        "PURSER_APPLE_VERIFY_RECEIPT_URL",
        "PURSER_APPLE_VERIFY_RECEIPT_SANDBOX_URL",
        "PURSER_APPLE_API_URL",
        "PURSER_APPLE_API_SANDBOX_URL",
    ),
    "ledger-api": ("PURSER_LEDGER_URL",),
    "gateway": ("PURSER_SIMULATOR_WEBHOOK_URL",),
}
"""The variables that tell a process where its peers are. Where the backend is stands in the apps file."""


class RoadedStack(Stack):
    """The product's stack, whose processes reach their peers by roads of their own."""

    def __init__(self, network: Network, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._network = network

    def _process_spec(self, process: Process, env: Mapping[str, str], servers: tuple[str, ...]) -> Spec:
        roads = {
            variable: self._network.url(env[variable], process.name, peer)
            for peer, variables in _VARIABLES.items()
            if process.name in PEERS[peer]
            for variable in variables
        }
        spec = super()._process_spec(
            process, {**env, **roads, "PURSER_RECONCILE_INTERVAL_S": str(RECONCILE_S)}, servers
        )
        return replace(spec, cwd=PROJECT)


@dataclass(frozen=True, slots=True)
class World(Reached):
    """What runs. `owns_broker`: it is our Redis; otherwise one that was given, which nobody here may kill."""

    stack: Stack
    servers: Servers
    network: Network
    backend: Backend
    settings: StackSettings
    engine: Engine = field(repr=False)
    owns_broker: bool
    log_dir: Path

    @property
    def gateway(self) -> str:
        return self.stack.addresses.gateway

    @property
    def simulator(self) -> str:
        return self.stack.addresses.simulator

    # ---- its processes ------------------------------------------------------------------------------------------

    def status(self, name: str) -> Status:
        """Of a process, or of `postgres` or `redis`."""
        return next(one for one in self.statuses() if one.name == name)

    def statuses(self) -> list[Status]:
        return [*self.servers.supervisor.status(), *self.stack.status()]

    def family(self, name: str) -> list[psutil.Process]:
        """A process that runs now, and its children, itself first; empty while it is being started again."""
        pid = self.status(name).pid
        if pid is None:
            return []
        try:
            process = psutil.Process(pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    # ---- what an operator does ----------------------------------------------------------------------------------

    def rows(self, sql: str, **parameters: Any) -> list[Any]:
        """What the database says, by no road that can be cut."""
        with self.engine.connect() as connection:
            return list(connection.exec_driver_sql(sql, parameters))

    def execute(self, sql: str, **parameters: Any) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(sql, parameters)

    def purser(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command, called beside the running system."""
        addresses = self.stack.addresses
        where = {
            "PURSER_DATABASE_URL": addresses.database_url,
            "PURSER_BROKER_URL": addresses.broker_url,
            "PURSER_DATA_DIR": str(self.settings.data_dir),
            "PURSER_APPS_FILE": str(self.settings.apps_file),
        }
        return subprocess.run(
            [str(Path(sys.executable).parent / "purser"), *arguments],
            env=child_environment() | where,
            capture_output=True,
            text=True,
            timeout=AUDITED_WITHIN_S,
            check=False,
        )


@contextmanager
def running_world(
    *, broker_url: str | None = None, redelivery: bool = True, tell: Callable[[Any], None] = lambda _: None
) -> Iterator[World]:
    """The whole system, started and stopped; its data is thrown away. `tell` hears what the stack tells.

    Without `redelivery` its courier is the forgetful one.
    """
    with ExitStack() as block:
        directory = block.enter_context(reachable_directory())
        servers = block.enter_context(running_servers(_below(directory, "servers"), durable=True))
        backend = Backend(WEBHOOK_SECRET)
        backend.start()
        block.callback(backend.close)
        given = broker_url or servers.redis.url()
        settings = own_settings(
            _below(directory, "system"),
            database_url=SecretStr(servers.postgres.create_database("purser")),
            broker_url=SecretStr(given),
        )
        roads = block.enter_context(network(_upstreams(settings, servers, backend, given)))
        _write_apps(settings, roads.url(backend.url, "webhooks", "backend"))
        if not redelivery:
            block.enter_context(_forgetful_courier())
        stack = RoadedStack(
            roads, settings=settings, parts=Parts(flower=False), clock=SystemClock(), ids=system_ids(), tell=tell
        )
        block.enter_context(stack)
        stack.start()
        engine = create_engine(
            stack.addresses.database_url.replace("postgresql://", "postgresql+psycopg2://", 1), pool_pre_ping=True
        )
        block.callback(engine.dispose)
        yield World(
            stack, servers, roads, backend, settings, engine, owns_broker=broker_url is None, log_dir=stack.log_dir
        )


def _below(directory: Path, name: str) -> Path:
    """A directory that PostgreSQL's account can search, as the one above it."""
    below = directory / name
    below.mkdir(mode=0o711)
    return below


def _upstreams(
    settings: StackSettings, servers: Servers, backend: Backend, broker_url: str
) -> Mapping[str, tuple[str, int]]:
    broker = urlsplit(broker_url)
    return {
        "postgres": ("127.0.0.1", servers.postgres.port),
        "broker": (broker.hostname or "127.0.0.1", broker.port or 5672),
        "store": ("127.0.0.1", settings.simulator_port),
        "ledger-api": ("127.0.0.1", settings.ledger_port),
        "backend": ("127.0.0.1", backend.port),
        "gateway": ("127.0.0.1", settings.gateway_port),
    }


def _write_apps(settings: StackSettings, hooks_url: str) -> None:
    """The example's, with the webhooks' own road and schedule."""
    text = (PROJECT / "deploy/examples/apps.toml").read_text(encoding="utf-8")
    told = f'url = "{hooks_url}"\nretry_delays_s = {RETRY_DELAYS_S}'
    settings.apps_file.write_text(text.replace('url = "http://127.0.0.1:8091/hooks"', told), encoding="utf-8")


@contextmanager
def _forgetful_courier() -> Iterator[None]:
    """In the product's table of processes, for as long as the block lasts."""
    assert isinstance(PROCESSES, dict)
    before = PROCESSES["courier"]
    PROCESSES["courier"] = replace(
        before, argv=lambda _: [sys.executable, "-m", "deploy.call", "tests.proof.forgetful:run_courier"]
    )
    try:
        yield
    finally:
        PROCESSES["courier"] = before
