"""Small real processes to supervise, and the question whether any is left."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from deploy.supervisor import Spec
from tests.support.stack import child_environment

SLEEPER = "import threading; threading.Event().wait(300)"
STUBBORN = (
    "import signal, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); " + SLEEPER
)
FAMILY = (
    "import subprocess, sys, threading; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]]); "
    "print(child.pid, flush=True); threading.Event().wait(300)"
)


def python_spec(name: str, code: str, *arguments: str, **fields: object) -> Spec:
    """A process that runs this Python code."""
    return Spec(
        name=name,
        argv=[sys.executable, "-S", "-c", code, *arguments],
        env=child_environment(),
        **fields,  # type: ignore[arg-type]
    )


@contextlib.contextmanager
def killed_in_the_end(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Popen's own `with` only waits: a test that failed would do so until its time-out, and hide its reason."""
    with process:
        try:
            yield
        finally:
            process.kill()


def runs(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def group_members(group: int) -> list[int]:
    """The processes of a process group, zombies left out."""
    members = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(pid) == group and runs(pid):
                members.append(pid)
    return members


def processes_naming(text: str) -> list[int]:
    """The processes with this text in their command line or directory, zombies and this one left out."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.pid != os.getpid() and (text in " ".join(process.cmdline()) or process.cwd().startswith(text)):
                found.append(process.pid)
    return found


def first_number(log: Path) -> int:
    """The number on a log's first line."""
    return int(log.read_text().split()[0])
