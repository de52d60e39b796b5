"""Inbound from the clock: what the ledger does by itself, each thing in its own time. Translation only."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ledger.domain.audit import Report
from ledger.handlers.auditing import AUDITS_KEPT, Audits, Evidence, audit, audit_is_due
from shared.bus.heartbeat import Heartbeat
from shared.clock import Clock
from shared.database import DatabaseUnavailable, is_unavailable
from shared.log import get_logger

log = get_logger(__name__)

T = TypeVar("T")

EXPIRE_EVERY_S: Final = 1.0
LOOK_EVERY_S: Final = 30.0
"""How often to look whether an audit is due: seldom is one begun later than this after its time."""
FORGET_EVERY_S: Final = 3600.0
STOP_WITHIN_S: Final = 1.5
"""What is not done by then is left: all of it is done again by whoever comes next."""

Stopped = Callable[[], bool]
"""Whether it is time to end. Asked between the parts of what takes long."""


Alone = Callable[[], AbstractContextManager[bool]]
"""Whether nobody else does it; nobody begins to while the context is open."""


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done every so often. `vital`: the process is well as long as this is done."""

    name: str
    every_s: float
    work: Callable[[Stopped], None]
    vital: bool = False


class Schedule:
    """Does its jobs, each on a thread of its own, so that an audit of minutes keeps no hold from expiring."""

    def __init__(self, jobs: Sequence[Job], *, heartbeat: Heartbeat) -> None:
        self._jobs = jobs
        self._heartbeat = heartbeat
        self._stopping = threading.Event()
        self._broken: list[Exception] = []

    def run(self) -> None:
        """Until `stop`. A database that is away is waited for; what a bug raises in a job ends all, and is raised."""
        threads = [threading.Thread(target=self._do, args=(job,), name=job.name, daemon=True) for job in self._jobs]
        for thread in threads:
            thread.start()
        self._stopping.wait()
        for thread in threads:
            thread.join(STOP_WITHIN_S / len(threads))
        if self._broken:
            raise self._broken[0]

    def stop(self) -> None:
        """Ends `run` soon; from any thread, and not from a signal's handler, since it takes a lock."""
        self._stopping.set()

    def _do(self, job: Job) -> None:
        try:
            while not self._stopping.is_set():
                self._turn(job)
                self._stopping.wait(job.every_s)
        except Exception as error:  # noqa: BLE001  the thread's edge: `run` raises it
            log.error("a job is broken", job=job.name)
            self._broken.append(error)
            self.stop()

    def _turn(self, job: Job) -> None:
        try:
            job.work(self._stopping.is_set)
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            _tell(job, error)
            return
        if job.vital:
            self._heartbeat.beat()


def run_until_told(schedule: Schedule) -> None:
    """Runs it until SIGTERM or SIGINT. They are waited for, not handled: a handler may not touch a lock."""
    told = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, told)  # in every thread that starts from now on

    def listen() -> None:
        signal.sigwait(told)
        schedule.stop()

    threading.Thread(target=listen, name="signals", daemon=True).start()
    schedule.run()


def _tell(job: Job, error: Exception) -> None:
    """A database that is away comes back, after a time-out the next turn may fare better; anything else is a bug."""
    if is_unavailable(error):
        log.warning("the database is away", job=job.name, reason=type(error).__name__)
    elif isinstance(error, DBAPIError):
        log.error("the database refused", job=job.name, error=type(error.orig).__name__)
    else:
        raise error


# ---- the ledger's jobs -------------------------------------------------------------------------------------------


def expiring(name: str, *, due: Callable[[], Sequence[T]], end: Callable[[Sequence[T]], int]) -> Job:
    """Ends what is due to end, until nothing more is: `due` names the oldest few, `end` says how many of them it ended.

    What cannot be ended, because the books are damaged there, keeps nothing else from ending. It stays due, and is told
    each time: somebody has to look.
    """

    def work(stopped: Stopped) -> None:
        while not stopped() and (found := due()) and (count := _end(name, found, end)):
            log.info("ended, since their time was over", job=name, count=count)

    return Job(name, EXPIRE_EVERY_S, work, vital=True)


def _end(name: str, found: Sequence[T], end: Callable[[Sequence[T]], int]) -> int:
    """All at once; if that fails, one by one."""
    try:
        return end(found)
    except DatabaseUnavailable:
        raise
    except Exception as error:
        if len(found) > 1:
            return sum(_end(name, [each], end) for each in found)
        log.exception("cannot be ended: run `purser audit`", job=name, id=str(found[0]), error=type(error).__name__)
        return 0


def auditing(*, evidence: Evidence, audits: Audits, alone: Alone, interval: timedelta, clock: Clock) -> Job:
    """Audits the books every so often, one scheduler at a time, and says what is off."""

    def is_due() -> bool:
        return audit_is_due(audits=audits, interval=interval, now=clock.now())

    def work(stopped: Stopped) -> None:
        if not is_due():
            return
        with alone() as ours:
            if not (ours and is_due()):  # by now another may have
                return
            if (report := audit(evidence=evidence, audits=audits, clock=clock, stopped=stopped)) is not None:
                _say(report)

    return Job("audit", LOOK_EVERY_S, work)


def forgetting(forget_answers: Callable[[], int], *, audits: Audits, clock: Clock) -> Job:
    """Deletes what is kept for a while only. `forget_answers` deletes the oldest few, and says how many."""

    def work(stopped: Stopped) -> None:
        audits.forget(before=clock.now() - AUDITS_KEPT)
        while not stopped() and forget_answers():
            pass

    return Job("forget", FORGET_EVERY_S, work)


def _say(report: Report) -> None:
    duration_s = (report.finished_at - report.started_at).total_seconds()
    if report.clean:
        log.info("the books are sound", duration_s=duration_s, **report.checked)
        return
    log.error("the books are not sound: run `purser audit`", problems=report.problems, duration_s=duration_s)
    for broken in report.findings:
        log.error("a promise of the books is broken", check=broken.check, found=broken.found, expected=broken.expected)
