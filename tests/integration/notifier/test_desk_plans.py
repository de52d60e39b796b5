"""What an operator asks for costs what is shown, however much is on record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

import pytest
from sqlalchemy import Connection, event

from notifier.domain.desk import DeliveryPlace, Span, Stretch
from notifier.store.desk import DeskRecords
from shared.apps import EndpointId
from shared.clock import SystemClock
from shared.database import connect_engine
from shared.ids import AppId, EventId, uuid7_floor

ROWS: Final = 200_000
GAME = AppId("game")
BACKEND = EndpointId("backend")

# Mostly delivered; now and then one that waits, was given up or is parked. Ids of the last eleven days.
_FILL: Final = """
with numbered as (
    select n, (lpad(to_hex(((extract(epoch from now()) * 1000)::bigint - (%(rows)s - n) * 5000)), 12, '0')
               || '7000' || '8' || lpad(to_hex(n), 15, '0'))::uuid as id
      from generate_series(1, %(rows)s) n),
kept as (
    insert into notifier.delivery (app, endpoint_id, event_id, type, state, attempts, created_at, due_at, settled_at)
    select 'game', case n %% 2 when 0 then 'backend' else 'analytics' end, id, 'wallet.credited', state, 1, now(),
           case when state = 'waiting' then now() - interval '1 minute' end, case when state <> 'waiting' then now() end
      from numbered, lateral (
           select case n %% 10000 when 0 then 'waiting' when 2 then 'exhausted' when 4 then 'parked'
                  else 'delivered' end as state) s)
insert into journal.outward (app, position, event_id) select 'game', n, id from numbered
"""


@pytest.fixture(scope="module")
def filled(module_database: str) -> Iterator[Connection]:
    """A connection to a database with 200,000 deliveries."""
    engine = connect_engine(module_database, role=None, pool_size=1, application_name="test", timeout_s=120)
    with engine.connect() as connection:
        connection.exec_driver_sql(_FILL, {"rows": ROWS})
        connection.exec_driver_sql("analyze notifier.delivery, journal.outward")
        yield connection
    engine.dispose()


def looked_at(connection: Connection, work: Callable[[DeskRecords], Any]) -> int:
    """How many rows of tables and indexes its statements look at."""
    ran: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        ran.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    try:
        assert work(DeskRecords(connection, GAME))
    finally:
        event.remove(connection, "before_cursor_execute", note)
    return sum(_rows_scanned(connection, *each) for each in ran)


def _rows_scanned(connection: Connection, statement: str, parameters: Any) -> int:
    plan = connection.exec_driver_sql(f"explain (analyze, format json) {statement}", parameters).scalar_one()
    return sum(
        round((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        for node in _nodes(plan[0]["Plan"])
        if "Relation Name" in node and node["Node Type"] != "ModifyTable"
    )


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", ()):
        yield from _nodes(below)


def test_the_endpoints_are_read_without_reading_what_they_were_told(filled: Connection) -> None:
    assert looked_at(filled, lambda records: records.endpoints()) < 200  # 40 of the rows wait or failed


@pytest.mark.parametrize("state", [None, "waiting", "delivered", "exhausted", "parked"])
@pytest.mark.parametrize("endpoint", [None, BACKEND])
def test_a_page_costs_what_it_shows(filled: Connection, endpoint: EndpointId | None, state: Any) -> None:
    def page(after: DeliveryPlace | None = None) -> Callable[[DeskRecords], Any]:
        return lambda records: records.deliveries(endpoint=endpoint, state=state, after=after, limit=10)

    begin = 3 if endpoint is None else 0
    assert looked_at(filled, page()) <= begin + 20
    middle = DeliveryPlace(EventId(uuid7_floor(SystemClock().now() - timedelta(days=5))), EndpointId("backend"))
    assert looked_at(filled, page(middle)) <= begin + 20


def test_one_event_is_found_by_its_id(filled: Connection) -> None:
    (newest,) = DeskRecords(filled, GAME).deliveries(endpoint=BACKEND, state=None, after=None, limit=1)
    assert looked_at(filled, lambda records: records.history(newest.event_id)) <= 5


def test_a_stretch_of_a_replay_looks_at_its_events_alone(filled: Connection) -> None:
    now = SystemClock().now()
    span = Span(EventId(uuid7_floor(now - timedelta(days=5))), EventId(uuid7_floor(now)))

    def stretch(records: DeskRecords) -> Stretch:
        return records.send_span(span, endpoint=BACKEND, types=["wallet.credited"], delivered=True, limit=1000, now=now)

    assert looked_at(filled, stretch) <= 1000
    assert stretch(DeskRecords(filled, GAME)).looked_at == 1000


def test_what_is_dropped_is_found_by_its_state(filled: Connection) -> None:
    ran = looked_at(filled, lambda records: records.drop(BACKEND, state="exhausted", limit=5))
    assert ran <= 40  # each of them is looked up by its key too, and its attempts


def test_what_waits_for_its_next_attempt_is_found_by_its_time(filled: Connection) -> None:
    now = SystemClock().now() - timedelta(hours=1)
    assert looked_at(filled, lambda records: records.make_due(BACKEND, now=now, limit=5)) <= 10
