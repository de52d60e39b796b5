"""Rate limits: one second's calls at once, then as many as flow in."""

from __future__ import annotations

import pytest

from shared.clock import ManualClock
from simulator.rates import RateLimits
from tests.support.shop import START


@pytest.fixture(name="clock")
def a_clock() -> ManualClock:
    return ManualClock(START)


@pytest.mark.parametrize("per_s", [1, 5, 50])
def test_an_even_pace_at_the_limit_is_never_refused(clock: ManualClock, per_s: int) -> None:
    limits = RateLimits(clock)
    for _ in range(per_s * 10):
        assert limits.take("call", per_s=per_s) == 0
        clock.advance(1 / per_s)


def test_beyond_a_seconds_calls_at_once_one_is_refused_until_another_has_flown_in(clock: ManualClock) -> None:
    limits = RateLimits(clock)
    assert [limits.take("call", per_s=10) for _ in range(11)] == [0] * 11
    wait_s = limits.take("call", per_s=10)
    assert 0 < wait_s <= 0.1
    clock.advance(wait_s)
    assert limits.take("call", per_s=10) == pytest.approx(0)


def test_less_than_one_a_second_still_allows_the_first(clock: ManualClock) -> None:
    limits = RateLimits(clock)
    assert limits.take("call", per_s=0.1) == 0
    assert 8 < limits.take("call", per_s=0.1) <= 10


def test_one_key_does_not_use_up_what_another_has(clock: ManualClock) -> None:
    limits = RateLimits(clock)
    assert limits.take("one", per_s=0.1) == 0
    assert limits.take("one", per_s=0.1) > 0
    assert limits.take("other", per_s=0.1) == 0


def test_what_was_not_used_for_long_is_not_saved_up(clock: ManualClock) -> None:
    limits = RateLimits(clock)
    limits.take("call", per_s=2)
    clock.advance(3600)
    assert [limits.take("call", per_s=2) > 0 for _ in range(3)] == [False, False, True]
