"""How an audit reads: a page of a walk is one statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.domain.audit import FINDINGS_KEPT_MAX, Cursor

BY_INDEX: Final = """
select set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)
"""
"""Comes before a walk's statement: with stale statistics the planner may find that reading a whole table is cheaper,
or all that is left of it, to be sorted, for every page.

It may then find the same of reading a whole index. So in the walks each look-up is a subquery of its own, for one row
of the page, with `offset 0`: the planner does not merge such a one into the rest, and has nothing to choose but the
index whose key is given.
"""

NO_UUID: Final = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Walk:
    """One way through a table.

    page     CTEs, the first of which is `page`: rows along the key, after the cursor (%(after_0)s …). `seen` in it is
             the cursor's own row, which is there for the next one to be compared with
    wrong    for each promise that is broken: its name, what breaks it, what was found and what was expected
    key      the page's columns that the cursor is made of, and where it begins
    rows     of a page: it takes some tenths of a second
    by_time  the key's ids are ordered by time
    """

    name: str
    key: Sequence[str]
    begin: Cursor
    page: str
    wrong: str
    rows: int
    by_time: bool = False
    waiting: str | None = None

    def statement(self) -> str:
        """One row: how many rows, the last one's key, how many are wrong, the first of them; the same of who waits."""
        last = ", ".join(f"{column}::text" for column in self.key)
        newest_first = ", ".join(f"{column} desc" for column in self.key)
        return f"""
with {self.page},
     wrong as materialized ({self.wrong}),
     waiting as materialized ({self.waiting or "select null where false"})
select (select count(*) from page where not seen),
       (select array[{last}] from page order by {newest_first} limit 1),
       (select count(*) from wrong),
       (select coalesce(jsonb_agg(to_jsonb(first)), '[]')::text
          from (select * from wrong limit {FINDINGS_KEPT_MAX}) as first),
       (select count(*) from waiting),
       (select coalesce(jsonb_agg(to_jsonb(first)), '[]')::text
          from (select * from waiting limit {FINDINGS_KEPT_MAX}) as first)
"""
