"""Subscriptions: what counts of what was heard of them, and what was told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from ledger.domain.subscriptions import NEVER_HEARD, KnownSubscription, Subscription, SubscriptionKey
from ledger.store.statements import columns
from shared.database import array_literal
from shared.events import SubscriptionState

_KEYS: Final = (
    "unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(original_ids)s::text[])"
    " as wanted (app, store, environment, original_transaction_id)"
)
_KEY_COLUMNS: Final = ("apps", "stores", "environments", "original_ids")

# The keys come sorted, and both statements keep their order: no two batches wait for each other in a circle.
_MEET: Final = f"""
insert into ledger.subscription (app, store, environment, original_transaction_id)
select * from {_KEYS}
    on conflict do nothing
"""

_LOCK: Final = f"""
select app, store, environment, original_transaction_id, user_id, heard::text, told::text
  from ledger.subscription join {_KEYS} using (app, store, environment, original_transaction_id)
 order by app, store, environment, original_transaction_id for update of subscription
"""

_SAVE: Final = """
update ledger.subscription known
   set user_id = new.user_id, heard = new.heard::jsonb, told = new.told::jsonb, version = new.version,
       due_at = new.due_at
  from unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(original_ids)s::text[],
              %(user_ids)s::text[], %(heards)s::text[], %(tolds)s::text[], %(versions)s::bigint[],
              %(due_ats)s::timestamptz[])
       as new (app, store, environment, original_transaction_id, user_id, heard, told, version, due_at)
 where (known.app, known.store, known.environment, known.original_transaction_id)
     = (new.app, new.store, new.environment, new.original_transaction_id)
"""

_DUE: Final = """
select app, store, environment, original_transaction_id
  from ledger.subscription where due_at <= %(now)s
 order by due_at limit %(limit)s
"""


class PostgresSubscriptions:
    """As handlers.ports.Subscriptions wants them, on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock(self, keys: Collection[SubscriptionKey]) -> Mapping[SubscriptionKey, KnownSubscription]:
        """How these stand, new ones for those that were never heard of."""
        if not keys:
            return {}
        parameters = columns(sorted(keys), _KEY_COLUMNS)
        self._run(_MEET, parameters)
        return {SubscriptionKey(*row[:4]): known_subscription(row[4:]) for row in self._run(_LOCK, parameters)}

    def save(self, changed: Mapping[SubscriptionKey, tuple[KnownSubscription, datetime | None]]) -> None:
        """Writes them down; beside each, when time alone makes it another one."""
        if not changed:
            return
        keys = sorted(changed)
        known = [changed[key][0] for key in keys]
        parameters = {
            **columns(keys, _KEY_COLUMNS),
            "user_ids": array_literal(each.user_id for each in known),
            "heards": array_literal(_json(each.subscription) for each in known),
            "tolds": array_literal(_json(each.told) for each in known),
            "versions": array_literal(each.version for each in known),
            "due_ats": array_literal(changed[key][1] for key in keys),
        }
        self._run(_SAVE, parameters)

    def due(self, *, now: datetime, limit: int) -> Sequence[SubscriptionKey]:
        """Those whose status another one is by now, the oldest first."""
        return [SubscriptionKey(*row) for row in self._run(_DUE, {"now": now, "limit": limit})]

    def _run(self, statement: str, parameters: dict[str, Any]) -> Any:
        return self._connection.exec_driver_sql(statement, parameters)


def known_subscription(row: Sequence[Any]) -> KnownSubscription:
    """A subscription from its columns user_id, heard and told (the last two as text)."""
    user_id, heard, told = row
    if user_id is None and heard is None:
        return NEVER_HEARD
    return KnownSubscription(
        user_id=user_id,
        subscription=None if heard is None else msgspec.json.decode(heard, type=Subscription),
        told=None if told is None else msgspec.json.decode(told, type=SubscriptionState),
    )


def _json(document: Subscription | SubscriptionState | None) -> str | None:
    return None if document is None else msgspec.json.encode(document).decode()
