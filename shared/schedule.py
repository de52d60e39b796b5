"""What a process does by itself, each thing in its own time: the clock as an inbound adapter.

Jobs name what is to be done and how often; they live with the service that does it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from shared.bus.heartbeat import Heartbeat
from shared.database import DatabaseUnavailable, is_unavailable
from shared.log import get_logger

log = get_logger(__name__)

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
