"""Runs a command while holding a lock file: `locked.py LOCKFILE COMMAND [ARGUMENT ...]`.

Call it with `python -I`, so that no file beside it stands in for a module of the standard library.

The Makefile uses it so that two makes installing into one environment take turns. It imports the standard library
only, because it runs before anything is installed.
"""

import fcntl
import subprocess
import sys
from pathlib import Path


def main(lock_file: str, *command: str) -> int:
    with Path(lock_file).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
