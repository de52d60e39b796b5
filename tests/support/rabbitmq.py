"""A real RabbitMQ for tests, one node by itself: Debian's where it is installed, else `rabbitmq:4` in a Docker engine.

It has ports, a name, a cookie and an epmd of its own, so that it disturbs no other node of the machine. What tests do
to it is what operators do, or what befalls it: `control` (rabbitmqctl), `kill`, `start`, `frozen`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from celery import Celery

from deploy.accounts import unprivileged_account
from deploy.ports import free_port
from deploy.settings import inherited_environment
from shared.bus.worker import celery_app
from shared.ids import system_ids
from tests.support.stack import child_environment, reachable_directory, wait_until

USER, PASSWORD = "purser", "of-the-broker-that-tests-start"
PROGRAMS = Path("/usr/lib/rabbitmq/bin")
"""Where Debian keeps them. Those in /usr/sbin want to be called by root, and become the account `rabbitmq`."""
IMAGE = "rabbitmq:4"
STARTS_WITHIN_S = 120
COMMAND_WITHIN_S = 90
PLENTY = "0.4"
"""vm_memory_high_watermark: RabbitMQ's own default."""
REASON = "it needs RabbitMQ, or a Docker engine: set PURSER_TEST_RABBITMQ=1"


def is_wanted() -> bool:
    """Whether this session is to start a RabbitMQ: PURSER_TEST_RABBITMQ says so."""
    return bool(inherited_environment().get("PURSER_TEST_RABBITMQ"))


class RabbitMQ(ABC):
    """One node that can be stopped and started again, and keeps its data."""

    def __init__(self) -> None:
        self.port = free_port(bind="127.0.0.1", ids=system_ids())
        self.url = f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self.port}//"

    @abstractmethod
    def control(self, *arguments: str) -> str:
        """What `rabbitmqctl …` prints. Fails with its complaint."""

    @abstractmethod
    def kill(self) -> None:
        """As when the machine's memory is gone: no goodbye."""

    @abstractmethod
    def end(self) -> None:
        """Ends it for good, with all that was started for it."""

    @abstractmethod
    def _launch(self) -> None:
        """Starts the server, which need not be ready yet."""

    @abstractmethod
    def _freeze(self) -> None: ...

    @abstractmethod
    def _thaw(self) -> None: ...

    @abstractmethod
    def log(self) -> str:
        """What the server said last."""

    def start(self) -> None:
        """Returns when it lets us in."""
        self._launch()
        try:
            wait_until(self.answers, within_s=STARTS_WITHIN_S, what="RabbitMQ's readiness")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def answers(self) -> bool:
        """Whether somebody with the login is let in."""
        app = self.app("is-it-ready")
        try:
            with app.connection_for_write() as connection:
                connection.connect()
        except (OSError, *app.connection_for_write().connection_errors):
            return False
        return True

    def app(self, name: str) -> Celery:
        """A Celery app on it."""
        return celery_app(name=name, broker_url=self.url)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It stands still, and every connection with it."""
        self._freeze()
        try:
            yield
        finally:
            self._thaw()

    @contextlib.contextmanager
    def out_of_memory(self) -> Iterator[None]:
        """Its memory alarm is on: nobody who publishes is heard."""
        self.control("set_vm_memory_high_watermark", "0.00000001")
        try:
            yield
        finally:
            self.control("set_vm_memory_high_watermark", PLENTY)

    def restart(self) -> None:
        """Killed, and started again."""
        self.kill()
        self.start()

    def forget(self) -> None:
        """As if it was new: no queue, no message, and our login again."""
        for command in (("stop_app",), ("reset",), ("start_app",)):
            self.control(*command)
        self._let_us_in()

    def close_connections(self) -> None:
        """Every connection is closed by the broker, which goes on."""
        self.control("close_all_connections", "an operator did it")

    def queues(self) -> dict[str, str]:
        """The type of each queue that is durable: `quorum`, `classic`."""
        rows = [line.split("\t") for line in self.control("list_queues", "name", "type", "durable").splitlines()]
        return {
            name: kind.removeprefix("rabbit_").removesuffix("_queue")
            for name, kind, durable in rows
            if durable == "true"
        }

    def exchanges(self) -> set[str]:
        """Those that are not RabbitMQ's own."""
        names = self.control("list_exchanges", "name").splitlines()
        return {name for name in names if name and not name.startswith("amq.")}

    def depth(self, queue: str) -> int:
        """Messages that wait in a queue."""
        with self.app("depth").connection_for_write() as connection:
            return int(connection.default_channel.queue_declare(queue=queue, passive=True).message_count)

    def version(self) -> tuple[int, int]:
        """Major and minor."""
        major, minor, *_ = self.control("version").strip().split(".")
        return int(major), int(minor)

    def _let_us_in(self) -> None:
        known = [line.split("\t")[0] for line in self.control("list_users").splitlines()]
        if USER not in known:
            self.control("add_user", USER, PASSWORD)
        self.control("set_permissions", USER, ".*", ".*", ".*")


