"""What users have beside wallets, for reading: nothing is locked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from ledger.domain.belongings import OwnedSubscription, SubscriptionPlace
from ledger.domain.entitlements import FOR_EVER, Entitlement, Holder
from ledger.domain.subscriptions import Subscription, SubscriptionKey

# A user has few of them, which one index finds. The periods' beginnings are as msgspec writes them (RFC 3339), some
# with fractions: they are compared as times.
_SUBSCRIPTIONS: Final = """
select app, store, environment, original_transaction_id, heard::text, version
  from (select *, (heard #>> '{{transaction,purchased_at}}')::timestamptz as began_at
          from ledger.subscription
         where app = %(app)s and environment = %(environment)s and user_id = %(user_id)s and heard is not null) as own
 where {after}
 order by began_at desc, store collate "C" desc, original_transaction_id collate "C" desc
 limit %(limit)s
"""
_FROM_THE_FIRST: Final = _SUBSCRIPTIONS.format(after="true")
_FROM_THERE: Final = _SUBSCRIPTIONS.format(
    after='(began_at, store collate "C", original_transaction_id collate "C")'
    " < (%(began_at)s, %(store)s, %(original_transaction_id)s)"
)

_ENTITLEMENTS: Final = """
select entitlement, active, until, version, source_id
  from ledger.entitlement
 where app = %(app)s and environment = %(environment)s and user_id = %(user_id)s
 order by entitlement collate "C"
"""


class PostgresBelongings:
    """As handlers.ports.Belongings wants them, on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def subscriptions(
        self, holder: Holder, *, after: SubscriptionPlace | None, limit: int
    ) -> Sequence[OwnedSubscription]:
        """Those of the user, the newest period first, from the one behind `after` on."""
        statement, place = (_FROM_THE_FIRST, {}) if after is None else (_FROM_THERE, after._asdict())
        rows = self._run(statement, {**holder._asdict(), **place, "limit": limit})
        return [
            OwnedSubscription(SubscriptionKey(*key), msgspec.json.decode(heard, type=Subscription), version)
            for *key, heard, version in rows
        ]

    def entitlements(self, holder: Holder) -> Sequence[Entitlement]:
        """What the user was told of each, by the entitlement's id."""
        return [
            Entitlement(id, active, FOR_EVER if until is None else until, version, source)
            for id, active, until, version, source in self._run(_ENTITLEMENTS, holder._asdict())
        ]

    def _run(self, statement: str, parameters: dict[str, Any]) -> Any:
        return self._connection.exec_driver_sql(statement, parameters)
