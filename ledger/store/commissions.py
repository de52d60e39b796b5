"""Spends and holds that were asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from ledger.domain.books import WalletKey
from ledger.domain.lots import Reservation
from ledger.domain.spending import Hold, PostedSpend, Standing
from ledger.store.statements import columns

_SPENDS = """
select spend.id, wallet.app, wallet.environment, wallet.user_id, account.currency, spend.amount, transfer.created_at,
       spend.reversed, transfer.reference, spend.item, spend.hold_id
  from ledger.spend
  join ledger.transfer on transfer.id = spend.id
  join ledger.account on account.id = spend.account_id
  join ledger.wallet on wallet.id = account.wallet_id
 where spend.id = any(%(ids)s::uuid[])
"""

_SELECT_HOLDS = """
select hold.id, wallet.app, wallet.environment, wallet.user_id, account.currency, hold.amount, hold.expires_at,
       hold.created_at, hold.captured, hold.state, hold.reference, hold.refund_request_id, made.id
  from ledger.hold
  left join ledger.spend made on made.hold_id = hold.id
  join ledger.account on account.id = hold.account_id
  join ledger.wallet on wallet.id = account.wallet_id
"""

_HOLDS = f"{_SELECT_HOLDS} where hold.id = any(%(ids)s::uuid[])"
_HOLDS_OF_REQUESTS = f"{_SELECT_HOLDS} where hold.refund_request_id = any(%(ids)s::uuid[]) and hold.state = 'open'"

_DUE = """
select id from ledger.hold
 where state = 'open' and expires_at <= %(now)s and refund_request_id is null
 order by expires_at limit %(limit)s
"""

# The account by the wallet's key and the currency: every one of these is locked by now.
_ACCOUNT = """
  join ledger.wallet on (wallet.app, wallet.environment, wallet.user_id) = (new.app, new.environment, new.user_id)
  join ledger.account on (account.wallet_id, account.currency) = (wallet.id, new.currency)
"""

_SAVE_SPENDS = f"""
insert into ledger.spend (id, account_id, amount, reversed, item, hold_id)
select new.id, account.id, new.amount, new.reversed, new.item, new.hold_id
  from unnest(%(ids)s::uuid[], %(apps)s::text[], %(environments)s::text[], %(user_ids)s::text[],
              %(currencies)s::text[], %(amounts)s::bigint[], %(reverseds)s::bigint[], %(items)s::text[],
              %(hold_ids)s::uuid[])
       as new (id, app, environment, user_id, currency, amount, reversed, item, hold_id) {_ACCOUNT}
    on conflict (id) do update set reversed = excluded.reversed
"""

_SAVE_HOLDS = f"""
insert into ledger.hold
       (id, account_id, amount, captured, state, expires_at, reference, refund_request_id, created_at)
select new.id, account.id, new.amount, new.captured, new.state, new.expires_at, new.reference, new.refund_request_id,
       new.created_at
  from unnest(%(ids)s::uuid[], %(apps)s::text[], %(environments)s::text[], %(user_ids)s::text[],
              %(currencies)s::text[], %(amounts)s::bigint[], %(captureds)s::bigint[], %(states)s::text[],
              %(expires_ats)s::timestamptz[], %(references)s::text[], %(refund_request_ids)s::uuid[],
              %(created_ats)s::timestamptz[])
       as new (id, app, environment, user_id, currency, amount, captured, state, expires_at, reference,
               refund_request_id, created_at) {_ACCOUNT}
    on conflict (id) do update set captured = excluded.captured, state = excluded.state
"""

_SAVE_RESERVATIONS = """
insert into ledger.reservation (hold_id, position, account_id, lot_version, amount)
select * from unnest(%(hold_ids)s::uuid[], %(positions)s::int[], %(account_ids)s::bigint[], %(versions)s::bigint[],
                     %(amounts)s::bigint[])
"""

_SPEND_COLUMNS = (
    "ids", "apps", "environments", "user_ids", "currencies", "amounts", "reverseds", "items", "hold_ids",
)  # fmt: skip
_HOLD_COLUMNS = (
    "ids", "apps", "environments", "user_ids", "currencies", "amounts", "captureds", "states", "expires_ats",
    "references", "refund_request_ids", "created_ats",
)  # fmt: skip


class PostgresCommissions:
    """As handlers.ports.Commissions wants them, on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def standing(self, *, spends: Collection[UUID], holds: Collection[UUID]) -> Standing:
        """How these stand; those that exist."""
        return Standing(
            spends={row[0]: _spend(row) for row in self._named(_SPENDS, spends)},
            holds={row[0]: hold_from(row) for row in self._named(_HOLDS, holds)},
        )

    def due_holds(self, *, now: datetime, limit: int) -> Sequence[UUID]:
        """Open holds whose time is over, those of requests for refunds left out; the oldest first."""
        return list(self._connection.exec_driver_sql(_DUE, {"now": now, "limit": limit}).scalars())

    def holds_of(self, requests: Collection[UUID]) -> Sequence[Hold]:
        """The open holds of these requests for refunds."""
        return [hold_from(row) for row in self._named(_HOLDS_OF_REQUESTS, requests)]

    def save(
        self, *, spends: Collection[PostedSpend], holds: Collection[Hold], reservations: Collection[Reservation]
    ) -> None:
        """Writes them down, new or changed."""
        if spends:
            rows = [
                (each.id, *each.wallet, each.currency, each.amount, each.reversed, each.item, each.hold)
                for each in spends
            ]
            self._connection.exec_driver_sql(_SAVE_SPENDS, columns(rows, _SPEND_COLUMNS))
        if holds:
            self._connection.exec_driver_sql(_SAVE_HOLDS, columns(map(_hold_row, holds), _HOLD_COLUMNS))
        if reservations:
            reserved = [(each.hold_id, each.position, *each.key, each.amount) for each in reservations]
            names = ("hold_ids", "positions", "account_ids", "versions", "amounts")
            self._connection.exec_driver_sql(_SAVE_RESERVATIONS, columns(reserved, names))

    def _named(self, statement: str, ids: Collection[UUID]) -> Sequence[Any]:
        if not ids:
            return []
        return self._connection.exec_driver_sql(statement, {"ids": [str(each) for each in ids]}).all()


def hold_from(row: Any) -> Hold:
    """A hold from a row."""
    hold_id, app, environment, user_id, currency, *rest = row
    return Hold(hold_id, WalletKey(app, environment, user_id), currency, *rest)


def _spend(row: Any) -> PostedSpend:
    spend_id, app, environment, user_id, currency, *rest = row
    return PostedSpend(spend_id, WalletKey(app, environment, user_id), currency, *rest)


def _hold_row(hold: Hold) -> tuple[Any, ...]:
    return (
        hold.id,
        *hold.wallet,
        hold.currency,
        hold.amount,
        hold.captured,
        hold.state,
        hold.expires_at,
        hold.reference,
        hold.refund_request,
        hold.created_at,
    )
