"""Every process of the system: how it is started, and how one sees that it is ready. One line each, in one table.

`purser run NAME` becomes one of these; `purser up` runs all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from deploy.settings import StackSettings

BACKLOG = 1024
"""Connections that may wait; Granian hands each worker its share of them."""

WORKERS_KILL_TIMEOUT_S = 10
"""What a server's workers may still take when it stops; less than the supervisor grants the server itself."""


HEADERS_READ_TIMEOUT_MS = 30_000
"""From a connection's first byte, or the end of its last request, to the end of the next one's headers: who sends them
a byte at a time is hung up on. Until then it costs a socket and no thread."""

HEADERS_BUFFER_BYTES = 64 * 1024
"""What headers and path take at most, or little more: the longest that we take, a client token, has 8 KiB. Of headers
there are 100 at most, which is fixed."""


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

    `after` are processes whose files it reads when it starts. `has_metrics`: it tells them at PURSER_METRICS_PORT.
    """

    name: str
    purpose: str
    argv: Callable[[StackSettings], list[str]]
    http: Http | None = None
    after: tuple[str, ...] = ()
    has_metrics: bool = True


def _served(
    name: str,
    target: str,
    http: Http,
    *,
    workers: int,
    threads: int,
    settings: StackSettings,
    metrics: Sequence[str] = (),
) -> list[str]:
    """`metrics`: the options of `deploy.serve` for them."""
    options = {
        "--host": settings.bind,
        "--port": str(http.port(settings)),
        "--interface": "wsgi",
        "--http": "1",
        "--workers": str(workers),
        "--blocking-threads": str(threads),
        "--backlog": str(BACKLOG),
        "--backpressure": str(max(BACKLOG // workers, threads)),
        "--http1-header-read-timeout": str(HEADERS_READ_TIMEOUT_MS),
        "--http1-buffer-size": str(HEADERS_BUFFER_BYTES),
        "--workers-kill-timeout": str(WORKERS_KILL_TIMEOUT_S),
        "--log-level": "warning",
    }
    words = [word for option in options.items() for word in option]
    granian = [sys.executable, "-m", "deploy.serve", f"--service={name}", *metrics, *words]
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
                "simulator",
                "simulator.app:create_app",
                SIMULATOR,
                workers=1,
                threads=settings.simulator_threads,
                settings=settings,
            ),
            http=SIMULATOR,
            has_metrics=False,
        ),
        Process(
            "ledger-api",
            "the ledger's internal API",
            lambda settings: _served(
                "ledger-api",
                "ledger.app:create_api",
                LEDGER_API,
                workers=1,
                threads=8,
                settings=settings,
                metrics=("--metrics", "--metrics-path=/metrics"),  # what it says of the audits
            ),
            http=LEDGER_API,
        ),
        Process(
            "notifier-api",
            "the notifier's internal API",
            lambda settings: _served(
                "notifier-api",
                "notifier.app:create_api",
                NOTIFIER_API,
                workers=1,
                threads=8,
                settings=settings,
                metrics=("--metrics",),
            ),
            http=NOTIFIER_API,
        ),
        Process(
            "gateway",
            "the gateway",
            lambda settings: _served(
                "gateway",
                "gateway.app:create_app",
                GATEWAY,
                workers=settings.gateway_workers,
                threads=settings.gateway_threads,
                settings=settings,
                metrics=("--metrics",),
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
        Process("flower", "Flower", _called("deploy.monitor:main"), http=FLOWER, has_metrics=False),
    )
}


def metrics_ports(names: Iterable[str], settings: StackSettings) -> dict[str, int]:
    """Where the metrics of these processes are when they run beside each other: the first at PURSER_METRICS_PORT, the
    next at the one after it. None, where that is not set.
    """
    told = [name for name in PROCESSES if name in set(names) and PROCESSES[name].has_metrics]
    return dict(zip(told, count(settings.metrics_port), strict=False)) if settings.metrics_port else {}
