"""One running process that leads its own group, and the log that it writes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO, Final

from deploy.guardian import living
from deploy.supervisor.spec import Spec

LOOK_EVERY_S: Final = 0.05
GROUP_GONE_WITHIN_S: Final = 2.0
"""How long the members of a killed process group may take to vanish before their leader is started again."""
LOG_BYTES_MAX = 10 * 1024 * 1024
"""A larger log is set aside, as `NAME.log.1`, when its process is next started."""
LAST_LINES: Final = 12
LAST_BYTES: Final = 8 * 1024


class Child:
    """A running process that leads its own group. Its pid is never signalled once it may belong to somebody else."""

    def __init__(self, spec: Spec, log: Log) -> None:
        with log.open() as output:
            self._popen = subprocess.Popen(
                list(spec.argv),
                env=dict(spec.env),
                cwd=spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **(spec.account.popen_arguments() if spec.account is not None else {}),
            )
        self._reaping = threading.Lock()
        self._reaped = False

    @property
    def pid(self) -> int:
        return self._popen.pid

    def signal(self, number: signal.Signals) -> None:
        """To the leader."""
        with self._reaping, contextlib.suppress(ProcessLookupError):
            if not self._reaped:
                os.kill(self.pid, number)

    def kill_group(self) -> None:
        """SIGKILL to the leader and everything that stayed in its group."""
        with self._reaping:
            if not self._reaped:
                self._kill_group()

    def has_ended(self) -> bool:
        if sys.platform == "darwin":  # no waitid before Python 3.13
            return self._popen.poll() is not None
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self) -> int:
        """Waits for the leader's end, ends the rest of its group and returns the leader's exit code."""
        if sys.platform != "darwin":  # left as a zombie, it keeps its pid, and so its group's number, ours
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._popen.wait()
        with self._reaping:
            self._kill_group()
            self._reaped = True
            code = self._popen.wait()
        self._await_empty_group()
        return code

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM where only zombies are left
            os.killpg(self.pid, signal.SIGKILL)

    def _await_empty_group(self) -> None:
        pause = threading.Event()
        for _ in range(int(GROUP_GONE_WITHIN_S / LOOK_EVERY_S)):
            if not living([self.pid]):
                return
            pause.wait(LOOK_EVERY_S)


class Log:
    """One process's log file, from the moment of its start on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_name(path.name + ".1"))
        self._start = path.stat().st_size if path.exists() else 0

    def open(self) -> BinaryIO:
        return self._path.open("ab")

    def last_lines(self) -> tuple[str, ...]:
        """The last lines that this run wrote."""
        with contextlib.suppress(OSError), self._path.open("rb") as log:
            log.seek(max(self._start, self._path.stat().st_size - LAST_BYTES))
            return tuple(log.read().decode(errors="replace").splitlines()[-LAST_LINES:])
        return ()


def how_it_ended(code: int) -> str:
    """An exit code, as people say it."""
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
