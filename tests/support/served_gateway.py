"""The gateway as it is really served: by Granian, in processes of its own, over a socket."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from deploy.ports import free_port
from deploy.processes import PROCESSES, WORKERS_KILL_TIMEOUT_S
from deploy.settings import StackSettings
from shared.ids import system_ids
from tests.support.gateway import EXAMPLES, SERVICE_TOKEN, Gateway, gateway_on
from tests.support.processes import killed_in_the_end
from tests.support.stack import child_environment, wait_until

TIMEOUT_S = 20
WORKERS, THREADS = 2, 4


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway that listens, and one in this process with the same App Store and database, to sign and to look."""

    address: tuple[str, int]
    twin: Gateway

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    def post(self, content: bytes | Iterator[bytes], path: str = "/v1/purchases") -> requests.Response:
        return requests.post(self.url + path, data=content, headers=self.twin.as_user(), timeout=TIMEOUT_S)


@contextmanager
def served_gateway(database_url: str, directory: Path, settings: Mapping[str, str] | None = None) -> Iterator[Served]:
    """One of two workers, once it is ready; `settings` are further variables."""
    port = free_port(bind="127.0.0.1", ids=system_ids())
    stack = StackSettings(gateway_port=port, gateway_workers=WORKERS, gateway_threads=THREADS)
    with gateway_on(database_url, directory) as twin:
        env = child_environment() | {
            "PURSER_DATABASE_URL": database_url,
            "PURSER_SERVICE_TOKEN": SERVICE_TOKEN,
            "PURSER_APPS_FILE": str(EXAMPLES / "apps.toml"),
            "PURSER_CATALOG_FILE": str(EXAMPLES / "catalog.toml"),
            "PURSER_APPLE_ROOT_FILES": str(directory / "root.der"),
            "PURSER_GATEWAY_THREADS": str(THREADS),
        }
        gateway = Served(("127.0.0.1", port), twin)
        with _listening(PROCESSES["gateway"].argv(stack), env | dict(settings or {})):
            wait_until(lambda: _is_ready(gateway), within_s=60, what="the gateway's readiness")
            yield gateway


@contextmanager
def _listening(argv: list[str], env: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL)
    with killed_in_the_end(process):
        yield
        process.terminate()
        process.wait(WORKERS_KILL_TIMEOUT_S + TIMEOUT_S)


def _is_ready(served: Served) -> bool:
    try:
        return requests.get(served.url + "/readyz", timeout=TIMEOUT_S).status_code == 200
    except requests.ConnectionError:
        return False
