"""The ledger's jobs: what ends by itself, and when the books are audited."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from datetime import timedelta

import pytest
from structlog.testing import CapturingLogger

from ledger import schedule
from ledger.schedule import auditing, expiring, forgetting
from shared.clock import ManualClock
from shared.database import DatabaseUnavailable
from shared.schedule import Job
from tests.support.ledger import NOW
from tests.support.scripted_audit import ScriptedAudit, page


def never() -> bool:
    return False


class Due:
    """So much is due; `broken` of it cannot be ended."""

    def __init__(self, *ids: int, broken: Collection[int] = ()) -> None:
        self.left = list(ids)
        self._broken = set(broken)

    def oldest(self, besides: int) -> list[int]:
        return self.left[: 2 + besides]

    def end(self, due: Sequence[int]) -> int:
        if self._broken.intersection(due):
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
    holds = Due(1, 2, 3, 4, broken={1})
    expiring("holds", due=holds.oldest, end=holds.end).work(never)
    assert holds.left == [1]


def test_nor_does_more_of_it_than_is_looked_at_at_once() -> None:
    holds = Due(1, 2, 3, 4, 5, 6, 7, broken={1, 2, 3, 5})
    expiring("holds", due=holds.oldest, end=holds.end).work(never)
    assert holds.left == [1, 2, 3, 5]


def test_what_others_end_meanwhile_is_not_waited_for() -> None:
    asked: list[Sequence[int]] = []

    def end(due: Sequence[int]) -> int:
        asked.append(due)
        return 0

    expiring("holds", due=lambda _: [1, 2], end=end).work(never)
    assert asked == [[1, 2]]


def test_a_database_that_is_away_is_not_asked_for_each_by_itself() -> None:
    asked: list[Sequence[int]] = []

    def end(due: Sequence[int]) -> int:
        asked.append(due)
        raise DatabaseUnavailable("away")

    with pytest.raises(DatabaseUnavailable):
        expiring("holds", due=lambda _: [1, 2], end=end).work(never)
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
