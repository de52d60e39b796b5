"""Origins in Postgres: who owns a subscription, or what can be restored, and when the store is to be asked about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection

from shared.database import array_literal
from shared.events import Renewal
from verifier.domain.origins import Origin
from verifier.domain.records import OriginKey
from verifier.store.parameters import keys_in_order

# The keys come in their order, and both statements keep it: no two batches wait for each other in a circle.
_CREATE = """
insert into verifier.origin (app, store, environment, original_transaction_id)
select *
  from unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[])
    on conflict do nothing
"""

_LOCK = """
select app, store, environment, original_transaction_id, user_id, period_at, period_signed_at, expires_at, revoked,
       renewal::text, check_at, checks
  from verifier.origin
 where (app, store, environment, original_transaction_id) in (
       select *
         from unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[]))
 order by app, store, environment, original_transaction_id for update
"""

_SAVE = """
update verifier.origin as known
   set user_id = new.user_id, period_at = new.period_at, period_signed_at = new.period_signed_at,
       expires_at = new.expires_at, revoked = new.revoked, renewal = new.renewal::jsonb,
       renewal_signed_at = new.renewal_signed_at, check_at = new.check_at, checks = new.checks
  from unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[],
              %(user_ids)s::text[], %(period_ats)s::timestamptz[], %(period_signed_ats)s::timestamptz[],
              %(expires_ats)s::timestamptz[], %(revokeds)s::boolean[], %(renewals)s::text[],
              %(renewal_signed_ats)s::timestamptz[], %(check_ats)s::timestamptz[], %(checks)s::int[])
       as new (app, store, environment, original_transaction_id, user_id, period_at, period_signed_at, expires_at,
               revoked, renewal, renewal_signed_at, check_at, checks)
 where known.app = new.app and known.store = new.store and known.environment = new.environment
   and known.original_transaction_id = new.original_transaction_id
"""


class PostgresOrigins:
    """The part of `verifier.handlers.Records` that is about origins, in the transaction open on its connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock_origins(self, keys: Iterable[OriginKey]) -> dict[OriginKey, Origin]:
        asked = list(keys)
        if not asked:
            return {}
        wanted = keys_in_order(asked)
        self._connection.exec_driver_sql(_CREATE, wanted)
        origins = (_origin(row) for row in self._connection.exec_driver_sql(_LOCK, wanted))
        return {origin.key: origin for origin in origins}

    def save_origins(self, origins: Iterable[Origin]) -> None:
        changed = sorted(origins, key=lambda origin: origin.key)
        if not changed:
            return
        renewals = [origin.renewal for origin in changed]
        parameters = {
            **keys_in_order(origin.key for origin in changed),
            "user_ids": array_literal(origin.user_id for origin in changed),
            "period_ats": array_literal(origin.period_at for origin in changed),
            "period_signed_ats": array_literal(origin.period_signed_at for origin in changed),
            "expires_ats": array_literal(origin.expires_at for origin in changed),
            "revokeds": array_literal(str(origin.revoked).lower() for origin in changed),
            "renewals": array_literal(msgspec.json.encode(each).decode() if each else None for each in renewals),
            "renewal_signed_ats": array_literal(each.signed_at if each else None for each in renewals),
            "check_ats": array_literal(origin.check_at for origin in changed),
            "checks": array_literal(origin.checks for origin in changed),
        }
        self._connection.exec_driver_sql(_SAVE, parameters)


def _origin(row: Any) -> Origin:
    user_id, period_at, period_signed_at, expires_at, revoked, renewal, check_at, checks = row[4:]
    return Origin(
        key=OriginKey(*row[:4]),
        user_id=user_id,
        period_at=period_at,
        period_signed_at=period_signed_at,
        expires_at=expires_at,
        revoked=revoked,
        renewal=None if renewal is None else msgspec.json.decode(renewal, type=Renewal),
        check_at=check_at,
        checks=checks,
    )
