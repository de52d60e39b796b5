"""Old proofs leave the journal: none that somebody has still to handle, each looked at once, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from shared.bus import parking
from shared.bus.proofs import EVERY_S, PAUSE_S, ProofRetention
from shared.clock import ManualClock
from shared.database import connect_engine, transact
from shared.events import (
    PROOF_REMOVED,
    NotificationReceived,
    Payload,
    ReceiptSubmitted,
    SubscriptionReported,
    TransactionSubmitted,
    decode,
)
from shared.ids import EventId, Ids, TransactionId
from tests.support.bus import Bus, bus_in
from tests.support.seeded import seeded_ids

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEPT = timedelta(days=90)
OLD, YOUNG = NOW - KEPT - timedelta(days=1), NOW - KEPT + timedelta(days=1)
ONE = TransactionId("1")

RECEIPT = ReceiptSubmitted("apple", ONE, "a receipt")
PROOFS: list[tuple[Payload, dict[str, Any]]] = [
    (RECEIPT, {"receipt": PROOF_REMOVED}),
    (TransactionSubmitted("apple", ONE, "signed"), {"signed_transaction": PROOF_REMOVED}),
    (NotificationReceived("apple", "n", "REFUND", None, "signed", ONE), {"signed_payload": PROOF_REMOVED}),
    (
        SubscriptionReported("apple", "production", ONE, 1, "signed", "signed too"),
        {"signed_transaction": PROOF_REMOVED, "signed_renewal_info": None},
    ),
]


@pytest.fixture
def bus(database: str) -> Iterator[Bus]:
    with bus_in(database) as bus:
        yield bus


@pytest.fixture
def courier(database: str) -> Iterator[Engine]:
    engine = connect_engine(database, role="purser_courier", pool_size=2, application_name="test-courier")
    yield engine
    engine.dispose()


def retention(courier: Engine, clock: ManualClock, *, rows: int = 100) -> ProofRetention:
    return ProofRetention(engine=courier, clock=clock, kept=KEPT, rows=rows)


def recorded(bus: Bus, moment: datetime, *payloads: Payload, handled: bool = True) -> list[EventId]:
    """Events of that moment, which everybody has handled."""
    then = Bus(engine=bus.engine, ids=_ids_of(moment))
    event_ids = then.record(*(bus.draft(payload) for payload in payloads))
    if handled:
        bus.execute("delete from journal.delivery where event_id = any(%(ids)s)", ids=event_ids)
    return event_ids


def _ids_of(moment: datetime) -> Ids:
    return seeded_ids(int(moment.timestamp()), clock=ManualClock(moment))


def payload(bus: Bus, event_id: EventId) -> dict[str, Any]:
    (row,) = bus.execute("select payload from journal.event where id = %(id)s", id=event_id)
    found: dict[str, Any] = row[0]
    return found


@pytest.mark.parametrize(("given", "removed"), PROOFS, ids=lambda each: getattr(each, "TYPE", ""))
def test_an_old_proof_is_removed_and_its_event_is_read_as_before(
    bus: Bus, courier: Engine, given: Payload, removed: dict[str, Any]
) -> None:
    (event_id,) = recorded(bus, OLD, given)
    before = payload(bus, event_id)
    retention(courier, ManualClock(NOW)).turn()
    assert payload(bus, event_id) == before | removed
    ((text,),) = bus.execute("select payload::text from journal.event where id = %(id)s", id=event_id)
    read = decode(given.TYPE, given.VERSION, text)
    assert all(getattr(read, name) == value for name, value in removed.items())


def test_what_is_not_old_enough_keeps_its_proof_until_it_is(bus: Bus, courier: Engine) -> None:
    (event_id,) = recorded(bus, YOUNG, RECEIPT)
    clock = ManualClock(NOW)
    keeping = retention(courier, clock)
    keeping.turn()
    assert payload(bus, event_id)["receipt"] == "a receipt"
    clock.advance(2 * 86_400)
    keeping.turn()
    assert payload(bus, event_id)["receipt"] == PROOF_REMOVED


def test_what_somebody_has_still_to_handle_keeps_it_until_it_was_handled(bus: Bus, courier: Engine) -> None:
    (waiting, parked) = recorded(bus, OLD, RECEIPT, RECEIPT, handled=False)
    bus.set([parked], "state = 'parked', due_at = 'infinity'")
    clock = ManualClock(NOW)
    keeping = retention(courier, clock)
    keeping.turn()
    assert [payload(bus, each)["receipt"] for each in (waiting, parked)] == ["a receipt"] * 2

    bus.execute("delete from journal.delivery where event_id = %(id)s", id=waiting)
    clock.advance(EVERY_S)
    keeping.turn()
    assert [payload(bus, each)["receipt"] for each in (waiting, parked)] == [PROOF_REMOVED, "a receipt"]

    transact(bus.engine, lambda on: parking.drop(on, event_ids=[parked], actor="dora", ids=bus.ids, now=NOW))
    clock.advance(EVERY_S)
    keeping.turn()
    assert payload(bus, parked)["receipt"] == PROOF_REMOVED
    assert bus.execute("select from journal.proof_passed_by") == []


def test_each_event_is_looked_at_once_a_few_at_a_time_the_oldest_first(bus: Bus, courier: Engine) -> None:
    event_ids = recorded(bus, OLD, *[RECEIPT] * 25)
    clock = ManualClock(NOW)
    keeping = retention(courier, clock, rows=10)
    for done in (10, 20, 25):
        keeping.turn()
        assert [payload(bus, each)["receipt"] for each in event_ids] == [PROOF_REMOVED] * done + ["a receipt"] * (
            25 - done
        )
        clock.advance(PAUSE_S)
    looked = bus.execute("select * from journal.remove_proofs(%(before)s, 10)", before=NOW - KEPT)
    assert [tuple(row) for row in looked] == [(0, 0)]


def test_of_more_stuck_ones_than_a_look_is_about_each_goes_once_it_was_handled(bus: Bus, courier: Engine) -> None:
    event_ids = recorded(bus, OLD, *[RECEIPT] * 25, handled=False)
    bus.set(event_ids, "state = 'parked', due_at = 'infinity'")
    clock = ManualClock(NOW)
    keeping = retention(courier, clock, rows=10)
    for _ in range(3):
        keeping.turn()
        clock.advance(PAUSE_S)
    assert bus.execute("select count(*) from journal.proof_passed_by") == [(25,)]

    last = event_ids[12:]
    bus.execute("delete from journal.delivery where event_id = any(%(ids)s)", ids=last)
    clock.advance(EVERY_S)
    for done in (10, 13):
        keeping.turn()
        receipts = [payload(bus, each)["receipt"] for each in event_ids]
        assert receipts == ["a receipt"] * 12 + [PROOF_REMOVED] * done + ["a receipt"] * (13 - done)
        clock.advance(PAUSE_S)


def test_after_the_last_of_them_there_is_an_hours_rest(bus: Bus, courier: Engine) -> None:
    clock = ManualClock(NOW)
    keeping = retention(courier, clock)
    keeping.turn()
    (event_id,) = recorded(bus, OLD, RECEIPT)
    clock.advance(EVERY_S - 1)
    keeping.turn()
    assert payload(bus, event_id)["receipt"] == "a receipt"
    clock.advance(1)
    keeping.turn()
    assert payload(bus, event_id)["receipt"] == PROOF_REMOVED


def test_two_couriers_do_not_wait_for_each_other(bus: Bus, courier: Engine) -> None:
    (event_id,) = recorded(bus, OLD, RECEIPT)
    with bus.engine.begin() as other:
        other.exec_driver_sql("select from journal.proof_cursor for update")
        retention(courier, ManualClock(NOW)).turn()
    assert payload(bus, event_id)["receipt"] == "a receipt"


def test_nothing_of_the_last_day_is_removed_whatever_a_courier_asks_for(bus: Bus, courier: Engine) -> None:
    ((now,),) = bus.execute("select now()")
    young, older = (recorded(bus, now - timedelta(hours=hours), RECEIPT)[0] for hours in (1, 25))
    with courier.begin() as connection:
        connection.exec_driver_sql("select journal.remove_proofs('infinity', 100)")
    assert [payload(bus, each)["receipt"] for each in (older, young)] == [PROOF_REMOVED, "a receipt"]


def test_a_courier_may_do_no_more_to_an_event(bus: Bus, courier: Engine) -> None:
    recorded(bus, OLD, RECEIPT)
    for statement in (
        "update journal.event set payload = '{}'",
        "select journal.erase_history('', '', '', '', null, null)",
        "update journal.proof_cursor set reached = reached",
    ):
        with courier.connect() as connection, pytest.raises(DBAPIError, match="permission denied"):
            connection.exec_driver_sql(statement)


def test_a_look_reads_what_is_ahead_of_it_and_nothing_behind(bus: Bus, courier: Engine) -> None:
    recorded(bus, OLD, *[RECEIPT] * 1000)
    retention(courier, ManualClock(NOW), rows=1000).turn()
    recorded(bus, OLD + timedelta(hours=1), RECEIPT)
    with courier.begin() as connection:
        before = _reads(connection)
        connection.exec_driver_sql("select journal.remove_proofs(%(before)s, 1000)", {"before": NOW - KEPT})
        scans, rows = (after - known for after, known in zip(_reads(connection), before, strict=True))
    assert scans == 0
    assert 0 < rows < 20


def _reads(connection: Connection) -> tuple[int, int]:
    """How often this session has read a partition from its beginning, and how many rows it has fetched by index."""
    scans, rows = connection.exec_driver_sql(
        "select coalesce(sum(seq_scan), 0), coalesce(sum(idx_tup_fetch), 0) from pg_stat_xact_user_tables"
        " where schemaname = 'journal' and relname ^@ 'event'"
    ).one()
    return int(scans), int(rows)
