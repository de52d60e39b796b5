"""What holds when the supervisor itself is killed: the pipe to the guardian, whose end is the signal."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from deploy import guardian
from deploy.supervisor.spec import Spec

GUARDIAN: Final = Path(guardian.__file__)
GUARDIAN_AGAIN_S: Final = 0.5


class Lifeline:
    """The supervisor's end of the pipe to `guardian.py`, which is started again should it die."""

    def __init__(self, keep_open: tuple[int, ...]) -> None:
        self._keep_open = keep_open
        self._lock = threading.Lock()
        self._watched: dict[int, str] = {}
        self._dismissed = threading.Event()
        self._popen = self._spawn()
        self._thread = threading.Thread(target=self._keep, name="runner of the guardian", daemon=True)
        self._thread.start()

    def watch(self, spec: Spec, group: int, *, depth: int) -> None:
        with self._lock:
            self._watched[group] = f"watch {group} {spec.stop_signal.value} {spec.stop_within_s} {depth}"
            self._write(self._watched[group])

    def forget(self, group: int) -> None:
        with self._lock:
            if self._watched.pop(group, None) is not None:
                self._write(f"forget {group}")

    def dismiss(self) -> None:
        """Ends it; by now it watches nothing."""
        with self._lock:
            self._dismissed.set()
            self._hang_up()
        self._thread.join()

    def _spawn(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            # by path and isolated: it starts in some milliseconds, and finds no module of this directory by accident
            [sys.executable, "-I", "-S", str(GUARDIAN), *self._watched.values()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd="/",
            text=True,
            bufsize=1,
            start_new_session=True,
            pass_fds=self._keep_open,
        )

    def _keep(self) -> None:
        while True:
            self._popen.wait()
            if self._dismissed.wait(GUARDIAN_AGAIN_S):
                return
            with self._lock:
                if self._dismissed.is_set():
                    return
                self._hang_up()
                self._popen = self._spawn()

    def _write(self, line: str) -> None:
        stdin = self._popen.stdin
        with contextlib.suppress(BrokenPipeError, ValueError):  # it died: its successor is told everything
            if stdin is not None:
                stdin.write(line + "\n")
                stdin.flush()

    def _hang_up(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            if self._popen.stdin is not None:
                self._popen.stdin.close()
