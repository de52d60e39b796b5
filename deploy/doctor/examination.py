"""Runs checks: all at once, each within its limit, and whatever happens to the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.doctor.findings import Finding, failed
from shared.clock import Clock

LIMIT_S = 20.0
"""For what has no limit of its own; each connection and each answer inside a check has a shorter one."""


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at. `run` gives one finding or several."""

    name: str
    run: Callable[[], Sequence[Finding]]
    limit_s: float = LIMIT_S


def examine(checks: Sequence[Check], *, clock: Clock) -> list[Finding]:
    """The findings of all checks, in the order of the checks. Returns within the longest limit."""
    began_s = clock.monotonic()
    running = [_Running(check) for check in checks]
    return [finding for one in running for finding in one.findings(elapsed_s=clock.monotonic() - began_s)]


class _Running:
    """A check in a thread of its own; one that is given up does not keep the process from ending."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._findings: Sequence[Finding] = ()
        self._ended = threading.Event()
        threading.Thread(target=self._run, name=check.name, daemon=True).start()

    def findings(self, *, elapsed_s: float) -> Sequence[Finding]:
        if self._ended.wait(max(self._check.limit_s - elapsed_s, 0)):
            return self._findings
        return [failed(self._check.name, f"no result within {self._check.limit_s:g} s", "see what it waits for")]

    def _run(self) -> None:
        try:
            self._findings = self._check.run()
        except Exception as error:  # noqa: BLE001  a check that fails is a finding; the message may hold a secret
            self._findings = [failed(self._check.name, f"the check itself failed: {_where(error)}", "report it")]
        finally:
            self._ended.set()


def _where(error: Exception) -> str:
    """`KeyError in broker.py, line 12`: the innermost frame, without the message."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = "" if frame is None else f" in {Path(frame.tb_frame.f_code.co_filename).name}, line {frame.tb_lineno}"
    return f"{type(error).__name__}{place}"
