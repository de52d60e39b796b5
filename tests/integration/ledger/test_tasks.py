"""The ledger on the bus: a fact in the journal becomes a posting and what is said of it, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from ledger import tasks
from ledger.tables import tables_on
from shared.bus import parking
from shared.bus.consumer import ConsumerRuntime
from shared.bus.routes import CONSUMERS, LEDGER, types_for
from shared.bus.wake import Waker
from shared.catalog import Catalog
from shared.clock import ManualClock
from shared.database import transact
from shared.events import Draft, Event
from shared.ids import EventId, UserId, system_ids
from shared.money import AMOUNT_MAX
from tests.support.bus import Bus, bus_in
from tests.support.ledger import (
    APPS,
    CATALOG,
    EMPTY_CATALOG,
    FLOOR_GAME,
    GEMS,
    NOW,
    balances_of,
    faults,
    refund_declined,
    refund_reversed,
    refunded,
    transaction,
    verified,
)

ids = system_ids()


@pytest.fixture(scope="module")
def bus(module_database: str) -> Iterator[Bus]:
    with bus_in(module_database) as bus:
        yield bus


@pytest.fixture(scope="module")
def waker(engine: Engine) -> Iterator[Waker]:
    waker = Waker(engine)
    yield waker
    waker.close()


class Ledger:
    """The ledger's consumer, handed over to by the test."""

    def __init__(self, bus: Bus, engine: Engine, waker: Waker) -> None:
        self.bus = bus
        self._engine = engine
        self._waker = waker

    def record(self, *events: Event[Any]) -> list[EventId]:
        """Puts what the verifier says into the journal."""
        return self.bus.record(
            *(
                Draft(event.payload, event.app, event.subject, event.user_id, event.occurred_at, event.trace_id)
                for event in events
            )
        )

    def handle(self, event_type: str, event_ids: list[EventId], *, catalog: Catalog = CATALOG) -> None:
        handlers = tasks.postings(tables_on=tables_on(ids), catalog=catalog, apps=APPS, ids=ids, clock=ManualClock(NOW))
        ConsumerRuntime(
            consumer=CONSUMERS[LEDGER], handlers=handlers, engine=self._engine, waker=self._waker, ids=ids
        ).handle(event_type, event_ids)

    def said_of(self, cause: EventId) -> list[str]:
        """The types of the events that followed from it."""
        rows = self.bus.execute("select type from journal.event where causation_id = %(id)s order by id", id=cause)
        return [row[0] for row in rows]

    def balances(self, user: str) -> dict[str, int]:
        return transact(self._engine, lambda connection: balances_of(connection, UserId(user)))

    def faults(self) -> list[str]:
        return transact(self._engine, faults)


@pytest.fixture
def ledger(bus: Bus, engine: Engine, waker: Waker) -> Ledger:
    return Ledger(bus, engine, waker)


def test_the_ledger_handles_every_event_that_it_is_told_of() -> None:
    handlers = tasks.postings(tables_on=tables_on(ids), catalog=CATALOG, apps=APPS, ids=ids, clock=ManualClock(NOW))
    assert sorted(handlers) == sorted(types_for(LEDGER))


def test_a_purchase_and_its_refund_are_booked_once_however_often_they_are_handed_over(ledger: Ledger) -> None:
    of = transaction("once")
    (purchase,) = ledger.record(verified(of, user=UserId("once")))
    for _ in range(3):
        ledger.handle("purchase.verified", [purchase])
    assert ledger.said_of(purchase) == ["wallet.credited", "purchase.completed"]
    assert ledger.balances("once") == {GEMS: 100}
    (refund,) = ledger.record(refunded(of))
    for _ in range(3):
        ledger.handle("refund.received", [refund])
    assert ledger.said_of(refund) == ["wallet.debited", "purchase.refunded"]
    assert ledger.balances("once") == {}
    assert ledger.bus.row(LEDGER, purchase) is None
    assert ledger.bus.row(LEDGER, refund) is None


def test_a_refund_that_is_reversed_is_booked_once_and_one_that_is_declined_not_at_all(ledger: Ledger) -> None:
    (purchase,) = ledger.record(verified(transaction("back"), user=UserId("back")))
    ledger.handle("purchase.verified", [purchase])
    (refund,) = ledger.record(refunded(transaction("back", after_s=1)))
    ledger.handle("refund.received", [refund])
    (reversal,) = ledger.record(refund_reversed(transaction("back", after_s=2)))
    for _ in range(3):
        ledger.handle("refund.reversed", [reversal])
    assert ledger.said_of(reversal) == ["wallet.credited", "purchase.refund_reversed"]
    (refusal,) = ledger.record(refund_declined(transaction("back", after_s=3)))
    ledger.handle("refund.declined", [refusal])
    assert ledger.said_of(refusal) == []
    assert ledger.balances("back") == {GEMS: 100}
    assert [ledger.bus.row(LEDGER, event) for event in (refund, reversal, refusal)] == [None] * 3


def test_the_same_purchase_by_three_roads_is_booked_once(ledger: Ledger) -> None:
    roads = ledger.record(*(verified(transaction("roads"), user=UserId("roads")) for _ in range(3)))
    ledger.handle("purchase.verified", roads)
    assert [name for road in roads for name in ledger.said_of(road)] == ["wallet.credited", "purchase.completed"]
    assert ledger.balances("roads") == {GEMS: 100}


def test_a_parked_purchase_is_granted_when_the_operator_retries_it(ledger: Ledger) -> None:
    (purchase,) = ledger.record(verified(transaction("parked"), user=UserId("parked")))
    ledger.handle("purchase.verified", [purchase], catalog=EMPTY_CATALOG)
    row = ledger.bus.row(LEDGER, purchase)
    assert row is not None
    assert (row.state, row.error) == ("parked", "the product 'gems100' is not in the catalogue")
    assert ledger.said_of(purchase) == ["purchase.parked"]
    transact(
        ledger.bus.engine,
        lambda on: parking.retry(on, event_ids=[purchase], actor="dora", ids=ledger.bus.ids, now=NOW),
    )
    ledger.handle("purchase.verified", [purchase])
    said = ["purchase.parked", "delivery.retried", "wallet.credited", "purchase.completed"]
    assert ledger.said_of(purchase) == said
    assert ledger.balances("parked") == {GEMS: 100}


def test_a_purchase_that_no_balance_can_take_is_parked_alone(ledger: Ledger) -> None:
    """Its batch fails, so each is handled on its own: the others are booked."""
    hoard, more = (transaction(f"rich-{number}", product="hoard", quantity=10) for number in range(2))
    ledger.handle("purchase.verified", ledger.record(verified(hoard, user=UserId("rich"), app=FLOOR_GAME)))
    good, bad = ledger.record(
        verified(transaction("poor"), user=UserId("poor")), verified(more, user=UserId("rich"), app=FLOOR_GAME)
    )
    ledger.handle("purchase.verified", [good, bad])
    row = ledger.bus.row(LEDGER, bad)
    assert row is not None
    assert row.state == "parked"
    assert row.error == f"wallet account in gems: its balance would be {2 * (AMOUNT_MAX - 1)}"
    assert ledger.bus.row(LEDGER, good) is None
    assert ledger.balances("poor") == {GEMS: 100}


def test_the_books_are_sound_after_all_of_this(ledger: Ledger) -> None:
    assert ledger.faults() == []
