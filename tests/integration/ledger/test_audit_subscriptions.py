"""The audit and time: the ledger looks at its clock every second, and an audit lets it be minutes late or early."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from shared.database import connect_engine
from tests.support.audited import AuditedBooks, audited, today
from tests.support.ledger import BOB, verified
from tests.support.ledger_subscriptions import DAY, MONTH, SHOP, changed, period, renewal


@pytest.fixture
def books(database: str) -> Iterator[AuditedBooks]:
    """Books on a database of the test's own."""
    engine = connect_engine(database, role="purser_ledger", pool_size=3, application_name="test-audit")
    yield AuditedBooks(engine)
    engine.dispose()


def bought_and_ended(books: AuditedBooks, ago: timedelta) -> None:
    """A subscription that ended so long ago, told when it was bought and never since."""
    books.tell(verified(period(starts=today() - MONTH - ago)), catalog=SHOP, ago=ago + DAY)


def found_by(books: AuditedBooks) -> set[str]:
    with books.engine.connect() as connection:
        report = audited(lambda work: work(connection))
    return {finding.check for finding in report.findings}


def test_an_end_that_is_told_four_minutes_late_is_no_problem(books: AuditedBooks) -> None:
    bought_and_ended(books, timedelta(minutes=4))
    assert found_by(books) == set()


def test_an_end_that_is_not_told_within_five_minutes_is_named_until_it_is(books: AuditedBooks) -> None:
    bought_and_ended(books, timedelta(minutes=6))
    assert found_by(books) == {"subscription-status", "subscription-due", "entitlement-ended"}
    books.lapse()
    assert found_by(books) == set()


def test_a_scheduler_whose_clock_is_four_minutes_fast_is_no_problem(books: AuditedBooks) -> None:
    bought_and_ended(books, timedelta(minutes=-4))
    books.lapse(after=timedelta(minutes=4, seconds=30))
    assert found_by(books) == set()


def test_one_who_is_told_that_nothing_is_left_while_there_is_is_named(books: AuditedBooks) -> None:
    bought_and_ended(books, timedelta(minutes=-20))
    books.lapse(after=timedelta(minutes=21))
    assert found_by(books) == {"subscription-status", "entitlement-told"}


def test_what_another_user_claimed_of_a_subscription_need_not_count(books: AuditedBooks) -> None:
    first, second = period(starts=today() - DAY), period(2, starts=today())
    books.tell(verified(first), catalog=SHOP)
    books.tell(changed(second, user=BOB, renewal=renewal(signed=today())), catalog=SHOP)
    assert found_by(books) == set()
    with books.engine.connect() as connection:
        known = connection.exec_driver_sql("select heard #>> '{transaction,transaction_id}' from ledger.subscription")
        assert known.scalars().all() == [first.transaction_id]