class Installed(RabbitMQ):
    """Debian's package, as a node below a directory of its own, run by an account that is not root."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._account: Any = {}
        ids, given = system_ids(), {self.port}
        self._epmd_port = free_port(bind="127.0.0.1", ids=ids, besides=given)
        distribution = free_port(bind="127.0.0.1", ids=ids, besides={*given, self._epmd_port})
        self._log = directory / "rabbitmq.log"
        self._directory = directory
        (directory / "rabbitmq.conf").write_text("loopback_users = none\n", encoding="utf-8")
        (directory / "enabled_plugins").write_text("[].\n", encoding="utf-8")
        self._environment = {
            **child_environment(),
            "HOME": str(directory),  # the cookie lies there
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"purser-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_DEFAULT_USER": USER,
            "RABBITMQ_DEFAULT_PASS": PASSWORD,
        }
        if (account := unprivileged_account()) is not None:
            self._account = account.popen_arguments()
            os.chown(directory, account.uid, account.gid)
        self._epmd = self._popen("epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1")
        self._server: subprocess.Popen[bytes] | None = None

    def control(self, *arguments: str) -> str:
        return _printed([str(PROGRAMS / "rabbitmqctl"), "--quiet", *_without_headers(arguments)], **self._as_it_runs())

    def kill(self) -> None:
        server = self._server
        if server is not None:
            for member in self._family():
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            server.wait(COMMAND_WITHIN_S)
        self._server = None

    def end(self) -> None:
        self.kill()
        self._epmd.kill()
        self._epmd.wait(COMMAND_WITHIN_S)

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]

    def _launch(self) -> None:
        self._server = self._popen(str(PROGRAMS / "rabbitmq-server"))

    def _freeze(self) -> None:
        for member in self._family():
            member.suspend()

    def _thaw(self) -> None:
        for member in self._family():
            member.resume()

    def _family(self) -> list[psutil.Process]:
        """The script that starts it, the virtual machine, and what that has started."""
        assert self._server is not None
        script = psutil.Process(self._server.pid)
        return [script, *script.children(recursive=True)]

    def _popen(self, *command: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **self._as_it_runs()
            )

    def _as_it_runs(self) -> dict[str, Any]:
        return {"env": self._environment, "cwd": self._directory, **self._account}


class Contained(RabbitMQ):
    """The image, in a container of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.name = f"purser-test-rabbitmq-{self.port}"
        login = ("--env", f"RABBITMQ_DEFAULT_USER={USER}", "--env", f"RABBITMQ_DEFAULT_PASS={PASSWORD}")
        port = f"127.0.0.1:{self.port}:5672"
        _docker("create", "--name", self.name, "--hostname", "rabbitmq", "--publish", port, *login, IMAGE)

    def control(self, *arguments: str) -> str:
        return _docker("exec", self.name, "rabbitmqctl", "--quiet", *_without_headers(arguments))

    def kill(self) -> None:
        _docker("kill", self.name)

    def end(self) -> None:
        _docker("rm", "--force", "--volumes", self.name)

    def log(self) -> str:
        return _docker("logs", "--tail", "60", self.name)

    def _launch(self) -> None:
        _docker("start", self.name)

    def _freeze(self) -> None:
        _docker("pause", self.name)

    def _thaw(self) -> None:
        _docker("unpause", self.name)


@contextlib.contextmanager
def running_rabbitmq() -> Iterator[RabbitMQ]:
    """One that is ready, and nobody else's. Ended with all that it has."""
    with reachable_directory() as directory:
        node: RabbitMQ = Installed(directory) if (PROGRAMS / "rabbitmq-server").exists() else Contained()
        try:
            node.start()
            yield node
        finally:
            node.end()


def _without_headers(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """A list is a table for programs then."""
    return (*arguments, "--no-table-headers") if arguments[0].startswith("list_") else arguments


def _docker(*arguments: str) -> str:
    return _printed(["docker", *arguments], env=child_environment())


def _printed(command: list[str], **how: Any) -> str:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_WITHIN_S,
        check=False,
        **how,
    )
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return str(done.stdout)
