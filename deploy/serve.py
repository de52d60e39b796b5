"""Granian, with workers that can be stopped while they start, and that end with their parent:
`python -m deploy.serve --service=NAME OPTIONS TARGET`.

A worker is forked and has its parent's signal handlers until it has imported the application and sets its own. The
parent's only take a note for the parent: a SIGTERM in between would be lost, and the stop take all that
`--workers-kill-timeout` allows.

A parent that is killed cannot stop its workers, which would go on answering beside those of the next one: Linux kills
them with it (elsewhere they stay until somebody ends them).

Its log has the form of all our processes' (`shared.log`).

With `--metrics`, and PURSER_METRICS_PORT, the parent tells what its workers count, as of one. `--metrics-path`: what
the application itself tells at that path of its own port is told there too.
"""

from __future__ import annotations

import ctypes
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


PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that comes when the thread ends that has forked; here that is the parent's main one."""
ORPHANED = signal.SIGKILL
"""It comes once for each thread of the parent's that had the worker when it ended. A Granian worker that is told to
stop again while it notes that it is to stop waits for itself, for ever."""


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
        parent = os.getpid()
        os.register_at_fork(after_in_child=lambda: _begin_as_child_of(parent))
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


def _begin_as_child_of(parent: int) -> None:
    """In a worker that serves nobody yet: a signal ends it at once, and so does its parent's death."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ORPHANED)
        if os.getppid() != parent:  # it was faster
            os.kill(os.getpid(), ORPHANED)


if __name__ == "__main__":
    main(sys.argv[1:])
