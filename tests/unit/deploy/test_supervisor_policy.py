"""The back-off's arithmetic."""

from __future__ import annotations

from deploy.supervisor import Backoff


def test_backoff_doubles_up_to_its_limit() -> None:
    backoff = Backoff(first_s=0.5, most_s=3.0)
    assert [backoff.delay_s(deaths) for deaths in (1, 2, 3, 4, 400)] == [0.5, 1.0, 2.0, 3.0, 3.0]
