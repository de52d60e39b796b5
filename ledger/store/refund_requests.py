"""Users' requests for refunds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from ledger.domain.books import TransactionKey
from ledger.domain.refund_requests import RefundRequest
from ledger.domain.spending import Hold
from ledger.store.commissions import PostgresCommissions
from ledger.store.statements import columns
from shared.ids import AppId, PurchaseId
from shared.money import CurrencyId

# A purchase's id does not say the environment: should a store ever use an id in both, the money comes first.
_TRANSACTION_OF = """
select app, store, environment, transaction_id
  from ledger.store_transaction where purchase_id = %(purchase_id)s and app = %(app)s
 order by environment limit 1
"""

# What a request holds are its open holds, and nothing else says so.
_REQUESTS = """
select request.id, request.app, request.store, request.environment, request.transaction_id, request.purchase_id,
       known.stated_as, request.user_id, request.state, request.reason, request.spent_percentage_milli, held.amounts,
       request.created_at, request.updated_at, request.expires_at
  from ledger.refund_request request
  join ledger.store_transaction known
    on (known.app, known.store, known.environment, known.transaction_id)
     = (request.app, request.store, request.environment, request.transaction_id)
 cross join lateral (select coalesce(jsonb_object_agg(account.currency, hold.amount), '{}')::text as amounts
                       from ledger.hold join ledger.account on account.id = hold.account_id
                      where hold.refund_request_id = request.id and hold.state = 'open') held
"""

_FIND = f"{_REQUESTS} where request.id = %(id)s and request.app = %(app)s"

_OPEN_OF = f"""{_REQUESTS}
  join unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[])
       as wanted (app, store, environment, transaction_id)
    on (request.app, request.store, request.environment, request.transaction_id)
     = (wanted.app, wanted.store, wanted.environment, wanted.transaction_id)
 where request.state = 'open'
"""

_DUE = """
select app, store, environment, transaction_id
  from ledger.refund_request where state = 'open' and expires_at <= %(now)s
 order by expires_at limit %(limit)s
"""

_SAVE = """
insert into ledger.refund_request
       (id, app, store, environment, transaction_id, purchase_id, user_id, state, reason, spent_percentage_milli,
        created_at, updated_at, expires_at)
select * from unnest(%(ids)s::uuid[], %(apps)s::text[], %(stores)s::text[], %(environments)s::text[],
                     %(transaction_ids)s::text[], %(purchase_ids)s::text[], %(user_ids)s::text[], %(states)s::text[],
                     %(reasons)s::text[], %(spents)s::int[], %(created_ats)s::timestamptz[],
                     %(updated_ats)s::timestamptz[], %(expires_ats)s::timestamptz[])
    on conflict (id) do update set state = excluded.state, updated_at = excluded.updated_at
"""

_KEY_COLUMNS = ("apps", "stores", "environments", "transaction_ids")
_SAVE_COLUMNS = (
    "ids", *_KEY_COLUMNS, "purchase_ids", "user_ids", "states", "reasons", "spents", "created_ats", "updated_ats",
    "expires_ats",
)  # fmt: skip


class PostgresRefundRequests:
    """As handlers.refund_requests.FoundRequests wants them, on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def transaction_of(self, *, app: AppId, purchase_id: PurchaseId) -> TransactionKey | None:
        """The store transaction that the purchase is."""
        row = self._run(_TRANSACTION_OF, {"app": app, "purchase_id": purchase_id}).first()
        return None if row is None else TransactionKey(*row)

    def find(self, *, app: AppId, id: UUID) -> RefundRequest | None:
        """The request of that id, if it is the app's."""
        row = self._run(_FIND, {"app": app, "id": id}).first()
        return None if row is None else _request(row)

    def open_of(self, keys: Collection[TransactionKey]) -> Mapping[TransactionKey, RefundRequest]:
        """The open requests about these transactions, which are locked."""
        found = [_request(row) for row in self._run(_OPEN_OF, columns(keys, _KEY_COLUMNS))]
        return {request.transaction: request for request in found}

    def holds_of(self, requests: Collection[UUID]) -> Sequence[Hold]:
        """The open holds of these requests."""
        return PostgresCommissions(self._connection).holds_of(requests)

    def due(self, *, now: datetime, limit: int) -> Sequence[TransactionKey]:
        """What the open requests are about whose time is over, the oldest first."""
        return [TransactionKey(*row) for row in self._run(_DUE, {"now": now, "limit": limit})]

    def save(self, requests: Collection[RefundRequest]) -> None:
        """Writes them down, new or changed."""
        self._run(_SAVE, columns(map(_row, requests), _SAVE_COLUMNS))

    def _run(self, statement: str, parameters: dict[str, Any]) -> Any:
        return self._connection.exec_driver_sql(statement, parameters)


def _request(row: Any) -> RefundRequest:
    id_, app, store, environment, charge, purchase_id, stated_as, user_id, state, reason, spent, held = row[:12]
    created_at, updated_at, expires_at = row[12:]
    return RefundRequest(
        id=id_,
        transaction=TransactionKey(app, store, environment, charge),
        stated_as=stated_as,
        purchase_id=purchase_id,
        user_id=user_id,
        status=state,
        reason=reason,
        spent_percentage_milli=spent,
        held=msgspec.json.decode(held, type=dict[CurrencyId, int]),
        created_at=created_at,
        updated_at=updated_at,
        expires_at=expires_at,
    )


def _row(request: RefundRequest) -> tuple[Any, ...]:
    return (
        request.id,
        *request.transaction,
        request.purchase_id,
        request.user_id,
        request.status,
        request.reason,
        request.spent_percentage_milli,
        request.created_at,
        request.updated_at,
        request.expires_at,
    )
