"""The scheduler: each job in its own time, whatever becomes of the others."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import InvalidRequestError, ProgrammingError
from structlog.testing import CapturingLogger

from ledger import schedule
from ledger.schedule import STOP_WITHIN_S, Job, Schedule, Stopped, auditing, expiring, forgetting
from shared.bus.heartbeat import Heartbeat
from shared.clock import ManualClock, SystemClock
from shared.database import DatabaseUnavailable
from tests.support.ledger import NOW
from tests.support.scripted_audit import ScriptedAudit, page
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
    clock, released = SystemClock(), threading.Event()
    stuck = Job("stuck", SOON_S, waiting_for(released))
    schedule = Schedule([stuck, stuck], heartbeat=Heartbeat(None))
    thread = threading.Thread(target=schedule.run)
    thread.start()
    began = clock.monotonic()
    schedule.stop()
    thread.join(10)
    released.set()
    assert clock.monotonic() - began < STOP_WITHIN_S + 0.5


# ---- the ledger's jobs -------------------------------------------------------------------------------------------


def never() -> bool:
    return False


class Due:
    """So much is due; `broken` of it cannot be ended."""

    def __init__(self, *ids: int, broken: int | None = None) -> None:
        self.left = list(ids)
        self._broken = broken

    def oldest(self) -> list[int]:
        return self.left[:2]

    def end(self, due: Sequence[int]) -> int:
        if self._broken in due:
            raise AssertionError("damaged")
        self.left = [each for each in self.left if each not in due]
        return len(due)


def test_expiring_goes_on_until_nothing_more_is_due() -> None:
    holds = Due(1, 2, 3, 4, 5)
    expiring("holds", due=holds.oldest, end=holds.end).work(never)
    assert holds.left == []


def test_expiring_stops_when_it_is_told_to() -> None:
    holds, told = Due(1, 2, 3, 4), [False, True]
    expiring("holds", due=holds.oldest, end=holds.end).work(lambda: told.pop(0))
    assert holds.left == [3, 4]


def test_what_cannot_be_ended_keeps_nothing_else_from_ending() -> None:
    holds = Due(1, 2, 3, 4, broken=1)
    expiring("holds", due=holds.oldest, end=holds.end).work(never)
    assert holds.left == [1]


def test_a_database_that_is_away_is_not_asked_for_each_by_itself() -> None:
    asked: list[Sequence[int]] = []

    def end(due: Sequence[int]) -> int:
        asked.append(due)
        raise DatabaseUnavailable("away")

    with pytest.raises(DatabaseUnavailable):
        expiring("holds", due=lambda: [1, 2], end=end).work(never)
    assert asked == [[1, 2]]


def test_forgetting_deletes_answers_until_none_is_old_and_audits_of_before_ninety_days() -> None:
    counts, kept = [1000, 7, 0], ScriptedAudit({})
    forgetting(lambda: counts.pop(0), audits=kept, clock=ManualClock(NOW)).work(never)
    assert counts == []
    assert kept.forgotten == [NOW - timedelta(days=90)]


def audit_job(books: ScriptedAudit, clock: ManualClock, *, ours: bool = True) -> Job:
    return auditing(
        evidence=books,
        audits=books,
        alone=lambda: contextlib.nullcontext(ours),
        interval=timedelta(hours=1),
        clock=clock,
    )


def test_an_audit_is_made_once_an_interval() -> None:
    clock, books = ManualClock(NOW), ScriptedAudit({"entries": {"": page()}})
    job = audit_job(books, clock)
    for _ in range(3):
        job.work(never)
    assert len(books.finished) == 1
    clock.advance(3600)
    job.work(never)
    assert len(books.finished) == 2


def test_no_audit_is_made_while_another_scheduler_makes_one() -> None:
    books = ScriptedAudit({"entries": {"": page()}})
    audit_job(books, ManualClock(NOW), ours=False).work(never)
    assert books.began == []


def test_no_audit_is_made_when_another_scheduler_has_just_made_one() -> None:
    """Both found one due; the second comes to the lock when the first is done."""
    books = ScriptedAudit({"entries": {"": page()}})

    def after_the_other() -> contextlib.AbstractContextManager[bool]:
        books.began.append(NOW)
        return contextlib.nullcontext(True)

    job = auditing(
        evidence=books, audits=books, alone=after_the_other, interval=timedelta(hours=1), clock=ManualClock(NOW)
    )
    job.work(never)
    assert books.finished == {}


def test_an_audit_that_is_told_to_stop_is_not_finished() -> None:
    books = ScriptedAudit({"entries": {"": page()}})
    audit_job(books, ManualClock(NOW)).work(lambda: True)
    assert (len(books.began), books.finished) == (1, {})


def test_what_an_audit_finds_is_logged_as_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = CapturingLogger()
    monkeypatch.setattr(schedule, "log", logger)
    books = ScriptedAudit({"entries": {"": page(problems=2)}})
    audit_job(books, ManualClock(NOW)).work(never)
    unsound, *broken = logger.calls
    assert (unsound.method_name, unsound.kwargs["problems"]) == ("error", 2)
    assert [(call.method_name, call.kwargs["check"]) for call in broken] == [("error", "transfer-sum")] * 2
