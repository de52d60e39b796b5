"""What the statements share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from shared.database import array_literal

_BY_INDEX: Final = """
select set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('enable_seqscan', 'off', true)
"""


def by_index(connection: Connection) -> None:
    """For the rest of the transaction. Its statements look up a few rows of large tables by their keys; with stale
    statistics the planner may read a whole table instead. This leaves it the indexes.
    """
    connection.exec_driver_sql(_BY_INDEX)


def columns(rows: Iterable[Sequence[Any]], names: Sequence[str]) -> dict[str, Any]:
    """Rows turned into one list per column, as unnest wants them."""
    listed = list(rows)
    return {name: array_literal([row[position] for row in listed]) for position, name in enumerate(names)}
