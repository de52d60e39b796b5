"""What users may use, and what gives it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from ledger.domain.entitlements import FOR_EVER, Entitlement, Held, Holder, Source, SourceId
from ledger.store.statements import columns
from shared.database import array_literal
from shared.ids import EntitlementId

_HOLDERS: Final = (
    "unnest(%(apps)s::text[], %(environments)s::text[], %(user_ids)s::text[]) as wanted (app, environment, user_id)"
)
_HOLDER_COLUMNS: Final = ("apps", "environments", "user_ids")

# There is no row of a user to be locked. In one order, so that no two batches wait for each other in a circle.
_LOCK: Final = f"""
select pg_advisory_xact_lock(lock)
  from (select distinct hashtextextended(jsonb_build_array('ledger.entitlements', app, environment, user_id)::text, 0)
               as lock
          from {_HOLDERS} order by 1) as locks
"""

_SOURCES: Final = f"""
select app, environment, user_id, source_id, entitlement, since, until, lasts
  from ledger.entitlement_source join {_HOLDERS} using (app, environment, user_id)
"""

_TOLD: Final = f"""
select app, environment, user_id, entitlement, active, until, version, source_id
  from ledger.entitlement join {_HOLDERS} using (app, environment, user_id)
"""

_FORGET_SOURCES: Final = """
delete from ledger.entitlement_source known
 using unnest(%(apps)s::text[], %(environments)s::text[], %(user_ids)s::text[], %(source_ids)s::text[])
       as gone (app, environment, user_id, source_id)
 where (known.app, known.environment, known.user_id, known.source_id)
     = (gone.app, gone.environment, gone.user_id, gone.source_id)
"""

_ADD_SOURCES: Final = """
insert into ledger.entitlement_source (app, environment, user_id, source_id, entitlement, since, until, lasts)
select * from unnest(%(apps)s::text[], %(environments)s::text[], %(user_ids)s::text[], %(source_ids)s::text[],
                     %(entitlements)s::text[], %(sinces)s::timestamptz[], %(untils)s::timestamptz[],
                     %(lasts)s::interval[])
"""

_TELL: Final = """
insert into ledger.entitlement
       (app, environment, user_id, entitlement, active, until, version, source_id, changed_at)
select *, %(now)s from unnest(%(apps)s::text[], %(environments)s::text[], %(user_ids)s::text[],
                              %(entitlements)s::text[], %(actives)s::boolean[], %(untils)s::timestamptz[],
                              %(versions)s::bigint[], %(source_ids)s::text[])
    on conflict (app, environment, user_id, entitlement) do update set
       active = excluded.active, until = excluded.until, version = excluded.version, source_id = excluded.source_id,
       changed_at = excluded.changed_at
"""

_DUE: Final = """
select distinct app, environment, user_id
  from (select app, environment, user_id from ledger.entitlement
         where active and until <= %(now)s order by until limit %(limit)s) as ended
"""


class PostgresEntitlements:
    """As handlers.ports.Entitlements wants them, on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock(self, holders: Collection[Holder]) -> Mapping[Holder, Held]:
        """What these users have, and from what; nobody else changes it before the caller's transaction ends."""
        if not holders:
            return {}
        parameters = columns(sorted(holders), _HOLDER_COLUMNS)
        self._run(_LOCK, parameters)
        sources: defaultdict[Holder, list[Source]] = defaultdict(list)
        for *holder, source_id, entitlement, since, until, lasts in self._run(_SOURCES, parameters):
            source = Source(source_id, entitlement, since, _moment(until), lasts)
            sources[Holder(*holder)].append(source)
        told: defaultdict[Holder, dict[EntitlementId, Entitlement]] = defaultdict(dict)
        for *holder, entitlement, active, until, version, source_id in self._run(_TOLD, parameters):
            told[Holder(*holder)][entitlement] = Entitlement(entitlement, active, _moment(until), version, source_id)
        return {holder: Held(sources[holder], told[holder]) for holder in holders}

    def replace(self, sources: Mapping[tuple[Holder, SourceId], Sequence[Source]]) -> None:
        """All that each of these gives to its holder, instead of what it gave before."""
        if not sources:
            return
        names = (*_HOLDER_COLUMNS, "source_ids")
        self._run(_FORGET_SOURCES, columns([(*holder, id) for holder, id in sources], names))
        given = [(holder, source) for (holder, _), each in sources.items() for source in each]
        parameters = {
            **columns([(*holder, source.id, source.entitlement) for holder, source in given], (*names, "entitlements")),
            "sinces": array_literal(source.since for _, source in given),
            "untils": array_literal(None if source.lasts else _or_null(source.until) for _, source in given),
            "lasts": array_literal(
                None if source.lasts is None else f"{source.lasts.total_seconds()} seconds" for _, source in given
            ),
        }
        if given:
            self._run(_ADD_SOURCES, parameters)

    def tell(self, changed: Sequence[tuple[Holder, Entitlement]], *, now: datetime) -> None:
        """Writes down what is told of them."""
        if not changed:
            return
        rows = [(*holder, each.entitlement) for holder, each in changed]
        parameters = {
            **columns(rows, (*_HOLDER_COLUMNS, "entitlements")),
            "actives": array_literal(each.active for _, each in changed),
            "untils": array_literal(_or_null(each.until) for _, each in changed),
            "versions": array_literal(each.version for _, each in changed),
            "source_ids": array_literal(each.source for _, each in changed),
            "now": now,
        }
        self._run(_TELL, parameters)

    def due(self, *, now: datetime, limit: int) -> Sequence[Holder]:
        """Those who were told that they may use something until a time that is over, the oldest first."""
        return [Holder(*row) for row in self._run(_DUE, {"now": now, "limit": limit})]

    def _run(self, statement: str, parameters: dict[str, Any]) -> Any:
        return self._connection.exec_driver_sql(statement, parameters)


def _moment(until: datetime | None) -> datetime:
    return FOR_EVER if until is None else until


def _or_null(until: datetime) -> datetime | None:
    return None if until == FOR_EVER else until
