"""The doctor's checks run at once; none keeps another from its result, and none can hold the doctor up."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from deploy.doctor.examination import Check, examine
from deploy.doctor.findings import Finding, all_well, failed, ok, summary, unchecked, warning
from shared.clock import SystemClock

WELL = ok("well", "it is")


def test_the_findings_come_in_the_order_of_the_checks_whichever_ends_first() -> None:
    second_ended = threading.Event()

    def slow() -> Sequence[Finding]:
        assert second_ended.wait(10)
        return [ok("slow", "a"), ok("slow", "b")]

    def fast() -> Sequence[Finding]:
        second_ended.set()
        return [WELL]

    found = examine([Check("slow", slow), Check("fast", fast)], clock=SystemClock())
    assert [finding.check for finding in found] == ["slow", "slow", "well"]


def test_a_check_that_does_not_end_is_given_up_and_the_others_are_heard() -> None:
    never = threading.Event()

    def stuck() -> Sequence[Finding]:
        never.wait()
        return []

    given_up, well = examine([Check("stuck", stuck, limit_s=0.1), Check("well", lambda: [WELL])], clock=SystemClock())
    never.set()
    assert (given_up.check, given_up.outcome, given_up.found) == ("stuck", "failed", "no result within 0.1 s")
    assert well == WELL


def test_a_check_that_breaks_is_a_finding_without_the_message_which_may_hold_a_secret() -> None:
    def broken() -> Sequence[Finding]:
        raise KeyError("hunter2")

    (finding,) = examine([Check("broken", broken)], clock=SystemClock())
    assert finding.outcome == "failed"
    assert "KeyError in test_doctor_examination.py" in finding.found
    assert "hunter2" not in str(finding)


def test_only_what_failed_is_bad_and_with_strict_what_warns_is_too() -> None:
    calm = [WELL, unchecked("a", "b")]
    assert all_well(calm, strict=True)
    warned = [*calm, warning("a", "b", "c")]
    assert all_well(warned, strict=False)
    assert not all_well(warned, strict=True)
    assert not all_well([*calm, failed("a", "b", "c")], strict=False)


def test_the_summary_counts_each_mark_and_leaves_out_what_was_all_checked() -> None:
    assert summary([WELL, WELL, warning("a", "b", "c")]) == "2 ✓, 1 !, 0 ✗"
    assert summary([WELL, unchecked("a", "b")]) == "1 ✓, 0 !, 0 ✗, 1 –"
