"""How long things last, by the calendar and with a month of so many seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from simulator.lengths import BY_THE_CALENDAR, MONTH, WEEK, YEAR, Length, Lengths, length_of, parse_length

START = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("product_id", "length"), [("vip.weekly", WEEK), ("vip.yearly", YEAR), ("VIP.Annual", YEAR), ("vip.monthly", MONTH)]
)
def test_a_products_name_says_how_long_its_period_is(product_id: str, length: Length) -> None:
    assert length_of(product_id) == length


@pytest.mark.parametrize(
    ("length", "start", "end"),
    [
        (MONTH, (2026, 1, 31), (2026, 2, 28)),
        (MONTH, (2026, 12, 15), (2027, 1, 15)),
        (YEAR, (2028, 2, 29), (2029, 2, 28)),
        (WEEK, (2026, 2, 25), (2026, 3, 4)),
        (Length(16, "D"), (2026, 2, 25), (2026, 3, 13)),
        (Length(3, "M"), (2026, 11, 30), (2027, 2, 28)),
    ],
)
def test_by_the_calendar_a_period_ends_on_the_same_day_or_the_months_last(
    length: Length, start: tuple[int, int, int], end: tuple[int, int, int]
) -> None:
    assert BY_THE_CALENDAR.after(datetime(*start, tzinfo=UTC), length) == datetime(*end, tzinfo=UTC)


@pytest.mark.parametrize(
    ("length", "seconds"), [(MONTH, 60), (YEAR, 720), (WEEK, 14), (Length(16, "D"), 32), (Length(60, "D"), 120)]
)
def test_with_a_month_of_a_minute_all_else_is_in_proportion(length: Length, seconds: int) -> None:
    assert Lengths(timedelta(seconds=60)).after(START, length) == START + timedelta(seconds=seconds)


def test_a_compressed_length_is_in_whole_milliseconds() -> None:
    assert Lengths(timedelta(seconds=5)).after(START, WEEK).microsecond % 1000 == 0


def test_a_length_is_written_and_read_as_an_iso_8601_duration() -> None:
    for length in (WEEK, MONTH, YEAR, Length(16, "D")):
        assert parse_length(str(length)) == length


@pytest.mark.parametrize("text", ["", "P", "P0M", "P1H", "1M", "P1000D", "PT1M"])
def test_what_is_no_such_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no ISO 8601 duration"):
        parse_length(text)
