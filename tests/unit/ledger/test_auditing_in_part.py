"""An audit of what is newer than a moment only."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger.handlers.auditing import audit, audit_is_due
from shared.clock import ManualClock
from tests.support.ledger import NOW
from tests.support.scripted_audit import ScriptedAudit, page

YESTERDAY = NOW - timedelta(days=1)


def test_an_audit_of_a_part_is_not_kept_and_puts_no_other_off() -> None:
    """It has not seen what is older: kept, it would tell the metric that what a whole one had found is sound again."""
    books = ScriptedAudit({"entries": {"": page(problems=2)}})
    report = audit(evidence=books, audits=books, clock=ManualClock(NOW), since=YESTERDAY)
    assert report is not None
    assert report.problems == 2
    assert (books.began, books.finished) == ([], {})
    assert audit_is_due(audits=books, interval=timedelta(hours=1), now=NOW)


def test_what_keeps_an_audit_of_a_part_from_its_end_is_raised_and_noted_nowhere() -> None:
    books = ScriptedAudit({"entries": {"": TimeoutError("too slow")}})
    with pytest.raises(TimeoutError):
        audit(evidence=books, audits=books, clock=ManualClock(NOW), since=YESTERDAY)
    assert (books.began, books.failed) == ([], {})
