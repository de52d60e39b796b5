"""How long things last: by the calendar, or with a month of so many seconds, as the sandbox has it.

Dates stay real: a short month makes periods shorter, and no clock faster.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

Unit = Literal["D", "W", "M", "Y"]

MONTH_S_MIN: Final = 0.5
MONTH_S_MAX: Final = 31 * 86_400
"""How many seconds a month may be made."""

LENGTH_PATTERN: Final = r"^P[1-9][0-9]{0,2}[DWMY]$"

_SHARE_OF_A_MONTH: Final[dict[Unit, float]] = {"D": 1 / 30, "W": 7 / 30, "M": 1, "Y": 12}
_DAYS: Final[dict[Unit, int]] = {"D": 1, "W": 7}
_MONTHS: Final[dict[Unit, int]] = {"M": 1, "Y": 12}


@dataclass(frozen=True, slots=True)
class Length:
    """So many days, weeks, months or years."""

    count: int
    unit: Unit

    def __str__(self) -> str:
        """As Apple writes it (offerPeriod): an ISO 8601 duration."""
        return f"P{self.count}{self.unit}"


WEEK, MONTH, YEAR = Length(1, "W"), Length(1, "M"), Length(1, "Y")


def parse_length(text: str) -> Length:
    """The length that `str` wrote. Raises ValueError."""
    if not re.fullmatch(LENGTH_PATTERN, text):
        raise ValueError(f"{text!r} is no ISO 8601 duration of days, weeks, months or years")
    unit: Unit = text[-1]  # type: ignore[assignment]  # the pattern lets no other through
    return Length(int(text[1:-1]), unit)


def length_of(product_id: str) -> Length:
    """How long a period of a subscription lasts: its product id says week or year, everything else is a month."""
    name = product_id.lower()
    if "week" in name:
        return WEEK
    return YEAR if "year" in name or "annual" in name else MONTH


@dataclass(frozen=True, slots=True)
class Lengths:
    """The lengths in force. `month` None: those of the calendar; else a month lasts so long, and all else accordingly:
    30 days are a month, and 12 months a year."""

    month: timedelta | None = None

    def after(self, start: datetime, length: Length) -> datetime:
        """When what begins at `start` and lasts so long is over, in whole milliseconds."""
        if self.month is not None:
            milliseconds = self.month.total_seconds() * 1000 * _SHARE_OF_A_MONTH[length.unit] * length.count
            return start + timedelta(milliseconds=round(milliseconds))
        if length.unit in _DAYS:
            return start + timedelta(days=_DAYS[length.unit] * length.count)
        return _months_later(start, _MONTHS[length.unit] * length.count)


BY_THE_CALENDAR: Final = Lengths()


def _months_later(start: datetime, months: int) -> datetime:
    """The same day of the month, or the month's last day when it is shorter."""
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return start.replace(year=year, month=month + 1, day=day)
