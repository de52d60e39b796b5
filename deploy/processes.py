"""Every process of the system: how it is started, and how one sees that it is ready. One line each, in one table.

`purser run NAME` becomes one of these; `purser up` runs all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deploy.settings import StackSettings

BACKLOG = 1024
"""Connections that may wait; Granian hands each worker its share of them."""

WORKERS_KILL_TIMEOUT_S = 10
"""What a server's workers may still take when it stops; less than the supervisor grants the server itself."""


@dataclass(frozen=True, slots=True)
class Http:
    """A process that listens: the setting that holds its port, and the path that answers 200 once it is ready."""

    port_setting: str
    ready_path: str

    def port(self, settings: StackSettings) -> int:
        return int(getattr(settings, self.port_setting))

    @property
    def variable(self) -> str:
        return f"PURSER_{self.port_setting.upper()}"


@dataclass(frozen=True, slots=True)
class Process:
    """One process. With `http` it is ready when it answers there; without, when it touches its heartbeat file.

    `after` are processes whose files it reads when it starts.
    """

    name: str
    purpose: str
    argv: Callable[[StackSettings], list[str]]
    http: Http | None = None
    after: tuple[str, ...] = ()


def _served(target: str, http: Http, *, workers: int, threads: int, settings: StackSettings) -> list[str]:
    options = {
        "--host": settings.bind,
        "--port": str(http.port(settings)),
        "--interface": "wsgi",
        "--http": "1",
        "--workers": str(workers),
        "--blocking-threads": str(threads),
        "--backlog": str(BACKLOG),
        "--backpressure": str(max(BACKLOG // workers, threads)),
        "--workers-kill-timeout": str(WORKERS_KILL_TIMEOUT_S),
        "--log-level": "warning",
    }
    words = [word for option in options.items() for word in option]
    granian = [sys.executable, "-m", "deploy.serve", *words]
    return [*granian, "--no-ws", "--no-access-log", "--respawn-failed-workers", "--factory", target]


def _called(function: str) -> Callable[[StackSettings], list[str]]:
    """A process that is one function of ours, named `module:function`."""
    return lambda _: [sys.executable, "-m", "deploy.call", function]


GATEWAY = Http("gateway_port", "/readyz")
LEDGER_API = Http("ledger_port", "/readyz")
NOTIFIER_API = Http("notifier_port", "/readyz")
SIMULATOR = Http("simulator_port", "/healthz")
FLOWER = Http("flower_port", "/healthcheck")

PROCESSES: Mapping[str, Process] = {
    process.name: process
    for process in (
        Process(
            "simulator",
            "the simulated App Store",
            lambda settings: _served(
                "simulator.app:create_app", SIMULATOR, workers=1, threads=settings.simulator_threads, settings=settings
            ),
            http=SIMULATOR,
        ),
        Process(
            "ledger-api",
            "the ledger's internal API",
            lambda settings: _served("ledger.app:create_api", LEDGER_API, workers=1, threads=8, settings=settings),
            http=LEDGER_API,
        ),
        Process(
            "notifier-api",
            "the notifier's internal API",
            lambda settings: _served("notifier.app:create_api", NOTIFIER_API, workers=1, threads=8, settings=settings),
            http=NOTIFIER_API,
        ),
        Process(
            "gateway",
            "the gateway",
            lambda settings: _served(
                "gateway.app:create_app",
                GATEWAY,
                workers=settings.gateway_workers,
                threads=settings.gateway_threads,
                settings=settings,
            ),
            http=GATEWAY,
            after=("simulator",),  # its root certificate
        ),
        Process("courier", "hands events over to the broker", _called("shared.bus.app:run_courier")),
        Process(
            "verifier",
            "checks what carries its own proof",
            _called("verifier.app:run_worker"),
            after=("simulator",),
        ),
        Process(
            "verifier-store",
            "asks the store about receipts",
            _called("verifier.app:run_store_worker"),
            after=("simulator",),
        ),
        Process(
            "verifier-lookups",
            "asks the store about transaction ids",
            _called("verifier.app:run_lookups_worker"),
            after=("simulator",),
        ),
        Process(
            "reconciler",
            "asks the store what it had said",
            _called("verifier.app:run_reconciler"),
            after=("simulator",),
        ),
        Process("ledger", "books", _called("ledger.app:run_worker")),
        Process("ledger-scheduler", "ends what is over, audits the books", _called("ledger.app:run_scheduler")),
        Process("notifier", "writes down what the webhooks say", _called("notifier.app:run_worker")),
        Process("webhooks", "delivers the webhooks", _called("notifier.app:run_webhooks_worker")),
        Process("flower", "Flower", _called("deploy.monitor:main"), http=FLOWER),
    )
}
