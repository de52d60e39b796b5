"""Subscriptions and entitlements as they are read from a real PostgreSQL, after what the store has said of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.event import listen, remove

from ledger.domain.belongings import SubscriptionPlace
from ledger.domain.entitlements import Holder
from ledger.handlers.subscriptions import hear_subscriptions
from ledger.store import PostgresBelongings
from shared.events import Event
from shared.ids import AppId, UserId
from tests.support.ledger import ALICE, BOB, GAME, NOW
from tests.support.ledger_subscriptions import DAY, MONTH, SHOP, changed, period, renewal
from tests.support.ledger_tables import tables_on

PAGES_MAX = 10
ALICES = Holder(GAME, "production", ALICE)


def hear(connection: Connection, *events: Event[Any]) -> None:
    handled = hear_subscriptions(events, tables=tables_on(connection), catalog=SHOP, now=NOW)
    assert handled.parked == {}


def originals(connection: Connection, holder: Holder = ALICES, *, page: int = 50) -> list[str]:
    """The user's subscriptions, read page by page."""
    belongings = PostgresBelongings(connection)
    seen: list[str] = []
    after = None
    for _page in range(PAGES_MAX):
        found = belongings.subscriptions(holder, after=after, limit=page)
        if not found:
            return seen
        seen += [each.key.original_transaction_id for each in found]
        after = found[-1].place
    raise AssertionError(f"there is no end to them: {seen}")


def test_what_was_heard_of_a_subscription_is_read_back(connection: Connection) -> None:
    of, said = period(), renewal(signed=DAY, auto_renew=False)
    hear(connection, changed(of), changed(of, renewal=said))
    (found,) = PostgresBelongings(connection).subscriptions(ALICES, after=None, limit=5)
    assert (found.subscription.transaction, found.subscription.renewal, found.version) == (of, said, 1)


def test_the_newest_period_comes_first_to_the_microsecond(connection: Connection) -> None:
    """As text, a time with a fraction would come before the same second without one."""
    for number, starts in enumerate((timedelta(), timedelta(microseconds=1), timedelta(seconds=1), -DAY), start=1):
        hear(connection, changed(period(original=str(number), starts=starts)))
    assert originals(connection) == ["3", "2", "1", "4"]
    assert originals(connection, page=1) == ["3", "2", "1", "4"]


@pytest.mark.parametrize("page", [1, 2, 3])
def test_pages_meet_among_subscriptions_that_began_at_the_same_moment(connection: Connection, page: int) -> None:
    for original in ("b", "A", "c", "10", "9"):
        hear(connection, changed(period(original=original)))
    assert originals(connection, page=page) == ["c", "b", "A", "9", "10"]


def test_a_place_need_not_be_that_of_a_subscription_any_more(connection: Connection) -> None:
    """One that is renewed between two pages moves to the front; the others keep their places."""
    for number in (1, 2, 3):
        hear(connection, changed(period(original=str(number), starts=DAY * number)))
    (newest,) = PostgresBelongings(connection).subscriptions(ALICES, after=None, limit=1)
    hear(connection, changed(period(2, original="3", starts=MONTH)))
    rest = PostgresBelongings(connection).subscriptions(ALICES, after=newest.place, limit=5)
    assert [each.key.original_transaction_id for each in rest] == ["2", "1"]


def test_only_what_is_the_users_own_is_shown(connection: Connection) -> None:
    hear(connection, changed(period(original="1")), changed(period(original="2"), user=BOB))
    hear(connection, changed(period(original="3"), user=None))
    assert originals(connection) == ["1"]
    assert originals(connection, Holder(GAME, "production", UserId("nobody"))) == []
    assert originals(connection, Holder(GAME, "sandbox", ALICE)) == []
    assert originals(connection, Holder(AppId("floor"), "production", ALICE)) == []
    belongings = PostgresBelongings(connection)
    assert [each.entitlement for each in belongings.entitlements(ALICES)] == ["vip"]
    assert belongings.entitlements(Holder(GAME, "sandbox", ALICE)) == []


def test_entitlements_come_in_the_order_of_their_ids(connection: Connection) -> None:
    hear(connection, changed(period(product="gold")))
    found = PostgresBelongings(connection).entitlements(ALICES)
    assert [(each.entitlement, each.active, each.until) for each in found] == [
        ("gold", True, NOW + MONTH),
        ("vip", True, NOW + MONTH),
    ]


def test_a_place_may_be_of_any_store(connection: Connection) -> None:
    hear(connection, changed(period(original="1")))
    later = SubscriptionPlace(NOW, "play", period().transaction_id)  # type: ignore[arg-type]
    found = PostgresBelongings(connection).subscriptions(ALICES, after=later, limit=5)
    assert [each.key.original_transaction_id for each in found] == ["1"]


def test_a_users_subscriptions_are_found_by_an_index(connection: Connection) -> None:
    hear(connection, changed(period()))
    asked: list[tuple[str, Any]] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        asked.append((statement, parameters))

    listen(connection, "before_cursor_execute", keep)
    originals(connection)
    remove(connection, "before_cursor_execute", keep)
    connection.exec_driver_sql("set local enable_seqscan = off")  # the table of a test is small enough to be read whole
    for statement, parameters in asked:
        plan = "\n".join(connection.exec_driver_sql(f"explain {statement}", parameters).scalars())
        assert "subscription_of_user" in plan, plan
    assert len(asked) == 2
