"""Granian, with workers that can be stopped while they start: `python -m deploy.serve --service=NAME OPTIONS TARGET`.

A worker is forked and has its parent's signal handlers until it has imported the application and sets its own. The
parent's only take a note for the parent: a SIGTERM in between would be lost, and the stop take all that
`--workers-kill-timeout` allows.

Its log has the form of all our processes' (`shared.log`).

With `--metrics`, and PURSER_METRICS_PORT, the parent tells what its workers count, as of one. `--metrics-path`: what
the application itself tells at that path of its own port is told there too.
"""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from granian.cli import cli
from granian.log import LOGGING_CONFIG

from deploy.settings import reach_of
from shared.log import configure_logging
from shared.metrics.together import serving_together
from shared.settings import ProcessSettings, read

if TYPE_CHECKING:
    from prometheus_client.registry import Collector


def main(arguments: list[str]) -> None:
    """Serves until it is told to stop."""
    parser = ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--service", default="granian")
    parser.add_argument("--metrics", action="store_true")
    parser.add_argument("--metrics-path")
    ours, granians = parser.parse_known_args(arguments)
    with ExitStack() as held:
        settings = read(ProcessSettings)
        _configure_logging(ours.service, settings)
        if ours.metrics and settings.metrics_port:
            held.enter_context(serving_together(settings, lambda: _told_by_the_application(ours, granians)))
        os.register_at_fork(after_in_child=_end_at_once)
        cli(granians, auto_envvar_prefix="GRANIAN")


def _configure_logging(service: str, settings: ProcessSettings) -> None:
    """Granian gives its loggers handlers of their own, in each worker too: they are to use ours instead."""
    LOGGING_CONFIG.update(handlers={}, loggers={name: {"propagate": True} for name in ("_granian", "granian.access")})
    configure_logging(service=service, level=settings.log_level)


def _told_by_the_application(ours: Namespace, granians: Sequence[str]) -> Sequence[Collector]:
    from shared.metrics.relayed import Relayed

    if ours.metrics_path is None:
        return ()
    host, port = (granians[granians.index(option) + 1] for option in ("--host", "--port"))
    return [Relayed(host=reach_of(host), port=int(port), path=ours.metrics_path)]


def _end_at_once() -> None:
    """In a worker that serves nobody yet."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    main(sys.argv[1:])
