"""Inbound from the clock: what the ledger does by itself, each thing in its own time. Translation only."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from datetime import timedelta
from typing import Final, TypeVar

from ledger.domain.audit import Report
from ledger.handlers.auditing import AUDITS_KEPT, Audits, Evidence, audit, audit_is_due
from shared.clock import Clock
from shared.database import DatabaseUnavailable
from shared.log import get_logger
from shared.schedule import Alone, Job, Stopped

log = get_logger(__name__)

K = TypeVar("K", bound=Hashable)

EXPIRE_EVERY_S: Final = 1.0
LOOK_EVERY_S: Final = 30.0
"""How often to look whether an audit is due: seldom is one begun later than this after its time."""
FORGET_EVERY_S: Final = 3600.0


def expiring(name: str, *, due: Callable[[int], Sequence[K]], end: Callable[[Sequence[K]], int]) -> Job:
    """Ends what is due to end, until nothing more is: `due` names the oldest few, and so many besides; `end` says how
    many of them it ended.

    What cannot be ended, because the books are damaged there, keeps nothing else from ending, however much that is. It
    stays due, and is told each time: somebody has to look.
    """

    def work(stopped: Stopped) -> None:
        damaged: set[K] = set()
        while not stopped() and (found := [each for each in due(len(damaged)) if each not in damaged]):
            known = len(damaged)
            if count := _end(name, found, end, damaged):
                log.info("ended, since their time was over", job=name, count=count)
            elif len(damaged) == known:  # somebody else was faster
                return

    return Job(name, EXPIRE_EVERY_S, work, vital=True)


def _end(name: str, found: Sequence[K], end: Callable[[Sequence[K]], int], damaged: set[K]) -> int:
    """All at once; if that fails, one by one. Notes which cannot be ended."""
    try:
        return end(found)
    except DatabaseUnavailable:
        raise
    except Exception as error:
        if len(found) > 1:
            return sum(_end(name, [each], end, damaged) for each in found)
        log.exception("cannot be ended: run `purser audit`", job=name, id=str(found[0]), error=type(error).__name__)
        damaged.update(found)
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
