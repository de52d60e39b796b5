"""A container's health check, in a fresh process each time; the exit code is the answer.

    python -m deploy.healthy http 8080 /readyz        the process in this container answers 200
    python -m deploy.healthy heartbeat /tmp/heartbeat it touched the file lately (PURSER_HEARTBEAT_FILE)

It imports little, because it runs every few seconds in every container.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from deploy.probes import answers_http
from shared.bus.heartbeat import FRESH_S
from shared.clock import SystemClock

USAGE = "usage: python -m deploy.healthy (http PORT PATH | heartbeat FILE)"


def main(arguments: Sequence[str], *, now: datetime) -> int:
    """0 when it is well, 1 when it is not, 2 for a call that makes no sense."""
    match arguments:
        case ["http", port, path] if port.isdecimal():
            return 0 if answers_http(host="127.0.0.1", port=int(port), path=path) else 1
        case ["heartbeat", file]:
            return 0 if is_fresh(Path(file), now=now) else 1
    sys.stderr.write(f"{USAGE}\n")
    return 2


def is_fresh(file: Path, *, now: datetime) -> bool:
    """Whether the file is there and was touched in the last FRESH_S seconds."""
    try:
        touched = file.stat().st_mtime
    except OSError:
        return False
    return now.timestamp() - touched <= FRESH_S


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], now=SystemClock().now()))
