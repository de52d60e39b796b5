"""Granian, with workers that can be stopped while they start: `python -m deploy.serve OPTIONS TARGET`.

A worker is forked and has its parent's signal handlers until it has imported the application and sets its own. The
parent's only take a note for the parent: a SIGTERM in between would be lost, and the stop take all that
`--workers-kill-timeout` allows.
"""

from __future__ import annotations

import os
import signal

from granian.cli import entrypoint


def _end_at_once() -> None:
    """In a worker that serves nobody yet."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    os.register_at_fork(after_in_child=_end_at_once)
    entrypoint()  # type: ignore[no-untyped-call]
