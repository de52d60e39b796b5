"""The whole system on one machine: its own PostgreSQL and Redis where no URL is given, and every process of ours.

`Stack` is what `purser up` runs and what the whole-system tests run; it prints nothing, it tells.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from deploy.addresses import Addresses, addresses, environment
from deploy.errors import DataInvalid, StackInvalid, StackUnavailable
from deploy.lock import DirectoryLock
from deploy.ports import FixedPort, free_port, is_free, require_free
from deploy.probes import answers_http
from deploy.processes import PROCESSES, Http, Process, metrics_ports
from deploy.remembered import Remembered, invent, recall, remember
from deploy.settings import GivenStoreSettings, StackSettings, environment_with, inherited_environment, reach_of
from deploy.supervisor import Event, Spec, Status, Supervisor
from shared.clock import Clock
from shared.ids import IdSource

if TYPE_CHECKING:
    from deploy.postgres import PostgresServer
    from deploy.redis import RedisServer

EMBEDDED_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence for the user."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Began:
    """A step that is no process of ours began: `making PostgreSQL's data`, say."""

    step: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The step that began last has ended well."""

    step: str
    after_s: float


Told = Event | Note | Began | Finished


@dataclass(frozen=True, slots=True)
class Parts:
    """Which of the optional processes are wanted."""

    simulator: bool = True
    flower: bool = True

    def names(self) -> list[str]:
        wanted = {"simulator": self.simulator, "flower": self.flower}
        return [name for name in PROCESSES if wanted.get(name, True)]


