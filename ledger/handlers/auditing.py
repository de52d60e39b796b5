"""Use-case: everything is computed again from what is written down, and compared.

The books are walked a page at a time, on a system that goes on posting. A page is one statement, so all that it
compares is of one moment, and no transaction is longer than that. What is written behind an audit's back is seen by the
next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from ledger.domain.audit import FINDINGS_KEPT_MAX, Cursor, Finding, Newest, Page, Report, Waiting
from shared.clock import Clock

AUDITS_KEPT: Final = timedelta(days=90)


class Evidence(Protocol):
    """All that is written down, to be walked."""

    walks: Sequence[str]

    def first(self, walk: str, *, since: datetime | None) -> Cursor:
        """Where a walk begins. Walks along time leave out what is older than `since`; the others know no time."""
        ...

    def page(self, walk: str, *, after: Cursor) -> Page: ...


class Audits(Protocol):
    """The audits that were made, kept."""

    def begin(self, *, at: datetime) -> int:
        """Notes that one began; its number."""
        ...

    def finish(self, audit: int, report: Report) -> None: ...

    def fail(self, audit: int, *, error: str) -> None:
        """Notes what kept it from its end."""
        ...

    def newest_began_at(self) -> datetime | None:
        """When the newest began, whatever became of it."""
        ...

    def newest(self) -> Newest | None:
        """The newest that came to its end."""
        ...

    def forget(self, *, before: datetime) -> int:
        """Deletes those that began before; how many."""
        ...


Observe = Callable[[str, int], None]
"""Is told the walk and how many rows of it were looked at, after each page."""


def audit(
    *,
    evidence: Evidence,
    audits: Audits,
    clock: Clock,
    since: datetime | None = None,
    observe: Observe = lambda walk, rows: None,  # noqa: ARG005  nobody watches
    stopped: Callable[[], bool] = lambda: False,
) -> Report | None:
    """Audits the books, and keeps the report. None: it was `stopped` before its end.

    What keeps it from its end is noted with the audit, and raised. One with `since` is not kept: it has not seen all,
    and would be told as the newest all the same, and put off the next one.
    """
    started_at = clock.now()
    number = audits.begin(at=started_at) if since is None else None
    tally = _Tally()
    try:
        for walk in evidence.walks:
            if not _walk(walk, evidence, tally, since=since, observe=observe, stopped=stopped):
                return None
    except Exception as error:
        if number is not None:
            audits.fail(number, error=type(error).__name__)
        raise
    report = tally.report(started_at=started_at, finished_at=clock.now())
    if number is not None:
        audits.finish(number, report)
    return report


def audit_is_due(*, audits: Audits, interval: timedelta, now: datetime) -> bool:
    """Whether none has begun within the interval. One that failed counts: it is not tried again and again."""
    began_at = audits.newest_began_at()
    return began_at is None or now - began_at >= interval


def _walk(
    walk: str,
    evidence: Evidence,
    tally: _Tally,
    *,
    since: datetime | None,
    observe: Observe,
    stopped: Callable[[], bool],
) -> bool:
    """Whether it came to its end."""
    cursor: Cursor | None = evidence.first(walk, since=since)
    while cursor is not None:
        if stopped():
            return False
        page = evidence.page(walk, after=cursor)
        tally.add(walk, page)
        observe(walk, tally.checked[walk])
        cursor = page.last
    return True


class _Tally:
    """What the pages have come to so far. Of what is off, and of what waits, the first is kept and the rest counted."""

    def __init__(self) -> None:
        self.checked: dict[str, int] = {}
        self._problems = 0
        self._findings: list[Finding] = []
        self._refunds_waiting = 0
        self._waiting: list[Waiting] = []

    def add(self, walk: str, page: Page) -> None:
        self.checked[walk] = self.checked.get(walk, 0) + page.rows
        self._problems += page.problems
        self._findings += page.findings[: FINDINGS_KEPT_MAX - len(self._findings)]
        self._refunds_waiting += page.refunds_waiting
        self._waiting += page.waiting[: FINDINGS_KEPT_MAX - len(self._waiting)]

    def report(self, *, started_at: datetime, finished_at: datetime) -> Report:
        return Report(
            started_at=started_at,
            finished_at=finished_at,
            checked=self.checked,
            problems=self._problems,
            findings=self._findings,
            refunds_waiting=self._refunds_waiting,
            waiting=self._waiting,
        )
