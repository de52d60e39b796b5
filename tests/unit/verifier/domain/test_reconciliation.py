"""How far back is looked, and in which pieces; what is news of a subscription, and when to ask again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import Period, StoreTransaction
from shared.ids import TransactionId
from verifier.domain.reconciliation import (
    ENDED,
    KEPT,
    UNPAID,
    DueOrigin,
    Remembered,
    Span,
    is_news,
    next_check,
    was_missed,
    window,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@given(
    cursor_ago_s=st.none() | st.integers(0, 400 * 86_400),
    since_ago_s=st.none() | st.integers(-86_400, 400 * 86_400),
    environment=st.sampled_from(["production", "sandbox"]),
)
def test_a_window_is_within_what_the_store_remembers_and_leaves_nothing_out(
    cursor_ago_s: int | None, since_ago_s: int | None, environment: str
) -> None:
    cursor_at = None if cursor_ago_s is None else NOW - timedelta(seconds=cursor_ago_s)
    since = None if since_ago_s is None else NOW - timedelta(seconds=since_ago_s)
    asked = window(cursor_at=cursor_at, since=since, environment=environment, now=NOW)  # type: ignore[arg-type]
    assert asked.span.until == NOW
    assert asked.span.since > NOW - KEPT[environment]  # type: ignore[index]
    if since is None and cursor_at is not None:
        assert asked.span.since <= max(cursor_at, NOW - KEPT[environment] + timedelta(hours=1))  # type: ignore[index]
        assert asked.moves_cursor
    parts = list(asked.parts())
    assert all(part.until - part.since <= timedelta(days=1) for part in parts)
    if asked.span.since < NOW:
        assert (parts[0].since, parts[-1].until) == (asked.span.since, NOW)
        assert all(before.until == after.since for before, after in pairwise(parts))
    if asked.moves_cursor and cursor_at is not None and since is not None:
        assert since <= cursor_at


@pytest.mark.parametrize("ago", [timedelta(days=200), timedelta(days=179, hours=23, minutes=30)])
def test_a_cursor_that_is_older_than_the_stores_memory_moves_all_the_same(ago: timedelta) -> None:
    asked = window(cursor_at=NOW - ago, since=None, environment="production", now=NOW)
    assert asked.moves_cursor
    assert asked.span == Span(NOW - timedelta(days=180) + timedelta(hours=1), NOW)


def test_one_without_a_date_of_signing_counts_as_missed() -> None:
    assert was_missed(Remembered("", tried=False), signed_at=None, now=NOW)


def test_apples_numbers_are_those_of_its_documentation() -> None:
    """Source: developer.apple.com, appstoreserverapi/status."""
    assert (sorted(ENDED), sorted(UNPAID)) == ([2, 5], [3, 4])


# ---- how subscriptions stand -------------------------------------------------------------------------------------

EXPIRES_AT = NOW - timedelta(minutes=6)
STATED = StoreTransaction(
    store="apple",
    environment="production",
    transaction_id=TransactionId("100"),
    original_transaction_id=TransactionId("100"),
    product_id="vip.monthly",
    product_type="auto_renewable",
    quantity=1,
    purchased_at=EXPIRES_AT - timedelta(days=30),
    signed_at=NOW,
    period=Period(expires_at=EXPIRES_AT),
)
KNOWN = replace(STATED, signed_at=NOW - timedelta(days=30))
BEFORE, SINCE = EXPIRES_AT - timedelta(days=1), EXPIRES_AT


def due(*, heard_at: datetime | None = BEFORE, checks: int = 0) -> DueOrigin:
    return DueOrigin(TransactionId("100"), check_at=NOW, heard_at=heard_at, checks=checks)


@pytest.mark.parametrize("asked", [due(), None])
@pytest.mark.parametrize(
    "known",
    [
        None,
        replace(KNOWN, period=Period(expires_at=EXPIRES_AT - timedelta(days=3))),
        replace(KNOWN, period=None),
        replace(KNOWN, product_id="vip.yearly"),
    ],
)
def test_another_transaction_or_another_end_of_it_is_news_of_every_subscription(
    asked: DueOrigin | None, known: StoreTransaction | None
) -> None:
    assert is_news(STATED, known=known, status=1, due=asked)


@pytest.mark.parametrize(
    ("status", "asked", "news"),
    [
        (1, due(), False),
        (2, due(), True),
        (5, due(), True),
        (2, due(heard_at=SINCE), True),
        (2, None, False),
        (3, due(), True),
        (4, due(), True),
        (3, due(heard_at=None), True),
        (3, due(heard_at=SINCE), False),
        (4, due(heard_at=SINCE), False),
        (3, None, False),
        (6, due(), False),
    ],
)
def test_of_a_period_that_is_on_record_the_end_is_news_to_who_has_not_heard_of_it(
    status: int, asked: DueOrigin | None, news: bool
) -> None:
    assert is_news(STATED, known=KNOWN, status=status, due=asked) is news


@pytest.mark.parametrize("status", [None, 1, 3, 4, 6])
@pytest.mark.parametrize(("checks", "hours"), [(0, 1), (1, 2), (4, 16), (5, 24), (6, 24), (88, 24), (89, None)])
def test_the_next_question_comes_later_each_time_and_the_ninetieth_is_the_last(
    status: int | None, checks: int, hours: int | None
) -> None:
    expected = None if hours is None else NOW + timedelta(hours=hours)
    assert next_check(due(checks=checks), status=status, now=NOW) == expected


@pytest.mark.parametrize("status", [2, 5])
def test_what_has_ended_is_not_asked_about_again(status: int) -> None:
    assert next_check(due(), status=status, now=NOW) is None
