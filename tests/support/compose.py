"""docker-compose.yml, run for real: a project of its own, on free ports, with a receiver of webhooks outside of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.ports import free_port
from deploy.settings import PROJECT, inherited_environment
from shared.ids import system_ids
from tests.support.receiver import Receiver, receiving
from tests.support.stack import child_environment, wait_until
from tests.support.system import WEBHOOK_SECRET, Reached

BUILD_AND_START_WITHIN_S = 900
COMMAND_WITHIN_S = 180
HEALTHY_WITHIN_S = 150
FLOWER_LOGIN = ("purser", "example-only-password-change-me")
PRIVATE_NETWORKS = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"
LABEL = "com.docker.compose.project"


def is_wanted() -> bool:
    """Whether this session is to use Docker: PURSER_TEST_COMPOSE says so."""
    return bool(inherited_environment().get("PURSER_TEST_COMPOSE"))


def is_short() -> bool:
    """Whether a part of it is enough: PURSER_TEST_COMPOSE=short."""
    return inherited_environment().get("PURSER_TEST_COMPOSE") == "short"


class Composed(Reached):
    """One project. Its containers, volumes and networks are called after it, so that it disturbs nobody's."""

    def __init__(self, *, receiver: Receiver, apps_file: Path, beside: Sequence[str] = ()) -> None:
        self.name = f"purser-test-{system_ids().uuid().hex[:8]}"
        self.receiver = receiver
        self._ports = _free_ports(
            "PURSER_GATEWAY_PORT",
            "PURSER_SIMULATOR_PORT",
            "PURSER_FLOWER_PORT",
            "PURSER_PROMETHEUS_PORT",
            "PURSER_GRAFANA_PORT",
        )
        self._env = {
            **child_environment(),
            "COMPOSE_PROJECT_NAME": self.name,
            "COMPOSE_FILE": os.pathsep.join(["docker-compose.yml", *beside]),
            "PURSER_IMAGE": self.name,
            "PURSER_APPS_FILE": str(apps_file),
            "PURSER_WEBHOOK_ALLOWED_NETWORKS": PRIVATE_NETWORKS,  # this machine is in one of them
            **{variable: str(port) for variable, port in self._ports.items()},
        }

    @property
    def gateway(self) -> str:
        return f"http://127.0.0.1:{self._ports['PURSER_GATEWAY_PORT']}"

    @property
    def simulator(self) -> str:
        return f"http://127.0.0.1:{self._ports['PURSER_SIMULATOR_PORT']}"

    @property
    def flower(self) -> str:
        return f"http://127.0.0.1:{self._ports['PURSER_FLOWER_PORT']}"

    @property
    def prometheus(self) -> str:
        """Where it is with the profile `observability` (tests/support/watched.py)."""
        return f"http://127.0.0.1:{self._ports['PURSER_PROMETHEUS_PORT']}"

    @property
    def grafana(self) -> str:
        return f"http://127.0.0.1:{self._ports['PURSER_GRAFANA_PORT']}"

    def up(self) -> None:
        """Builds, starts, and waits until everything is healthy."""
        limit = str(BUILD_AND_START_WITHIN_S)
        self.run("up", "--build", "--wait", "--wait-timeout", limit, within_s=BUILD_AND_START_WITHIN_S)

    def down(self) -> None:
        """Removes all of it, of whatever profile, and the image too. Fails when something is left."""
        self.run("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "30")
        left = [
            *_docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}={self.name}", env=self._env).split(),
            *_docker("volume", "ls", "--quiet", "--filter", f"label={LABEL}={self.name}", env=self._env).split(),
            *_docker("network", "ls", "--quiet", "--filter", f"label={LABEL}={self.name}", env=self._env).split(),
        ]
        assert not left, f"`docker compose down` left {left}"
        with contextlib.suppress(AssertionError):  # it was never built
            _docker("image", "rm", self.name, env=self._env)

    def services(self) -> list[str]:
        """The names in the file."""
        return self.run("config", "--services").split()

    def restart(self, service: str) -> None:
        """Restarts a service, and waits until it is healthy again."""
        self.run("restart", service)
        try:
            wait_until(
                lambda: self._health(service)["Status"] == "healthy",
                within_s=HEALTHY_WITHIN_S,
                what=f"{service} healthy",
            )
        except AssertionError as error:
            checks = json.dumps(self._health(service), indent=1)
            raise AssertionError(f"{error}\n{checks}\n{self.logs(service)}") from None

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker knows of the service's container."""
        container = self.run("ps", "--all", "--quiet", service).strip()
        described: list[dict[str, Any]] = json.loads(_docker("inspect", container, env=self._env))
        return described[0]

    def image_description(self) -> str:
        """What Docker tells anybody of our image: its configuration and how each layer came to be."""
        history = _docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", self.name, env=self._env)
        return _docker("image", "inspect", self.name, env=self._env) + history

    def logs(self, *services: str, tail: int = 60) -> str:
        """The last lines of these services; of all of them, when none is named."""
        return self.run("logs", "--no-color", "--tail", str(tail), *services)

    def run(self, *arguments: str, within_s: float = COMMAND_WITHIN_S) -> str:
        """`docker compose …`: what it printed. Fails with its complaint."""
        return _docker("compose", *arguments, env=self._env, within_s=within_s)

    def _health(self, service: str) -> dict[str, Any]:
        health: dict[str, Any] = self.inspect(service)["State"]["Health"]
        return health


@contextlib.contextmanager
def composed(*beside: str) -> Iterator[Composed]:
    """The whole system, healthy; removed at the end. What it had to say comes with what goes wrong at the start.

    `beside`: the files that come after docker-compose.yml.
    """
    # the containers reach the receiver by this machine's own address in their network
    with tempfile.TemporaryDirectory() as name, receiving(WEBHOOK_SECRET, bind="0.0.0.0") as receiver:  # noqa: S104
        directory = Path(name)
        directory.chmod(0o755)  # for the account in the containers
        project = Composed(receiver=receiver, apps_file=_apps_file(directory, receiver), beside=beside)
        try:
            try:
                project.up()
            except AssertionError as error:
                raise AssertionError(f"{error}\n{project.logs()}") from None
            yield project
        finally:
            project.down()


def _apps_file(directory: Path, receiver: Receiver) -> Path:
    """The example's, with webhooks to the receiver."""
    example = (PROJECT / "deploy/examples/apps.toml").read_text(encoding="utf-8")
    file = directory / "apps.toml"
    url = f"http://host.docker.internal:{receiver.port}/hooks"
    file.write_text(example.replace("http://127.0.0.1:8091/hooks", url), encoding="utf-8")
    return file


def _free_ports(*names: str) -> dict[str, int]:
    ports: dict[str, int] = {}
    for name in names:
        ports[name] = free_port(bind="127.0.0.1", ids=system_ids(), besides=set(ports.values()))
    return ports


def _docker(*arguments: str, env: Mapping[str, str], within_s: float = COMMAND_WITHIN_S) -> str:
    done = subprocess.run(
        ["docker", *arguments],
        cwd=PROJECT,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    command = " ".join(("docker", *arguments))
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout
