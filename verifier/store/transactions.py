"""The verifier's records of store transactions in Postgres."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from shared.database import array_literal
from shared.events import RevocationCause, Revoked, StoreTransaction
from shared.ids import AppId, PurchaseId, TransactionId
from verifier.domain.records import OriginKey, Record, TransactionKey
from verifier.store.parameters import keys_in_order, tokens_in_order

# The keys come in their order, and both statements keep it: no two batches wait for each other in a circle.
_CREATE = """
insert into verifier.store_transaction (app, store, environment, transaction_id)
select *
  from unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[])
    on conflict do nothing
"""

_COLUMNS = (
    "app, store, environment, transaction_id, original_transaction_id, user_id, purchase_id, account_token,"
    " token_signed_at, signed_at, revoked_signed_at, refunded_milli, revoked_at, revocation_cause, statement::text,"
    " promised_to"
)

_LOCK = f"""
select {_COLUMNS} from verifier.store_transaction
 where (app, store, environment, transaction_id) in (
       select *
         from unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[]))
 order by app, store, environment, transaction_id for update
"""

_UNCLAIMED_WITH = """
select app, store, environment, transaction_id, original_transaction_id from verifier.store_transaction
 where user_id is null and account_token is not null
   and (app, account_token) in (select * from unnest(%(apps)s::text[], %(tokens)s::uuid[]))
"""

_UNCLAIMED_OF = """
select app, store, environment, transaction_id from verifier.store_transaction
 where user_id is null and original_transaction_id is not null
   and (app, store, environment, original_transaction_id) in (
       select *
         from unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[]))
"""

_SAVE = """
update verifier.store_transaction as known
   set original_transaction_id = new.original_transaction_id, user_id = new.user_id, purchase_id = new.purchase_id,
       account_token = new.account_token, token_signed_at = new.token_signed_at, signed_at = new.signed_at,
       revoked_signed_at = new.revoked_signed_at, refunded_milli = new.refunded_milli, revoked_at = new.revoked_at,
       revocation_cause = new.revocation_cause, statement = new.statement::jsonb, promised_to = new.promised_to
  from unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[],
              %(original_transaction_ids)s::text[], %(user_ids)s::text[], %(purchase_ids)s::text[],
              %(account_tokens)s::uuid[], %(token_signed_ats)s::timestamptz[], %(signed_ats)s::timestamptz[],
              %(revoked_signed_ats)s::timestamptz[], %(refunded_millis)s::int[], %(revoked_ats)s::timestamptz[],
              %(revocation_causes)s::text[], %(statements)s::text[], %(promised_tos)s::text[])
       as new (app, store, environment, transaction_id, original_transaction_id, user_id, purchase_id, account_token,
               token_signed_at, signed_at, revoked_signed_at, refunded_milli, revoked_at, revocation_cause, statement,
               promised_to)
 where known.app = new.app and known.store = new.store and known.environment = new.environment
   and known.transaction_id = new.transaction_id
"""

_CLAIMED = """
select purchase_id from verifier.store_transaction
 where app = any(%(apps)s) and store = 'apple' and environment in ('production', 'sandbox')
   and transaction_id = any(%(transaction_ids)s) and purchase_id = any(%(purchase_ids)s)
"""


class PostgresTransactions:
    """The part of `verifier.handlers.Records` that is about transactions, in the transaction open on its connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock(self, keys: Iterable[TransactionKey]) -> dict[TransactionKey, Record]:
        asked = list(keys)
        if not asked:
            return {}
        wanted = keys_in_order(asked)
        self._connection.exec_driver_sql(_CREATE, wanted)
        records = (_record(row) for row in self._connection.exec_driver_sql(_LOCK, wanted))
        return {record.key: record for record in records}

    def unclaimed_with(self, tokens: Iterable[tuple[AppId, UUID]]) -> dict[TransactionKey, OriginKey | None]:
        rows = self._connection.exec_driver_sql(_UNCLAIMED_WITH, tokens_in_order(tokens))
        return {TransactionKey(*row[:4]): _origin((row[0], row[1], row[2]), row[4]) for row in rows}

    def unclaimed_of(self, origins: Iterable[OriginKey]) -> frozenset[TransactionKey]:
        asked = list(origins)
        if not asked:
            return frozenset()
        rows = self._connection.exec_driver_sql(_UNCLAIMED_OF, keys_in_order(asked))
        return frozenset(TransactionKey(*row) for row in rows)

    def save(self, records: Iterable[Record]) -> None:
        changed = sorted(records, key=lambda record: record.key)
        if not changed:
            return
        revoked = [record.revoked for record in changed]
        parameters = {
            **keys_in_order(record.key for record in changed),
            "original_transaction_ids": array_literal(
                record.origin.original_transaction_id if record.origin else None for record in changed
            ),
            "user_ids": array_literal(record.user_id for record in changed),
            "purchase_ids": array_literal(record.purchase_id for record in changed),
            "account_tokens": array_literal(record.account_token for record in changed),
            "token_signed_ats": array_literal(record.token_signed_at for record in changed),
            "signed_ats": array_literal(record.signed_at for record in changed),
            "revoked_signed_ats": array_literal(each.signed_at if each else None for each in revoked),
            "refunded_millis": array_literal(record.refunded_milli for record in changed),
            "revoked_ats": array_literal(each.at if each else None for each in revoked),
            "revocation_causes": array_literal(each.cause if each else None for each in revoked),
            "statements": array_literal(msgspec.json.encode(record.statement).decode() for record in changed),
            "promised_tos": array_literal(record.promised_to for record in changed),
        }
        self._connection.exec_driver_sql(_SAVE, parameters)

    def claimed(self, purchase_ids: Mapping[PurchaseId, tuple[AppId, TransactionId]]) -> frozenset[PurchaseId]:
        parameters = {
            "apps": sorted({app for app, _ in purchase_ids.values()}),
            "transaction_ids": [transaction_id for _, transaction_id in purchase_ids.values()],
            "purchase_ids": list(purchase_ids),
        }
        return frozenset(self._connection.exec_driver_sql(_CLAIMED, parameters).scalars())


def _origin(place: tuple[Any, Any, Any], original_transaction_id: TransactionId | None) -> OriginKey | None:
    return None if original_transaction_id is None else OriginKey(*place, original_transaction_id)


def _record(row: Any) -> Record:
    original_transaction_id, user_id, purchase_id, account_token, token_signed_at, signed_at = row[4:10]
    statement, promised_to = row[14:16]
    return Record(
        key=TransactionKey(*row[:4]),
        origin=_origin((row[0], row[1], row[2]), original_transaction_id),
        user_id=user_id,
        purchase_id=purchase_id,
        promised_to=promised_to,
        account_token=account_token,
        token_signed_at=token_signed_at,
        signed_at=signed_at,
        revoked=_revoked(*row[10:14]),
        statement=None if statement in (None, "null") else msgspec.json.decode(statement, type=StoreTransaction),
    )


def _revoked(
    signed_at: datetime | None, milli: int, at: datetime | None, cause: RevocationCause | None
) -> Revoked | None:
    """The three dates and words stand together, or none does."""
    if signed_at is None or at is None or cause is None:
        return None
    return Revoked(signed_at, milli, at, cause)
