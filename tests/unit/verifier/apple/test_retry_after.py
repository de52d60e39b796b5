"""Reading the `Retry-After` header."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.apple.retry_after import RETRY_AFTER_S_MAX, read_retry_after

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("0", 0),
        (" 120 ", 120),
        ("86400", RETRY_AFTER_S_MAX),
        ("1767268830000", 30),  # absolute UNIX milliseconds, as the App Store Server API has it
        ("1767268000000", 0),
        ("Thu, 01 Jan 2026 12:01:00 GMT", 60),
        ("Thu, 01 Jan 2026 12:01:00 -0000", 60),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
        ("9" * 5000, None),
    ],
)
def test_each_shape_that_a_store_gives_it_is_read_in_seconds_from_now(value: str | None, seconds: float | None) -> None:
    assert read_retry_after(value, now=NOW) == seconds


@given(st.text())
def test_no_header_at_all_raises_anything(value: str) -> None:
    seconds = read_retry_after(value, now=NOW)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_S_MAX