class Stack:
    """Starts everything with `start`, stops everything with `stop` (or at the end of its context)."""

    def __init__(
        self,
        *,
        settings: StackSettings,
        parts: Parts,
        clock: Clock,
        ids: IdSource,
        tell: Callable[[Told], None],
        durable: bool = True,
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._clock = clock
        self._ids = ids
        self._tell = tell
        self._durable = durable
        self._lock: DirectoryLock | None = None
        self._supervisor: Supervisor | None = None
        self._addresses: Addresses | None = None
        self.postgres: PostgresServer | None = None
        self.redis: RedisServer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def addresses(self) -> Addresses:
        """Where everything is, once it has started."""
        assert self._addresses is not None, "start() first"
        return self._addresses

    @property
    def log_dir(self) -> Path:
        return self._settings.data_dir / "logs"

    def status(self) -> list[Status]:
        """What every process is doing."""
        return self._supervisor.status() if self._supervisor is not None else []

    def claim(self) -> DirectoryLock:
        """Makes the data directory this stack's alone, until `stop`; `start` does it where it was not done before.

        Raises DeployError with a sentence.
        """
        if self._lock is None:
            _check(self._settings, self._parts)
            self._make_data_dir()
            self._lock = DirectoryLock(self._settings.data_dir, clock=self._clock, tell=self._note)
        return self._lock

    def start(self) -> None:
        """Returns when every process is ready.

        Raises DeployError with a sentence, or KeyboardInterrupt's like from a signal handler; `stop` cleans up.
        """
        lock = self.claim()
        require_free(self._our_ports(), bind=self._settings.bind)
        remembered = self._remembered()
        self._supervisor = Supervisor(
            log_dir=self.log_dir, clock=self._clock, on_event=self._tell, keep_open=(lock.descriptor,)
        )
        self._start_servers(remembered, self._supervisor)
        self._addresses = addresses(self._settings, remembered)
        with self._step("database migrated"):
            _migrate(self._addresses.database_url)
        self._supervisor.start(self._process_specs(remembered))

    def stop(self) -> None:
        """Stops everything. Returns when no process is left."""
        if self._supervisor is not None:
            self._supervisor.stop()
        if self._lock is not None:
            self._lock.release()

    # ---- the servers --------------------------------------------------------------------------------------------

    def _start_servers(self, remembered: Remembered, supervisor: Supervisor) -> None:
        env = inherited_environment()
        specs = []
        if self._settings.database_url is None:
            self.postgres = self._prepare_postgres(remembered, env)
            specs.append(self.postgres.spec(env=env))
        if self._settings.broker_url is None:
            self.redis = self._prepare_redis(remembered)
            specs.append(self.redis.spec(env=env))
        supervisor.start(specs)
        if self.postgres is not None:
            self.postgres.create_database()

    def _prepare_postgres(self, remembered: Remembered, env: Mapping[str, str]) -> PostgresServer:
        from deploy.postgres import prepare_postgres

        with self._step("PostgreSQL's data in place"):
            server = prepare_postgres(
                data_dir=self._settings.data_dir,
                choice=self._settings.embedded,
                port=remembered.postgres_port,
                password=remembered.postgres_password,
                env=env,
                durable=self._durable,
            )
        for sentence in server.notes:
            self._note(sentence)
        self._note(f"PostgreSQL {server.binaries.version} ({server.binaries.source}), data in {server.data}")
        return server

    def _prepare_redis(self, remembered: Remembered) -> RedisServer:
        from deploy.redis import prepare_redis

        server = prepare_redis(
            data_dir=self._settings.data_dir,
            choice=self._settings.embedded,
            port=remembered.redis_port,
            password=remembered.redis_password,
        )
        name = "Valkey" if "valkey" in server.binaries.program.name else "Redis"
        self._note(f"{name} {server.binaries.version} ({server.binaries.source}), data in {server.data}")
        return server

    def _remembered(self) -> Remembered:
        """What the last start used, with another port for one that somebody has taken since."""

        fixed = {port.port for port in self._our_ports()}

        def unused(*besides: int) -> int:
            return free_port(bind=EMBEDDED_HOST, ids=self._ids, besides={*besides, *fixed})

        data_dir = self._settings.data_dir
        known = recall(data_dir)
        if known is None and (data_dir / "postgres").exists():
            raise DataInvalid(
                f"{data_dir} holds PostgreSQL's data, and not the file with its password (embedded.json): "
                "restore that file from a copy, or move the directory away"
            )
        known = known or invent(ids=self._ids, free_port=unused)
        for name in ("postgres_port", "redis_port"):
            if not is_free(bind=EMBEDDED_HOST, port=getattr(known, name)) or known.postgres_port == known.redis_port:
                known = known.with_port(name, unused(known.postgres_port, known.redis_port))
        remember(data_dir, known)
        return known

    # ---- the processes ------------------------------------------------------------------------------------------

    def _processes(self) -> list[Process]:
        return [PROCESSES[name] for name in self._parts.names()]

    def _our_ports(self) -> list[FixedPort]:
        served = [
            FixedPort(one.http.port(self._settings), one.purpose, f"set {one.http.variable} to another port")
            for one in self._processes()
            if one.http is not None
        ]
        told = [
            FixedPort(
                port, f"the metrics of {name}", "set PURSER_METRICS_PORT to another port, with free ones after it"
            )
            for name, port in self.metrics_ports().items()
        ]
        return [*served, *told]

    def metrics_ports(self) -> dict[str, int]:
        """Where the metrics of each process are; none without PURSER_METRICS_PORT."""
        return metrics_ports(self._parts.names(), self._settings)

    def _process_specs(self, remembered: Remembered) -> list[Spec]:
        env = environment_with(
            environment(self._settings, remembered, GivenStoreSettings(), simulator=self._parts.simulator)
        )
        servers = tuple(name for name, own in (("postgres", self.postgres), ("redis", self.redis)) if own is not None)
        return [self._process_spec(process, env, servers) for process in self._processes()]

    def _process_spec(self, process: Process, env: Mapping[str, str], servers: tuple[str, ...]) -> Spec:
        heartbeat = None if process.http else self._settings.data_dir / "heartbeats" / process.name
        if heartbeat is not None:
            heartbeat.parent.mkdir(exist_ok=True)
            env = {**env, "PURSER_HEARTBEAT_FILE": str(heartbeat)}
        env = {**env, "PURSER_METRICS_PORT": str(self.metrics_ports().get(process.name, 0))}
        return Spec(
            name=process.name,
            argv=process.argv(self._settings),
            env=env,
            cwd=Path.cwd(),
            ready=self._http_probe(process.http) if process.http else None,
            ready_file=heartbeat,
            depends_on=(*servers, *(name for name in process.after if name in self._parts.names())),
            stop_within_s=30,
        )

    def _http_probe(self, http: Http) -> Callable[[], bool]:
        host, port = reach_of(self._settings.bind), http.port(self._settings)
        return lambda: answers_http(host=host, port=port, path=http.ready_path)

    # ---- telling ------------------------------------------------------------------------------------------------

    def _note(self, sentence: str) -> None:
        self._tell(Note(sentence))

    @contextmanager
    def _step(self, step: str) -> Iterator[None]:
        began = self._clock.monotonic()
        self._tell(Began(step))
        yield
        self._tell(Finished(step, after_s=self._clock.monotonic() - began))

    def _make_data_dir(self) -> None:
        data_dir = self._settings.data_dir
        try:
            data_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise DataInvalid(f"PURSER_DATA_DIR: {data_dir} cannot be made: {error.strerror}") from error
        if not os.access(data_dir, os.W_OK | os.X_OK):
            raise DataInvalid(f"PURSER_DATA_DIR: {data_dir} cannot be written by this account")


def _check(settings: StackSettings, parts: Parts) -> None:
    if settings.production and parts.simulator:
        raise StackInvalid(
            "PURSER_PRODUCTION is set, and the simulated App Store hands out goods for nothing: add --no-simulator"
        )


def _migrate(database_url: str) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    from deploy.migrate import migrate

    try:
        migrate(database_url)
    except SQLAlchemyError as error:
        raise StackUnavailable(f"PURSER_DATABASE_URL: the database cannot be migrated: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
