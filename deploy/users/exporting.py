"""All that is held about a user, as one JSON document that is written while it is read: however much there is, no more
than a page of it is in memory, and all of it is of one moment.

The rows are told as they are kept, by the names of their columns, since whoever asks for them may ask for all of them.
"""

# ruff: noqa: S608 - SQL put together from our own constants; every value is a parameter

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from deploy.users.holdings import BY_INDEX, originals
from shared.events import PROOF_REMOVED
from shared.ids import AppId, UserId

if TYPE_CHECKING:
    from sqlalchemy import Connection

ROWS: Final = 500
"""Of a page."""

PROOFS: Final = ("receipt", "signed_transaction", "signed_renewal_info", "signed_payload")
"""Fields of events that are as large as all others together."""

_ENVIRONMENTS: Final = "('production', 'sandbox')"
_WALLETS: Final = (
    f"select id from ledger.wallet where app = %(app)s and environment in {_ENVIRONMENTS} and user_id = %(user_id)s"
)
_ACCOUNTS: Final = f"select id from ledger.account where wallet_id = any (array({_WALLETS}))"
_TRANSFERS: Final = f"select transfer_id from ledger.entry where wallet_id = any (array({_WALLETS}))"
_PURCHASES: Final = "select subject from journal.subjects_of(%(app)s, %(user_id)s) where subject like 'pur\\_%%'"

# In the order in which they are told. Each gives one column, the row as JSON; `internal` numbers are left out.
_SECTIONS: Final[Mapping[str, str]] = {
    "account_tokens": (
        "select to_jsonb(each) from (select token from verifier.account_token"
        "  where app = %(app)s and user_id = %(user_id)s) as each"
    ),
    "store_transactions": (
        "select to_jsonb(known) from verifier.store_transaction as known"
        " where app = %(app)s and (user_id = %(user_id)s or user_id is null and promised_to = %(user_id)s)"
    ),
    "store_origins": (
        "select to_jsonb(known) from verifier.origin as known where app = %(app)s and user_id = %(user_id)s"
    ),
    "wallets": (
        "select jsonb_build_object('environment', environment, 'version', version, 'accounts', accounts)"
        "  from ledger.wallet, lateral (select coalesce(jsonb_agg(jsonb_build_object('currency', currency,"
        "       'balance', balance, 'held', held, 'owed', owed) order by currency), '[]') as accounts"
        "         from ledger.account where wallet_id = wallet.id) as of_it"
        f" where app = %(app)s and environment in {_ENVIRONMENTS} and user_id = %(user_id)s"
    ),
    "wallet_entries": (
        "select jsonb_build_object('environment', wallet.environment, 'version', entry.wallet_version,"
        "       'currency', account.currency, 'amount', entry.amount, 'balance_after', entry.balance_after)"
        "       || jsonb_strip_nulls(to_jsonb(transfer) - '{app,environment}'::text[])"
        "  from ledger.wallet join ledger.entry on entry.wallet_id = wallet.id"
        "  join ledger.account on account.id = entry.account_id"
        "  join ledger.transfer on transfer.id = entry.transfer_id"
        f" where wallet.app = %(app)s and wallet.environment in {_ENVIRONMENTS} and wallet.user_id = %(user_id)s"
        " order by wallet.environment, entry.wallet_version"
    ),
    "lots": (
        "select jsonb_build_object('currency', account.currency) || to_jsonb(lot) - 'account_id'"
        f"  from ledger.lot join ledger.account on account.id = account_id where account_id = any (array({_ACCOUNTS}))"
    ),
    "spends": f"select to_jsonb(spend) - 'account_id' from ledger.spend where id = any (array({_TRANSFERS}))",
    "holds": f"select to_jsonb(hold) - 'account_id' from ledger.hold where account_id = any (array({_ACCOUNTS}))",
    "granted_purchases": (
        "select to_jsonb(known) from ledger.store_transaction as known"
        f" where purchase_id = any (array({_PURCHASES})) and app = %(app)s and user_id = %(user_id)s"
    ),
    "refund_requests": (
        "select to_jsonb(request) from ledger.refund_request as request where app = %(app)s and user_id = %(user_id)s"
    ),
    "subscriptions": (
        "select to_jsonb(known) from ledger.subscription as known"
        f" where app = %(app)s and environment in {_ENVIRONMENTS} and user_id = %(user_id)s"
    ),
    "entitlements": (
        "select to_jsonb(known) from ledger.entitlement as known"
        f" where app = %(app)s and environment in {_ENVIRONMENTS} and user_id = %(user_id)s"
    ),
    "entitlement_sources": (
        "select to_jsonb(known) from ledger.entitlement_source as known"
        f" where app = %(app)s and environment in {_ENVIRONMENTS} and user_id = %(user_id)s"
    ),
    "answers": (
        "select to_jsonb(given) - 'body_sha256' from ledger.answer as given"
        " where app = %(app)s and user_id = %(user_id)s"
    ),
    "webhooks": (
        "select to_jsonb(told) || jsonb_build_object('attempt_list', made.attempts)"
        "  from journal.outward as place, notifier.endpoints_of(%(app)s) as endpoint, notifier.delivery as told,"
        "       lateral (select coalesce(jsonb_agg(to_jsonb(a) - '{app,endpoint_id,event_id}'::text[] order by number),"
        "                                '[]') as attempts"
        "                  from notifier.attempt as a"
        "                 where a.app = told.app and a.endpoint_id = told.endpoint_id and a.event_id = told.event_id)"
        "       as made"
        " where place.app = %(app)s and place.user_id = %(user_id)s"
        "   and told.app = place.app and told.endpoint_id = endpoint and told.event_id = place.event_id"
    ),
}

