"""The audit as a use-case: it walks all there is, keeps what it came to, and knows when one is due."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger.domain.audit import FINDINGS_KEPT_MAX
from ledger.handlers.auditing import audit, audit_is_due
from shared.clock import ManualClock
from tests.support.ledger import NOW
from tests.support.scripted_audit import ScriptedAudit, page


def test_every_walk_is_taken_to_its_end_and_its_rows_are_counted() -> None:
    books = ScriptedAudit({"entries": {"": page(rows=5, last="5"), "5": page(rows=2)}, "lots": {"": page(rows=0)}})
    seen: list[tuple[str, int]] = []
    report = audit(evidence=books, audits=books, clock=ManualClock(NOW), observe=lambda *step: seen.append(step))
    assert report is not None
    assert report.checked == {"entries": 7, "lots": 0}
    assert report.clean
    assert seen == [("entries", 5), ("entries", 7), ("lots", 0)]
    assert books.finished == {1: report}


def test_every_walk_hears_since_when() -> None:
    books = ScriptedAudit({"entries": {"": page()}, "lots": {"": page()}})
    since = NOW - timedelta(days=1)
    audit(evidence=books, audits=books, clock=ManualClock(NOW), since=since)
    assert books.since == [since, since]


def test_problems_of_all_pages_are_counted_and_the_first_are_kept() -> None:
    books = ScriptedAudit(
        {"entries": {"": page(problems=70, last="a"), "a": page(problems=300)}, "lots": {"": page(problems=1)}}
    )
    report = audit(evidence=books, audits=books, clock=ManualClock(NOW))
    assert report is not None
    assert (report.problems, len(report.findings)) == (371, FINDINGS_KEPT_MAX)
    assert not report.clean


def test_refunds_that_wait_are_counted_and_no_problem() -> None:
    books = ScriptedAudit({"facts": {"": page(waiting=150, last="a"), "a": page(waiting=2)}})
    report = audit(evidence=books, audits=books, clock=ManualClock(NOW))
    assert report is not None
    assert (report.refunds_waiting, len(report.waiting), report.clean) == (152, FINDINGS_KEPT_MAX, True)


def test_an_audit_that_is_stopped_comes_to_nothing_and_is_not_finished() -> None:
    books = ScriptedAudit({"entries": {"": page(last="a"), "a": page(last="b")}})
    steps = iter([False, False, True])
    assert audit(evidence=books, audits=books, clock=ManualClock(NOW), stopped=lambda: next(steps)) is None
    assert (books.finished, books.failed) == ({}, {})
    assert books.began == [NOW]


def test_what_keeps_an_audit_from_its_end_is_noted_and_raised() -> None:
    books = ScriptedAudit({"entries": {"": page(last="a"), "a": TimeoutError("too slow")}})
    with pytest.raises(TimeoutError):
        audit(evidence=books, audits=books, clock=ManualClock(NOW))
    assert (books.finished, books.failed) == ({}, {1: "TimeoutError"})


@pytest.mark.parametrize(("ago_s", "due"), [(None, True), (0, False), (3599, False), (3600, True), (9999, True)])
def test_an_audit_is_due_when_none_has_begun_within_the_interval(ago_s: int | None, due: bool) -> None:
    books = ScriptedAudit({})
    if ago_s is not None:
        books.began.append(NOW - timedelta(seconds=ago_s))
    assert audit_is_due(audits=books, interval=timedelta(hours=1), now=NOW) is due
