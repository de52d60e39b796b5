"""How an audit finds what it compares: by a key, whatever the planner believes of the tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from ledger.store.audit_pages import BY_INDEX
from ledger.store.audit_walks import WALKS

STATISTICS = {
    "never analyzed": "select 1",
    "analyzed when empty": "analyze ledger.transfer, ledger.entry, ledger.account, ledger.lot, ledger.portion",
    # what ANALYZE leaves when it comes while a load is under way, of which it sees the pages and no row
    "analyzed during a load": "update pg_class set reltuples = 0, relpages = 10000"
    " where relnamespace = 'ledger'::regnamespace and relkind in ('r', 'i')",
}


@pytest.fixture(params=STATISTICS)
def connection(owner: Engine, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """With such statistics, until the end of its transaction."""
    with owner.connect() as connection:
        connection.exec_driver_sql(STATISTICS[request.param])
        connection.exec_driver_sql(BY_INDEX)
        yield connection
        connection.rollback()


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_reads_each_table_by_a_key_that_it_knows(connection: Connection, name: str) -> None:
    """An index that is read without its first column is read whole, once for each row of the page."""
    walk = WALKS[name]
    parameters = {f"after_{place}": value for place, value in enumerate(walk.begin)} | {"rows": walk.rows}
    plan = connection.exec_driver_sql(f"explain (verbose, format json) {walk.statement()}", parameters).scalar_one()
    first_columns = _first_columns(connection)
    scans = [node for node in _nodes(plan[0]["Plan"]) if "Relation Name" in node]
    assert scans
    for scan in scans:
        column = first_columns.get((scan["Schema"], scan.get("Index Name", "")), "no index")
        assert re.search(rf"\b{column}\b", scan.get("Index Cond", "")), scan


def _first_columns(connection: Connection) -> dict[tuple[str, str], str]:
    """By schema and index, the column that it is sorted by first."""
    rows = connection.exec_driver_sql(
        "select relnamespace::regnamespace::text, relname, pg_get_indexdef(indexrelid, 1, true)"
        "  from pg_index join pg_class on pg_class.oid = indexrelid"
    )
    return {(schema, index): column for schema, index, column in rows}


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", ()):
        yield from _nodes(below)