# Purchases first, each subject's events together, oldest first.
_TIMELINES: Final = """
select s.subject, to_jsonb(e) - '{app,subject,transaction}'::text[]
  from (select * from journal.subjects_of(%(app)s, %(user_id)s)
         order by subject not like 'pur\\_%%', first_event_id, subject) as s,
       lateral (select * from journal.event
                 where app = s.app and subject = s.subject and id between s.first_event_id and s.last_event_id
                 order by id offset 0) as e
"""

_NOTIFICATIONS: Final = """
select to_jsonb(e) - '{app,user_id,transaction}'::text[] from journal.event as e
 where id = any (array(select * from journal.notifications_of(%(app)s, %(originals)s))) order by id
"""


def export_user(
    connection: Connection, *, app: AppId, user_id: UserId, exported_at: str, proofs: bool
) -> Iterator[str]:
    """The document, piece by piece. Without `proofs` it says of what a store or a client has signed only that it is
    there. Nothing else may be done in the connection's transaction before."""
    connection.exec_driver_sql("set transaction isolation level repeatable read, read only")
    connection.exec_driver_sql(BY_INDEX)
    named = {
        "app": app,
        "user_id": user_id,
        "originals": list(originals(connection, app=app, user_id=user_id)),
    }
    head = json.dumps({"app": app, "user_id": user_id, "exported_at": exported_at}, indent=1)
    yield head[: -len("\n}")]
    for section, sql in _SECTIONS.items():
        yield from _array(section, (row[0] for row in _rows(connection, sql, named)))
    told = _shown((row[0] for row in _rows(connection, _NOTIFICATIONS, named)), proofs=proofs)
    yield from _array("notifications", told)
    yield from _array("timelines", _timelines(_rows(connection, _TIMELINES, named), proofs=proofs))
    yield "\n}\n"


def _rows(connection: Connection, sql: str, named: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    """The rows of a query, which the server keeps and hands out page by page."""
    result = connection.execution_options(stream_results=True, max_row_buffer=ROWS).exec_driver_sql(sql, dict(named))
    yield from result.yield_per(ROWS)


def _array(name: str, items: Iterable[Any]) -> Iterator[str]:
    """A member of the document that is a list, an item on each line."""
    yield f",\n {json.dumps(name)}: ["
    comma = ""
    for item in items:
        yield f"{comma}\n  {json.dumps(item, ensure_ascii=False)}"
        comma = ","
    yield "\n ]" if comma else "]"


def _timelines(rows: Iterable[Sequence[Any]], *, proofs: bool) -> Iterator[dict[str, Any]]:
    """An item for each subject in a row, with its events. One of them is in memory."""
    subject: str | None = None
    events: list[dict[str, Any]] = []
    for each, event in rows:
        if each != subject and subject is not None:
            yield {"subject": subject, "events": events}
            events = []
        subject = each
        events += _shown([event], proofs=proofs)
    if subject is not None:
        yield {"subject": subject, "events": events}


def _shown(events: Iterable[dict[str, Any]], *, proofs: bool) -> Iterator[dict[str, Any]]:
    for event in events:
        yield event if proofs else event | {"payload": _without_proofs(event["payload"])}


def _without_proofs(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _named(value) if name in PROOFS else value for name, value in payload.items()}


def _named(proof: Any) -> Any:
    """That there is one; what was removed, and what never was, is said as it is."""
    return f"({len(proof)} characters)" if isinstance(proof, str) and proof != PROOF_REMOVED else proof
