"""Account tokens in Postgres: which user a UUID that apps give to StoreKit was issued to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from sqlalchemy import Connection

from shared.database import array_literal
from shared.ids import AppId, UserId
from verifier.store.parameters import tokens_in_order

# Whoever reads who holds a token, and whoever issues it, take turns; in one order.
_LOCK_TOKENS = """
select pg_advisory_xact_lock(lock)
  from (select hashtextextended('verifier.account_token ' || app || ' ' || token, 0) as lock
          from unnest(%(apps)s::text[], %(tokens)s::uuid[]) as wanted (app, token) order by 1) as locks
"""

_HOLDERS = """
select app, token, user_id from verifier.account_token
  join unnest(%(apps)s::text[], %(tokens)s::uuid[]) as wanted (app, token) using (app, token)
"""

_ISSUE_TOKENS = """
insert into verifier.account_token (app, token, user_id)
select * from unnest(%(apps)s::text[], %(tokens)s::uuid[], %(user_ids)s::text[])
    on conflict do nothing
"""


class PostgresTokens:
    """The part of `verifier.handlers.Records` that is about tokens, in the transaction open on its connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def token_holders(self, tokens: Iterable[tuple[AppId, UUID]]) -> Mapping[tuple[AppId, UUID], UserId]:
        asked = list(tokens)
        if not asked:
            return {}
        self._connection.exec_driver_sql(_LOCK_TOKENS, tokens_in_order(asked))
        return self.known_holders(asked)

    def known_holders(self, tokens: Iterable[tuple[AppId, UUID]]) -> Mapping[tuple[AppId, UUID], UserId]:
        asked = list(tokens)
        if not asked:
            return {}
        rows = self._connection.exec_driver_sql(_HOLDERS, tokens_in_order(asked))
        return {(app, token): user_id for app, token, user_id in rows}

    def issue_tokens(self, tokens: Mapping[tuple[AppId, UUID], UserId]) -> None:
        user_ids = [tokens[token] for token in sorted(tokens)]
        parameters = {**tokens_in_order(tokens), "user_ids": array_literal(user_ids)}
        self._connection.exec_driver_sql(_ISSUE_TOKENS, parameters)
