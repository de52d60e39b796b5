"""What requests wait for, and how it is known that it has come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from gateway.domain.feeds import FeedKey
from gateway.domain.purchases import OPEN_WORDS
from shared.database import array_literal
from shared.ids import AppId, PurchaseId

_FINAL: Final = """
select t.app, t.subject
  from unnest(%(apps)s::text[], %(subjects)s::text[]) as awaited (app, subject)
  join journal.timeline t on t.app = awaited.app and t.subject = awaited.subject
 where not (t.word_type = any(%(open)s::text[]))
"""

# An index answers for each feed where it ends: a join might read all of them for the few that somebody waits for.
_GROWN: Final = """
select awaited.app, awaited.user_id, awaited.position
  from unnest(%(apps)s::text[], %(users)s::text[], %(positions)s::bigint[]) as awaited (app, user_id, position)
 cross join lateral (
       select position from journal.outward
        where app = awaited.app and user_id = awaited.user_id
        order by position desc limit 1) as newest
 where newest.position > awaited.position
union all
select app, null, awaited.position
  from unnest(%(apps)s::text[], %(users)s::text[], %(positions)s::bigint[]) as awaited (app, user_id, position)
  join journal.outward_head head using (app)
 where awaited.user_id is null and head.position > awaited.position
"""


@dataclass(frozen=True, slots=True)
class PurchaseFinal:
    """A purchase is in a state that it does not leave by itself."""

    app: AppId
    purchase_id: PurchaseId


@dataclass(frozen=True, slots=True)
class FeedGrown:
    """A feed has something behind a position."""

    key: FeedKey
    position: int


Awaited = PurchaseFinal | FeedGrown


def come_among(connection: Connection, awaited: Iterable[Awaited]) -> Iterator[Awaited]:
    """Those that have come."""
    purchases: list[PurchaseFinal] = []
    feeds: list[FeedGrown] = []
    for each in awaited:
        if isinstance(each, PurchaseFinal):
            purchases.append(each)
        else:
            feeds.append(each)
    if purchases:
        yield from _final_among(connection, purchases)
    if feeds:
        yield from _grown_among(connection, feeds)


def _final_among(connection: Connection, purchases: list[PurchaseFinal]) -> Iterator[PurchaseFinal]:
    parameters = {
        "apps": array_literal(each.app for each in purchases),
        "subjects": array_literal(each.purchase_id for each in purchases),
        "open": array_literal(sorted(OPEN_WORDS)),
    }
    for app, subject in connection.exec_driver_sql(_FINAL, parameters):
        yield PurchaseFinal(app, subject)


def _grown_among(connection: Connection, feeds: list[FeedGrown]) -> Iterator[FeedGrown]:
    parameters = {
        "apps": array_literal(each.key.app for each in feeds),
        "users": array_literal(each.key.user_id for each in feeds),
        "positions": array_literal(each.position for each in feeds),
    }
    for app, user_id, position in connection.exec_driver_sql(_GROWN, parameters):
        yield FeedGrown(FeedKey(app, user_id), position)
