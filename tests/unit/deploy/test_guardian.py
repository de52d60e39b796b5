"""What the guardian makes of the supervisor's lines. (That it acts: integration/deploy/test_supervisor.py.)"""

from __future__ import annotations

from deploy.guardian import Watched, watch


def test_only_groups_that_were_not_forgotten_are_left() -> None:
    lines = ["watch 10 15 2.5 1\n", "watch 11 2 60 0\n", "forget 10\n", "forget 99\n", "watch 12 15 1 1\n"]
    assert list(watch(lines).values()) == [Watched(11, 2, 60.0, 0), Watched(12, 15, 1.0, 1)]


def test_a_line_that_was_cut_off_by_the_end_is_passed_over() -> None:
    assert watch(["watch 10 15 2 0\n", "watch 11 15"]) == {10: Watched(10, 15, 2.0, 0)}
