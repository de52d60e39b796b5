"""Real servers for tests: one PostgreSQL and one Redis per test session, in a directory of its own, on free ports.

Nothing here is shared with a `purser up` that runs beside it. The supervisor that runs them is the product's own, so a
test session that is killed leaves no server behind either.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Pause

from deploy.binaries import Choice
from deploy.ports import free_port
from deploy.postgres import PostgresServer, prepare_postgres
from deploy.redis import RedisServer, prepare_redis
from deploy.settings import PROJECT, StackSettings, inherited_environment
from deploy.supervisor import Event, Supervisor
from shared.clock import SystemClock
from shared.ids import system_ids

TEMPLATE_DATABASE = "migrated"
PASSWORD = "of-the-servers-that-tests-start"


@dataclass
class Servers:
    """A PostgreSQL and a Redis that run."""

    postgres: PostgresServer
    redis: RedisServer
    supervisor: Supervisor
    events: list[Event]
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _template_is_made: bool = False

    def empty_database(self) -> str:
        """The URL of a new database with nothing in it."""
        return self.postgres.create_database(f"empty_{next(self._numbers)}")

    def migrated_database(self) -> str:
        """The URL of a new database, migrated: a copy of one that is migrated once."""
        if not self._template_is_made:
            from deploy.migrate import migrate

            migrate(self.postgres.create_database(TEMPLATE_DATABASE))
            self._template_is_made = True
        return self.postgres.create_database(f"test_{next(self._numbers)}", template=TEMPLATE_DATABASE)


@contextlib.contextmanager
def running_servers(
    data_dir: Path, *, choice: Choice = "auto", durable: bool = False, log_dir: Path | None = None
) -> Iterator[Servers]:
    """Starts both below `data_dir` and stops them at the end. Volatile by default: their data is thrown away."""
    ids = system_ids()
    env = child_environment()
    postgres_port = free_port(bind="127.0.0.1", ids=ids)
    redis_port = free_port(bind="127.0.0.1", ids=ids, besides={postgres_port})
    postgres = prepare_postgres(
        data_dir=data_dir, choice=choice, port=postgres_port, password=PASSWORD, env=env, durable=durable
    )
    redis = prepare_redis(data_dir=data_dir, choice=choice, port=redis_port, password=PASSWORD)
    events: list[Event] = []
    supervisor = Supervisor(log_dir=log_dir or data_dir / "logs", clock=SystemClock(), on_event=events.append)
    with supervisor:
        supervisor.start([postgres.spec(env=env), redis.spec(env=env)])
        yield Servers(postgres=postgres, redis=redis, supervisor=supervisor, events=events)


@contextlib.contextmanager
def reachable_directory() -> Iterator[Path]:
    """A temporary directory that every account can search: where root runs the tests, PostgreSQL is not root.

    Not below pytest's own, which each pytest session closes to everybody but its owner.
    """
    with tempfile.TemporaryDirectory(prefix="purser-test-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o711)
        yield directory


def child_environment() -> dict[str, str]:
    """What a child process needs of ours: where programs are, and no PURSER_ variable."""
    return {name: value for name, value in inherited_environment().items() if not name.startswith("PURSER_")}


def wait_until(condition: Callable[[], bool], *, within_s: float = 30.0, what: str = "the condition") -> None:
    """Waits for a condition; fails the test when it has not come true within the limit."""
    clock = SystemClock()
    deadline = clock.monotonic() + within_s
    pause = Pause()
    while not condition():
        if clock.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within_s:g} s")
        pause.wait(0.02)


def own_settings(data_dir: Path, **values: object) -> StackSettings:
    """Settings with free ports everywhere, and the example app with its webhook at a free port too."""
    ids = system_ids()
    given: list[int] = []
    for _ in range(6):
        given.append(free_port(bind="127.0.0.1", ids=ids, besides=given))
    gateway, ledger, notifier, simulator, flower, hooks = given
    apps_file = data_dir / "apps.toml"
    shutil.copy(PROJECT / "deploy/examples/AuthKey_EXAMPLE.p8", data_dir)  # the apps file names it, beside itself
    apps_file.write_text((PROJECT / "deploy/examples/apps.toml").read_text().replace(":8091/", f":{hooks}/"))
    ports = {
        "gateway_port": gateway,
        "ledger_port": ledger,
        "notifier_port": notifier,
        "simulator_port": simulator,
        "flower_port": flower,
    }
    return StackSettings(**{"data_dir": data_dir, "apps_file": apps_file, **ports, **values})  # type: ignore[arg-type]


def as_environment(settings: StackSettings) -> dict[str, str]:
    """The PURSER_ variables that say what these settings say."""
    ports = ("gateway_port", "ledger_port", "notifier_port", "simulator_port", "flower_port")
    names = ("data_dir", "apps_file", *ports, "metrics_port", "embedded")
    urls = {"DATABASE": settings.database_url, "BROKER": settings.broker_url}
    return {f"PURSER_{name.upper()}": str(getattr(settings, name)) for name in names} | {
        f"PURSER_{name}_URL": url.get_secret_value() for name, url in urls.items() if url is not None
    }
