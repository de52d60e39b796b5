"""What stores say, in batches, on a real database: what a batch needs is there, and what it did is there for the next.

That order, repetition and batches make no difference is in tests/properties.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection
from structlog.testing import CapturingLogger

from ledger.domain.books import WalletKey
from ledger.domain.commands import Command, Grant, PlaceHold, Refused, Request, Spend
from ledger.domain.statements import Funds, WalletState
from ledger.handlers import facts
from ledger.handlers.facts import apply_facts
from ledger.store import PostgresWallets
from shared.catalog import Catalog
from shared.events import Event, WalletCredited, WalletDebited
from shared.ids import AppId, UserId
from shared.outcome import Handled, Parked
from tests.support.ledger import (
    ALICE,
    APPS,
    BOB,
    CATALOG,
    COINS,
    EMPTY_CATALOG,
    FLOOR_GAME,
    GAME,
    GEMS,
    NOW,
    balances_of,
    faults,
    refund_declined,
    refund_reversed,
    refunded,
    said,
    transaction,
    verified,
)
from tests.support.ledger_driver import Driver
from tests.support.ledger_tables import tables_on
from tests.support.seeded import seeded_ids

ids = seeded_ids(1)


def apply(connection: Connection, *events: Event[Any], catalog: Catalog = CATALOG) -> Handled:
    """One batch."""
    return apply_facts(
        events,
        tables=tables_on(connection),
        catalog=catalog,
        apps=APPS,
        new_id=ids.event_id,
        now=NOW,
    )


def ask(connection: Connection, *requests: Request) -> None:
    """None of them is refused."""
    driver = Driver(connection, ids=ids)
    answers = driver.execute([Command(request, "server:backend", "0" * 32) for request in requests], now=NOW)
    assert not [answer for answer in answers if isinstance(driver.outcome(answer), Refused)]


def wallet(user: UserId = ALICE, app: AppId = GAME) -> WalletKey:
    return WalletKey(app, "production", user)


def funds(connection: Connection, user: UserId = ALICE, app: AppId = GAME) -> Funds:
    """What the user has in gems."""
    state = PostgresWallets(connection).wallet(wallet(user, app))
    assert isinstance(state, WalletState)
    return state.balances[GEMS]


def remaining(connection: Connection) -> list[int]:
    """What is left of each lot of Alice's gems, the oldest first."""
    query = """
        select remaining from ledger.lot join ledger.account on account.id = account_id
          join ledger.wallet on wallet.id = wallet_id
         where user_id = 'alice' and currency = 'gems' and wallet.app = 'game' order by lot.version"""
    return list(connection.exec_driver_sql(query).scalars())


def purchases(count: int, **of: Any) -> list[Event[Any]]:
    return [verified(transaction(str(number)), **of) for number in range(1, count + 1)]


# ---- what a batch comes to --------------------------------------------------------------------------------------


def test_one_event_that_is_parked_does_not_hold_up_its_batch(connection: Connection) -> None:
    bad, good = verified(transaction("1", product="gone")), verified(transaction("2"))
    handled = apply(connection, bad, good)
    assert handled.parked == {bad.id: "the product 'gone' is not in the catalogue"}
    assert said(handled.drafts) == ["purchase.parked", "wallet.credited", "purchase.completed"]
    assert balances_of(connection, ALICE) == {GEMS: 100}


def test_a_parked_event_that_is_retried_is_granted_and_said_to_be_complete(connection: Connection) -> None:
    event = verified(transaction())
    assert apply(connection, event, catalog=EMPTY_CATALOG).parked.keys() == {event.id}
    assert said(apply(connection, event, catalog=EMPTY_CATALOG).drafts) == []
    handled = apply(connection, event)
    assert handled.parked == {}
    assert said(handled.drafts) == ["wallet.credited", "purchase.completed"]


