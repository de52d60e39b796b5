"""Answers that were given to requests with a key of the caller's, found again by it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from ledger.domain.commands import AnswerKey, GivenAnswer
from ledger.store.statements import columns
from shared.database import array_literal

_NAMES: Final = ("apps", "user_ids", "calls", "keys")

# In one order, and before any wallet: no two transactions wait for each other in a circle.
_LOCK = """
select pg_advisory_xact_lock(lock)
  from (select distinct hashtextextended(concat_ws(' ', 'ledger.answer', app, user_id, call, key), 0) as lock
          from unnest(%(apps)s::text[], %(user_ids)s::text[], %(calls)s::text[], %(keys)s::text[])
               as wanted (app, user_id, call, key) order by 1) as locks
"""

_GIVEN = """
select app, user_id, call, key, body_sha256, status, document
  from ledger.answer
  join unnest(%(apps)s::text[], %(user_ids)s::text[], %(calls)s::text[], %(keys)s::text[])
       as wanted (app, user_id, call, key) using (app, user_id, call, key)
"""

_KEEP = """
insert into ledger.answer (app, user_id, call, key, body_sha256, status, document, created_at)
select app, user_id, call, key, decode(digest, 'hex'), status, document, %(now)s
  from unnest(%(apps)s::text[], %(user_ids)s::text[], %(calls)s::text[], %(keys)s::text[], %(digests)s::text[],
              %(statuses)s::smallint[], %(documents)s::text[])
       as new (app, user_id, call, key, digest, status, document)
"""

_FORGET = """
delete from ledger.answer
 where (app, user_id, call, key) in (
       select app, user_id, call, key from ledger.answer where created_at < %(before)s
        order by created_at limit %(limit)s)
"""


class PostgresAnswers:
    """As handlers.Answers wants them, on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def given(self, keys: Collection[AnswerKey]) -> Mapping[AnswerKey, GivenAnswer]:
        """Those of these answers that were given. Who has one of these keys too waits until the transaction ends."""
        if not keys:
            return {}
        parameters = columns(keys, _NAMES)
        self._connection.exec_driver_sql(_LOCK, parameters)
        rows = self._connection.exec_driver_sql(_GIVEN, parameters)
        return {AnswerKey(*row[:4]): GivenAnswer(bytes(row[4]), *row[5:]) for row in rows}

    def keep(self, answers: Mapping[AnswerKey, GivenAnswer], *, now: datetime) -> None:
        """Keeps them."""
        if not answers:
            return
        parameters = columns(answers, _NAMES) | {
            "digests": array_literal(answer.body_sha256.hex() for answer in answers.values()),
            "statuses": array_literal(answer.status for answer in answers.values()),
            "documents": array_literal(answer.document for answer in answers.values()),
            "now": now,
        }
        self._connection.exec_driver_sql(_KEEP, parameters)

    def forget(self, *, before: datetime, limit: int) -> int:
        """Forgets the oldest of those given before, `limit` at most; how many."""
        return self._connection.exec_driver_sql(_FORGET, {"before": before, "limit": limit}).rowcount
