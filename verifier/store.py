"""The verifier's records in Postgres, within one transaction of the caller's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from shared.database import array_literal
from shared.events import StoreTransaction
from shared.ids import AppId, PurchaseId, TransactionId, UserId
from verifier.domain.records import Record, TransactionKey

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

# The keys come in their order, and both statements keep it: no two batches wait for each other in a circle.
_CREATE = """
insert into verifier.store_transaction (app, store, environment, transaction_id)
select *
  from unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[])
    on conflict do nothing
"""

_COLUMNS = (
    "app, store, environment, transaction_id, user_id, purchase_id, account_token, token_signed_at, signed_at,"
    " revoked_signed_at, refunded_milli, statement::text"
)

_LOCK = f"""
select {_COLUMNS} from verifier.store_transaction
 where (app, store, environment, transaction_id) in (
       select *
         from unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[]))
 order by app, store, environment, transaction_id for update
"""

_LOCK_UNCLAIMED = f"""
select {_COLUMNS} from verifier.store_transaction
 where user_id is null and account_token is not null
   and (app, account_token) in (select * from unnest(%(apps)s::text[], %(tokens)s::uuid[]))
 order by app, store, environment, transaction_id for update
"""

_SAVE = """
update verifier.store_transaction as known
   set user_id = new.user_id, purchase_id = new.purchase_id, account_token = new.account_token,
       token_signed_at = new.token_signed_at, signed_at = new.signed_at, revoked_signed_at = new.revoked_signed_at,
       refunded_milli = new.refunded_milli, statement = new.statement::jsonb
  from unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[],
              %(user_ids)s::text[], %(purchase_ids)s::text[], %(account_tokens)s::uuid[],
              %(token_signed_ats)s::timestamptz[], %(signed_ats)s::timestamptz[],
              %(revoked_signed_ats)s::timestamptz[], %(refunded_millis)s::int[], %(statements)s::text[])
       as new (app, store, environment, transaction_id, user_id, purchase_id, account_token, token_signed_at,
               signed_at, revoked_signed_at, refunded_milli, statement)
 where known.app = new.app and known.store = new.store and known.environment = new.environment
   and known.transaction_id = new.transaction_id
"""

_CLAIMED = """
select purchase_id from verifier.store_transaction
 where app = any(%(apps)s) and store = 'apple' and environment in ('production', 'sandbox')
   and transaction_id = any(%(transaction_ids)s) and purchase_id = any(%(purchase_ids)s)
"""


class PostgresRecords:
    """`verifier.handlers.Records` on one connection, in the transaction that is open on it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def token_holders(self, tokens: Iterable[tuple[AppId, UUID]]) -> Mapping[tuple[AppId, UUID], UserId]:
        asked = list(tokens)
        if not asked:
            return {}
        self._connection.exec_driver_sql(_LOCK_TOKENS, _tokens(asked))
        return self.known_holders(asked)

    def known_holders(self, tokens: Iterable[tuple[AppId, UUID]]) -> Mapping[tuple[AppId, UUID], UserId]:
        asked = list(tokens)
        if not asked:
            return {}
        rows = self._connection.exec_driver_sql(_HOLDERS, _tokens(asked))
        return {(app, token): user_id for app, token, user_id in rows}

    def issue_tokens(self, tokens: Mapping[tuple[AppId, UUID], UserId]) -> None:
        user_ids = [tokens[token] for token in sorted(tokens)]
        self._connection.exec_driver_sql(_ISSUE_TOKENS, {**_tokens(tokens), "user_ids": array_literal(user_ids)})

    def lock(self, keys: Iterable[TransactionKey]) -> dict[TransactionKey, Record]:
        asked = list(keys)
        if not asked:
            return {}
        wanted = _keys(asked)
        self._connection.exec_driver_sql(_CREATE, wanted)
        return _records(self._connection.exec_driver_sql(_LOCK, wanted))

    def lock_unclaimed(self, tokens: Iterable[tuple[AppId, UUID]]) -> dict[TransactionKey, Record]:
        return _records(self._connection.exec_driver_sql(_LOCK_UNCLAIMED, _tokens(tokens)))

    def save(self, records: Iterable[Record]) -> None:
        changed = sorted(records, key=lambda record: record.key)
        if not changed:
            return
        parameters = {
            **_keys([record.key for record in changed]),
            "user_ids": array_literal(record.user_id for record in changed),
            "purchase_ids": array_literal(record.purchase_id for record in changed),
            "account_tokens": array_literal(record.account_token for record in changed),
            "token_signed_ats": array_literal(record.token_signed_at for record in changed),
            "signed_ats": array_literal(record.signed_at for record in changed),
            "revoked_signed_ats": array_literal(record.revoked_signed_at for record in changed),
            "refunded_millis": array_literal(record.refunded_milli for record in changed),
            "statements": array_literal(msgspec.json.encode(record.statement).decode() for record in changed),
        }
        self._connection.exec_driver_sql(_SAVE, parameters)

    def claimed(self, purchase_ids: Mapping[PurchaseId, tuple[AppId, TransactionId]]) -> frozenset[PurchaseId]:
        parameters = {
            "apps": sorted({app for app, _ in purchase_ids.values()}),
            "transaction_ids": [transaction_id for _, transaction_id in purchase_ids.values()],
            "purchase_ids": list(purchase_ids),
        }
        return frozenset(self._connection.exec_driver_sql(_CLAIMED, parameters).scalars())


def _tokens(tokens: Iterable[tuple[AppId, UUID]]) -> dict[str, str]:
    ordered = sorted(tokens)
    return {"apps": array_literal(app for app, _ in ordered), "tokens": array_literal(token for _, token in ordered)}


def _keys(keys: Iterable[TransactionKey]) -> dict[str, str]:
    """In the order in which their rows are locked."""
    ordered = sorted(keys)
    return {
        "apps": array_literal(key.app for key in ordered),
        "stores": array_literal(key.store for key in ordered),
        "environments": array_literal(key.environment for key in ordered),
        "transaction_ids": array_literal(key.transaction_id for key in ordered),
    }


def _records(rows: Iterable[Any]) -> dict[TransactionKey, Record]:
    records = (_record(row) for row in rows)
    return {record.key: record for record in records}


def _record(row: Any) -> Record:
    *key, user_id, purchase_id, account_token, token_signed_at, signed_at = row[:9]
    revoked_signed_at, refunded_milli, statement = row[9:]
    return Record(
        key=TransactionKey(*key),
        user_id=user_id,
        purchase_id=purchase_id,
        account_token=account_token,
        token_signed_at=token_signed_at,
        signed_at=signed_at,
        revoked_signed_at=revoked_signed_at,
        refunded_milli=refunded_milli,
        statement=None if statement in (None, "null") else msgspec.json.decode(statement, type=StoreTransaction),
    )
