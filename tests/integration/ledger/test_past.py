"""The past that the benchmarks give the ledger (tests/benchmarks/past.py) is one that it could have had."""

from __future__ import annotations

from shared.clock import SystemClock
from shared.database import connect_engine
from tests.benchmarks.past import make_past
from tests.benchmarks.site import audited


def test_an_audit_finds_nothing_wrong_with_a_past(database: str) -> None:
    clock = SystemClock()
    past = make_past(database, entries=2_000, now=clock.now(), clock=clock, tell=lambda _: None)
    found = audited(database, books="old books")
    assert (found.problems, found.findings) == (0, [])
    assert found.rows > past.entries > 500
    assert past.hot_lots == 140  # 200 steps, seven of ten are purchases


def test_every_index_is_there_again_after_a_past_was_made(database: str) -> None:
    before = _indexes(database)
    clock = SystemClock()
    make_past(database, entries=500, now=clock.now(), clock=clock, tell=lambda _: None)
    assert _indexes(database) >= before


def _indexes(url: str) -> set[str]:
    """What each index of the ledger and the journal says. A past has more of the journal's partitions."""
    engine = connect_engine(url, role=None, pool_size=1, application_name="test-past")
    with engine.connect() as connection:
        found = connection.exec_driver_sql("select indexdef from pg_indexes where schemaname in ('ledger', 'journal')")
        indexes = set(found.scalars())
    engine.dispose()
    return indexes
