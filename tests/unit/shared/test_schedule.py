"""A schedule: each job in its own time, whatever becomes of the others."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import InvalidRequestError, ProgrammingError

from shared.bus.heartbeat import Heartbeat
from shared.database import DatabaseUnavailable
from shared.schedule import STOP_WITHIN_S, Job, Schedule, Stopped
from tests.support.stack import wait_until

SOON_S = 0.01


@contextlib.contextmanager
def running(*jobs: Job, heartbeat: Path | None = None) -> Iterator[None]:
    """A schedule that runs until the test has seen enough."""
    schedule = Schedule(jobs, heartbeat=Heartbeat(heartbeat))
    thread = threading.Thread(target=schedule.run)
    thread.start()
    try:
        yield
    finally:
        schedule.stop()
        thread.join(10)
        assert not thread.is_alive()


class Count:
    """Work that counts its turns, and raises what it is told to in the first of them."""

    def __init__(self, *errors: Exception) -> None:
        self.turns = 0
        self._errors = list(errors)

    def __call__(self, stopped: Stopped) -> None:
        self.turns += 1
        if self._errors:
            raise self._errors.pop(0)


def waiting_for(event: threading.Event) -> Callable[[Stopped], None]:
    """Work that goes on until the event has come, whoever says stop."""

    def work(_: Stopped) -> None:
        event.wait(30)

    return work


def test_a_job_is_done_again_and_again_and_one_that_takes_long_holds_up_no_other() -> None:
    blocked, often = threading.Event(), Count()
    with running(Job("long", SOON_S, waiting_for(blocked)), Job("often", SOON_S, often)):
        wait_until(lambda: often.turns > 3, what="the other job's turns")
        blocked.set()


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), ProgrammingError("select", {}, Exception("no"))])
def test_a_database_that_is_away_or_refuses_is_tried_again(error: Exception) -> None:
    work = Count(error, error)
    with running(Job("tried", SOON_S, work)):
        wait_until(lambda: work.turns > 3, what="turns after the failed ones")


@pytest.mark.parametrize("error", [ValueError("a bug"), InvalidRequestError("a bug of another kind")])
def test_what_a_bug_raises_ends_the_schedule_and_is_raised(error: Exception) -> None:
    schedule = Schedule([Job("broken", SOON_S, Count(error)), Job("well", SOON_S, Count())], heartbeat=Heartbeat(None))
    with pytest.raises(type(error)):
        schedule.run()


def test_the_heartbeat_is_touched_by_a_vital_job_that_is_done(tmp_path: Path) -> None:
    beaten, vital = tmp_path / "heartbeat", Count()
    with running(Job("vital", SOON_S, vital, vital=True), heartbeat=beaten):
        wait_until(beaten.exists, what="a heartbeat")


@pytest.mark.parametrize("vital", [True, False])
def test_the_heartbeat_is_not_touched_by_what_fails_or_is_not_vital(tmp_path: Path, vital: bool) -> None:
    beaten = tmp_path / "heartbeat"
    work = Count(*[DatabaseUnavailable("away")] * 1000) if vital else Count()
    with running(Job("other", SOON_S, work, vital=vital), heartbeat=beaten):
        wait_until(lambda: work.turns > 3, what="some turns")
    assert not beaten.exists()


def test_it_stops_in_time_though_a_job_does_not() -> None:
    released = threading.Event()
    stuck = Job("stuck", SOON_S, waiting_for(released))
    schedule = Schedule([stuck, stuck], heartbeat=Heartbeat(None))
    thread = threading.Thread(target=schedule.run)
    thread.start()
    schedule.stop()
    thread.join(STOP_WITHIN_S + 10)
    has_stopped = not thread.is_alive()
    released.set()
    assert has_stopped