def test_a_purchase_verified_for_a_second_user_moves_nothing_and_is_logged_as_an_error(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(facts, "log", log)
    apply(connection, verified(transaction(), user=ALICE))
    handled = apply(connection, verified(transaction(), user=BOB))
    assert (handled.drafts, handled.parked) == ([], {})
    assert [call.method_name for call in log.calls] == ["error"]
    assert (balances_of(connection, ALICE), balances_of(connection, BOB)) == ({GEMS: 100}, {})


def test_a_balance_that_would_leave_its_range_parks_the_event(connection: Connection) -> None:
    apply(connection, verified(transaction("1", product="hoard", quantity=10)))
    with pytest.raises(Parked, match="its balance would be"):
        apply(connection, verified(transaction("2", product="hoard", quantity=10)))


def test_facts_of_many_users_apps_and_currencies_are_one_batch(connection: Connection) -> None:
    batch = [
        verified(transaction("1", product="bundle")),
        verified(transaction("1", environment="sandbox")),
        verified(transaction("2"), user=BOB),
        verified(transaction("1"), app=FLOOR_GAME),
        refunded(transaction("2"), milli=25_000),
        refund_declined(transaction("1", after_s=1)),
        verified(transaction("3"), user=BOB),
        refunded(transaction("3")),
        refund_reversed(transaction("3", after_s=1)),
    ]
    handled = apply(connection, *batch)
    assert handled.parked == {}
    assert balances_of(connection, ALICE) == {GEMS: 551, COINS: 7}
    assert balances_of(connection, BOB) == {GEMS: 175}
    assert balances_of(connection, ALICE, app=FLOOR_GAME) == {GEMS: 100}
    assert faults(connection) == []
    assert said(apply(connection, *batch).drafts) == []


def test_what_a_wallets_owner_is_told_adds_up_to_the_balance(connection: Connection) -> None:
    batches: Sequence[Sequence[Event[Any]]] = [
        purchases(3),
        [refunded(transaction("2"), milli=50_000)],
        [refunded(transaction("1")), refund_reversed(transaction("2", after_s=1))],
    ]
    told, versions = 0, []
    for batch in batches:
        for draft in apply(connection, *batch).drafts:
            if isinstance(draft.payload, WalletCredited | WalletDebited):
                told += draft.payload.change.amount
                versions.append(draft.payload.change.version)
    assert {GEMS: told} == balances_of(connection, ALICE) == {GEMS: 200}
    assert versions == [1, 2, 3, 4, 5, 6]


# ---- what one batch leaves to the next --------------------------------------------------------------------------


def test_a_refund_finds_its_own_purchases_lot_behind_older_ones(connection: Connection) -> None:
    apply(connection, *purchases(4))
    ask(connection, Spend(wallet(), GEMS, 30))
    apply(connection, refunded(transaction("3"), milli=60_000))
    assert remaining(connection) == [70, 100, 40, 100]
    assert faults(connection) == []


def test_what_its_own_lot_lacks_a_refund_takes_from_as_many_others_as_it_needs(connection: Connection) -> None:
    """All of the first lot was spent, and the third is held: 100 come from the second and the fourth."""
    apply(connection, *purchases(4))
    ask(connection, Spend(wallet(), GEMS, 130), PlaceHold(wallet(), GEMS, 120, 60))
    assert remaining(connection) == [0, 0, 50, 100]
    apply(connection, refunded(transaction("1")))
    assert remaining(connection) == [0, 0, 0, 50]
    assert funds(connection) == Funds(balance=170, available=50, held=120, debt=0)
    assert faults(connection) == []


def test_two_refunds_of_one_batch_find_enough_lots_for_both(connection: Connection) -> None:
    apply(connection, *purchases(4))
    ask(connection, Spend(wallet(), GEMS, 200))
    apply(connection, refunded(transaction("1")), refunded(transaction("2"), milli=80_000))
    assert remaining(connection) == [0, 0, 0, 20]
    assert faults(connection) == []


def test_a_debt_is_paid_by_purchases_of_later_batches_and_given_back_to_them(connection: Connection) -> None:
    apply(connection, *purchases(1))
    ask(connection, Spend(wallet(), GEMS, 100))
    apply(connection, refunded(transaction("1")))
    assert funds(connection) == Funds(balance=-100, available=0, held=0, debt=100)
    ask(connection, Grant(wallet(), GEMS, 40, "sorry"))
    apply(connection, verified(transaction("2"), user=ALICE))
    assert funds(connection) == Funds(balance=40, available=40, held=0, debt=0)
    apply(connection, refund_reversed(transaction("1", after_s=1)))
    assert remaining(connection) == [0, 40, 100]
    assert faults(connection) == []


def test_a_refund_is_reversed_over_all_the_batches_in_which_it_was_taken(connection: Connection) -> None:
    apply(connection, *purchases(2))
    ask(connection, Spend(wallet(), GEMS, 70))
    for after_s, milli in enumerate((20_000, 60_000, 100_000)):
        apply(connection, refunded(transaction("1", after_s=after_s), milli=milli))
    assert remaining(connection) == [0, 30]
    apply(connection, refund_reversed(transaction("1", after_s=9)))
    assert remaining(connection) == [30, 100]
    apply(connection, refunded(transaction("1", after_s=10)))
    assert remaining(connection) == [0, 30]
    assert faults(connection) == []


def test_one_batch_refunds_reverses_and_refunds_again_what_earlier_ones_began(connection: Connection) -> None:
    apply(connection, *purchases(2))
    ask(connection, Spend(wallet(), GEMS, 70))
    apply(connection, refunded(transaction("1"), milli=50_000))
    apply(
        connection,
        refunded(transaction("1", after_s=1)),
        refund_reversed(transaction("1", after_s=2)),
        refunded(transaction("1", after_s=3), milli=10_000),
        refunded(transaction("2", after_s=3), milli=10_000),
    )
    assert remaining(connection) == [20, 90]
    assert faults(connection) == []


def test_a_refund_that_is_lowered_by_less_than_a_unit_of_one_currency_gives_back_the_others(
    connection: Connection,
) -> None:
    """551 gems and 7 coins: of 30 % and of 29 % of them, 2 coins are refunded."""
    apply(connection, verified(transaction("1", product="bundle")))
    apply(connection, refunded(transaction("1", product="bundle", after_s=60), milli=30_000))
    assert balances_of(connection, ALICE) == {GEMS: 386, COINS: 5}
    apply(connection, refunded(transaction("1", product="bundle", after_s=120), milli=29_000))
    assert balances_of(connection, ALICE) == {GEMS: 392, COINS: 5}
    assert faults(connection) == []


def test_a_reversed_refund_pays_the_debt_of_another_one(connection: Connection) -> None:
    apply(connection, *purchases(2))
    apply(connection, refunded(transaction("2")))
    ask(connection, Spend(wallet(), GEMS, 100))
    apply(connection, refunded(transaction("1"), milli=80_000))
    assert funds(connection) == Funds(balance=-80, available=0, held=0, debt=80)
    apply(connection, refund_reversed(transaction("2", after_s=1)))
    assert funds(connection) == Funds(balance=20, available=20, held=0, debt=0)
    assert faults(connection) == []


def test_what_a_hold_covers_is_owed_where_nothing_else_may_be(connection: Connection) -> None:
    apply(connection, *purchases(1, app=FLOOR_GAME))
    ask(connection, Spend(wallet(app=FLOOR_GAME), GEMS, 30), PlaceHold(wallet(app=FLOOR_GAME), GEMS, 50, 60))
    apply(connection, refunded(transaction("1"), app=FLOOR_GAME))
    assert funds(connection, app=FLOOR_GAME) == Funds(balance=0, available=0, held=50, debt=50)
    apply(connection, refund_reversed(transaction("1", after_s=1), app=FLOOR_GAME))
    assert funds(connection, app=FLOOR_GAME) == Funds(balance=70, available=20, held=50, debt=0)
    assert faults(connection) == []
