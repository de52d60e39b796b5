"""Rates: what may be done at once, and what comes back with time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.rates import FULL, Rate, parse_rate
from gateway.settings import RATE_PATTERN

START_S = 1_000_000.0


def taken(rate: Rate, moments: list[float]) -> list[float]:
    """The moments at which one could be taken."""
    full_at_s, found = FULL, []
    for now_s in moments:
        if not rate.wait_s(full_at_s, now_s=now_s):
            full_at_s = rate.after_one(full_at_s, now_s=now_s)
            found.append(now_s)
    return found


@pytest.mark.parametrize("amount", [1, 3, 7, 120, 1200])
def test_exactly_the_amount_may_be_taken_at_once(amount: int) -> None:
    assert len(taken(Rate(amount, 60), [START_S] * (amount + 5))) == amount


def test_one_comes_back_when_its_share_of_the_period_has_passed() -> None:
    rate = Rate(3, 60)
    moments = [START_S] * 3 + [START_S + 19.9, START_S + 20.1, START_S + 20.2, START_S + 40.1]
    assert taken(rate, moments)[3:] == [START_S + 20.1, START_S + 40.1]


def test_whoever_waits_as_long_as_they_are_told_is_let_in() -> None:
    rate = Rate(3, 60)
    full_at_s = rate.after_one(rate.after_one(rate.after_one(FULL, now_s=0), now_s=0), now_s=0)
    wait_s = rate.wait_s(full_at_s, now_s=7)
    assert wait_s == pytest.approx(13)
    assert rate.wait_s(full_at_s, now_s=7 + wait_s) == 0


@given(
    amount=st.integers(1, 50),
    period_s=st.sampled_from([1, 60, 3600]),
    steps_s=st.lists(st.floats(0, 100), max_size=200),
)
def test_in_no_span_of_time_is_more_taken_than_the_amount_and_what_came_back(
    amount: int, period_s: float, steps_s: list[float]
) -> None:
    moments = [START_S]
    for step_s in steps_s:
        moments.append(moments[-1] + step_s)
    found = taken(Rate(amount, period_s), moments)
    for first in range(len(found)):
        for last in range(first, len(found)):
            came_back = (found[last] - found[first]) * amount / period_s
            assert last - first + 1 <= amount + came_back + 0.01


@pytest.mark.parametrize(
    ("text", "rate"),
    [("120/minute", Rate(120, 60)), ("1/second", Rate(1, 1)), ("5/hour", Rate(5, 3600)), ("9/day", Rate(9, 86_400))],
)
def test_a_rate_is_a_number_for_each_unit_of_time(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate
    assert re.fullmatch(RATE_PATTERN, text)


def test_nothing_is_no_limit() -> None:
    assert parse_rate("") is None
    assert re.fullmatch(RATE_PATTERN, "")


@pytest.mark.parametrize("text", ["0/minute", "120", "/minute", "12/week", "-1/day", "1.5/day", "1/minute ", "٣/day"])
def test_what_is_no_rate_is_refused_by_the_settings_and_by_the_rule(text: str) -> None:
    with pytest.raises(ValueError, match="such as 120/minute"):
        parse_rate(text)
    assert not re.fullmatch(RATE_PATTERN, text)
