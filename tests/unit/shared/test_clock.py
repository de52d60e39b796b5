"""Time: as the contract writes it, as a store writes it, and as a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import ManualClock, SystemClock, from_unix_ms, rfc3339, to_unix_ms

START = datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC)


def test_the_contracts_time_is_utc_with_milliseconds() -> None:
    assert rfc3339(START) == "2026-01-31T12:00:00.123Z"
    assert rfc3339(START.replace(microsecond=0)) == "2026-01-31T12:00:00.000Z"
    assert rfc3339(datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-31T12:00:00.000Z"


@given(milliseconds=st.integers(min_value=0, max_value=4_102_444_800_000))
def test_a_stores_time_comes_back_as_it_was(milliseconds: int) -> None:
    assert to_unix_ms(from_unix_ms(milliseconds)) == milliseconds


@pytest.mark.parametrize("milliseconds", [1698148900000, 1698148900000.0, 1698148900000.9])
def test_a_stores_time_may_be_a_float(milliseconds: float) -> None:
    assert from_unix_ms(milliseconds) == datetime(2023, 10, 24, 12, 1, 40, tzinfo=UTC)


def test_a_manual_clock_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(START)
    assert (clock.now(), clock.monotonic()) == (START, 0)
    clock.advance(1.5)
    assert (clock.now(), clock.monotonic()) == (START + timedelta(seconds=1.5), 1.5)


def test_the_system_clock_is_aware_and_its_monotonic_side_does_not_go_back() -> None:
    clock = SystemClock()
    assert clock.now().utcoffset() == timedelta(0)
    assert clock.monotonic() <= clock.monotonic()
