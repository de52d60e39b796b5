"""The `Retry-After` header, in the shapes that stores give it."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RETRY_AFTER_S_MAX = 3600
"""A store that asks for more is asked again after an hour all the same."""

_ABSOLUTE_MS_MIN = 10**11  # as seconds this is more than 3,000 years, as milliseconds it is the year 1973


def read_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Seconds to wait, from 0 to RETRY_AFTER_S_MAX. None: there is no such header, or it cannot be read.

    It is seconds or a date (RFC 9110, section 10.2.3) or, in the App Store Server API, absolute UNIX milliseconds.
    """
    if value is None:
        return None
    try:
        seconds = _seconds(value.strip(), now=now)
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_S_MAX)


def _seconds(value: str, *, now: datetime) -> float:
    if not value.isdecimal():
        moment = parsedate_to_datetime(value)
        return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
    number = int(value)
    return number / 1000 - now.timestamp() if number >= _ABSOLUTE_MS_MIN else float(number)
