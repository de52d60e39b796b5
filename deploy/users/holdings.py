"""Where something is held about a user, and how much of it there is: what erasing would change, table by table."""

# ruff: noqa: S608 - SQL put together from our own constants; every value is a parameter

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from shared.bus.routes import CONSUMERS
from shared.events import (
    AccountTokenIssued,
    NotificationReceived,
    ReceiptSubmitted,
    SubscriptionReported,
    TransactionSubmitted,
)
from shared.ids import AppId, UserId

if TYPE_CHECKING:
    from sqlalchemy import Connection

WITH_PROOF: Final = (
    ReceiptSubmitted.TYPE,
    TransactionSubmitted.TYPE,
    NotificationReceived.TYPE,
    SubscriptionReported.TYPE,
    AccountTokenIssued.TYPE,
)
"""Events that nobody could handle any more once what is personal was taken out of them."""

BY_INDEX: Final = """
select set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('enable_seqscan', 'off', true)
"""
"""Comes before the statements below: with stale statistics the planner may want to read whole tables instead."""

_EVENTS: Final = """
select e.id from journal.subjects_of(%(app)s, %(user_id)s) s
  join journal.event e on e.app = s.app and e.subject = s.subject and e.id between s.first_event_id and s.last_event_id
 where (e.user_id = %(user_id)s or e.user_id is null)
"""

_NOTIFICATIONS: Final = "select * from journal.notifications_of(%(app)s, %(originals)s)"

_WALLETS: Final = """
select id from ledger.wallet
 where app = %(app)s and environment in ('production', 'sandbox') and user_id = %(user_id)s
"""

_PURCHASES: Final = "select subject from journal.subjects_of(%(app)s, %(user_id)s) where subject like 'pur\\_%%'"

_HELD: Final[Mapping[str, str]] = {
    "verifier.account_token": "select from verifier.account_token where app = %(app)s and user_id = %(user_id)s",
    "verifier.origin": "select from verifier.origin where app = %(app)s and user_id = %(user_id)s",
    "verifier.store_transaction": (
        "select from verifier.store_transaction"
        " where app = %(app)s and (user_id = %(user_id)s or user_id is null and promised_to = %(user_id)s)"
    ),
    "ledger.answer": "select from ledger.answer where app = %(app)s and user_id = %(user_id)s",
    "ledger.store_transaction": (
        "select from ledger.store_transaction"
        f" where purchase_id = any (array({_PURCHASES})) and app = %(app)s and user_id = %(user_id)s"
    ),
    "ledger.subscription": (
        "select from ledger.subscription"
        " where app = %(app)s and environment in ('production', 'sandbox') and user_id = %(user_id)s"
    ),
    "ledger.refund_request": "select from ledger.refund_request where app = %(app)s and user_id = %(user_id)s",
    "ledger.wallet": _WALLETS,
    "ledger.transfer": (f"select distinct transfer_id from ledger.entry where wallet_id = any (array({_WALLETS}))"),
    "ledger.hold": (
        "select from ledger.hold where reference is not null and account_id in"
        f" (select id from ledger.account where wallet_id = any (array({_WALLETS})))"
    ),
    "ledger.entitlement_source": (
        "select from ledger.entitlement_source"
        " where app = %(app)s and environment in ('production', 'sandbox') and user_id = %(user_id)s"
    ),
    "ledger.entitlement": (
        "select from ledger.entitlement"
        " where app = %(app)s and environment in ('production', 'sandbox') and user_id = %(user_id)s"
    ),
    "notifier.attempt": (
        "select from journal.outward o, notifier.endpoints_of(%(app)s) as endpoint, notifier.attempt a"
        " where o.app = %(app)s and o.user_id = %(user_id)s and a.app = o.app and a.endpoint_id = endpoint"
        "   and a.event_id = o.event_id and a.answer <> ''"
    ),
    "journal.event": (
        f"{_EVENTS} union all select id from journal.event"
        f" where id = any (array({_NOTIFICATIONS})) and payload ->> 'signed_payload' <> 'removed'"
    ),
    "journal.timeline": "select from journal.subjects_of(%(app)s, %(user_id)s)",
    "journal.delivery": (
        "select from journal.delivery d join journal.event e on e.id = d.event_id"
        " where d.state in ('parked', 'dead') and strpos(d.error, %(user_id)s) > 0 and e.app = %(app)s"
        f"  and (e.user_id = %(user_id)s or e.id = any (array({_NOTIFICATIONS}))"
        "       or e.user_id is null and e.subject in (select subject from journal.subjects_of(%(app)s, %(user_id)s)))"
    ),
}

_ORIGINALS: Final = """
select distinct coalesce(statement ->> 'original_transaction_id', original_transaction_id, transaction_id)
  from verifier.store_transaction
 where app = %(app)s and (user_id = %(user_id)s or user_id is null and promised_to = %(user_id)s)
"""

_UNDER_WAY: Final = f"""
with told as materialized ({_EVENTS} and e.type = any(%(types)s) union {_NOTIFICATIONS})
select count(*) from told
 where exists (select from journal.delivery d
                where d.consumer = any(%(consumers)s) and d.event_id = told.id and d.state in ('waiting', 'handed'))
"""


def held(connection: Connection, *, app: AppId, user_id: UserId) -> dict[str, int]:
    """How many rows of each table say something of the user that erasing would change; tables with none are left
    out."""
    connection.exec_driver_sql(BY_INDEX)
    named = _named(connection, app=app, user_id=user_id)
    counts = {table: _count(connection, sql, named) for table, sql in _HELD.items()}
    return {table: count for table, count in counts.items() if count}


def under_way(connection: Connection, *, app: AppId, user_id: UserId) -> int:
    """How many of the user's submissions, and of the store's words about what they bought, are still to be handled and
    can be only as long as nothing is taken out of them. What is stuck until an operator moves it does not count."""
    connection.exec_driver_sql(BY_INDEX)
    named = _named(connection, app=app, user_id=user_id)
    named |= {"types": list(WITH_PROOF), "consumers": list(CONSUMERS)}
    return int(connection.exec_driver_sql(_UNDER_WAY, named).scalar_one())


def originals(connection: Connection, *, app: AppId, user_id: UserId) -> Sequence[str]:
    """The first transactions of all that the user has bought: by them notifications about it are found."""
    return list(connection.exec_driver_sql(_ORIGINALS, {"app": app, "user_id": user_id}).scalars())


def _named(connection: Connection, *, app: AppId, user_id: UserId) -> dict[str, Any]:
    return {"app": app, "user_id": user_id, "originals": originals(connection, app=app, user_id=user_id)}


def _count(connection: Connection, sql: str, named: Mapping[str, Any]) -> int:
    return int(connection.exec_driver_sql(f"select count(*) from ({sql}) as held", dict(named)).scalar_one())
