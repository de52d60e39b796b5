"""The books in the database, in the words of the model (`ledger_model.LedgerModel.state`), so that the two compare."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

from sqlalchemy import Connection, Row

from tests.support.ledger_model import Place

_ENTRIES = """
select app, environment, user_id, currency, kind, amount
  from (select account.app, account.environment, user_id, currency, transfer.kind, entry.amount,
               account_id, account_version
          from ledger.entry join ledger.account on account.id = account_id
          join ledger.wallet on wallet.id = account.wallet_id
          join ledger.transfer on transfer.id = transfer_id) as entry
 order by account_id, account_version"""
_ACCOUNTS = """
select account.id, account.app, account.environment, user_id, currency, balance, held, owed
  from ledger.account join ledger.wallet on wallet.id = account.wallet_id where account.version > 0"""
_LOTS = "select account_id, version, amount, remaining, held, spent from ledger.lot order by account_id, version"
_PURCHASES = """
select app, environment, transaction_id, user_id, refunded_milli, lots from ledger.store_transaction
 where user_id is not null or refunded_milli > 0"""
_SPENDS = "select id, amount, reversed from ledger.spend"
_PORTIONS = """
select transfer.id, transfer.kind, transfer.app, transfer.environment, transfer.transaction_id, currency, source,
       (select count(*) from ledger.lot
         where lot.account_id = portion.account_id and lot.version < lot_version) as lot_number,
       sum(portion.amount - returned - settled)::bigint as amount
  from ledger.portion join ledger.account on account.id = account_id join ledger.transfer on transfer.id = transfer_id
 group by transfer.id, currency, source, portion.account_id, lot_version
having sum(portion.amount - returned - settled) > 0"""
_HOLDS = "select id, amount, captured, state from ledger.hold"
_HOUSE = """
select app, environment, kind, currency, sum(balance)::bigint as balance from ledger.account
 where kind <> 'wallet' group by app, environment, kind, currency having sum(balance) <> 0"""


def state_of(connection: Connection) -> dict[str, Any]:
    """Everybody's books as they are in the database. For small ones: it reads every table whole."""
    lots = _lots(connection)
    accounts, names = _accounts(connection, lots)
    by_purchase, by_spend = _taken(connection)
    return {
        "accounts": accounts,
        "purchases": {
            (_place(row), row.transaction_id): {
                "user": row.user_id,
                "refunded_milli": row.refunded_milli,
                "lots": _lots_of_purchase(row, names, lots),
                "taken": {
                    currency: dict(where) for currency, where in by_purchase[_place(row), row.transaction_id].items()
                },
            }
            for row in _rows(connection, _PURCHASES)
        },
        "spends": {row.id: (row.amount, row.reversed, dict(by_spend[row.id])) for row in _rows(connection, _SPENDS)},
        "holds": {row.id: (row.amount, row.captured, row.state) for row in _rows(connection, _HOLDS)},
        "house": {(_place(row), row.kind, row.currency): row.balance for row in _rows(connection, _HOUSE)},
    }


Lots = dict[int, dict[int, tuple[int, int, int, int]]]
"""Account to version to (amount, remaining, held, spent)."""


def _rows(connection: Connection, query: str) -> list[Row[Any]]:
    return list(connection.exec_driver_sql(query))


def _place(row: Row[Any]) -> Place:
    return row.app, row.environment


def _lots(connection: Connection) -> Lots:
    lots: Lots = defaultdict(dict)
    for row in _rows(connection, _LOTS):
        lots[row.account_id][row.version] = (row.amount, row.remaining, row.held, row.spent)
    return lots


def _taken(connection: Connection) -> tuple[dict[Any, dict[str, Counter[Any]]], dict[Any, Counter[Any]]]:
    """Where the amounts lie: of each purchase's refunds, by currency, and of each spend."""
    by_purchase: dict[Any, dict[str, Counter[Any]]] = defaultdict(lambda: defaultdict(Counter))
    by_spend: dict[Any, Counter[Any]] = defaultdict(Counter)
    for row in _rows(connection, _PORTIONS):
        is_spend = row.kind == "spend"
        where = by_spend[row.id] if is_spend else by_purchase[_place(row), row.transaction_id][row.currency]
        where[row.lot_number if row.source == "lot" else row.source] += row.amount
    return by_purchase, by_spend


def _accounts(connection: Connection, lots: Lots) -> tuple[dict[Any, Any], dict[Any, int]]:
    """The accounts by name, and their ids by name."""
    entries = defaultdict(list)
    for row in _rows(connection, _ENTRIES):
        entries[_place(row), row.user_id, row.currency].append((row.kind, row.amount))
    names = {(_place(row), row.user_id, row.currency): row for row in _rows(connection, _ACCOUNTS)}
    states = {
        name: {
            "balance": row.balance,
            "held": row.held,
            "owed": row.owed,
            "entries": entries[name],
            "lots": list(lots[row.id].values()),
        }
        for name, row in names.items()
    }
    return states, {name: row.id for name, row in names.items()}


def _lots_of_purchase(row: Row[Any], names: dict[Any, int], lots: Lots) -> dict[str, Any]:
    known: dict[str, list[int]] = row.lots if isinstance(row.lots, dict) else json.loads(row.lots)
    return {
        currency: [lots[names[_place(row), row.user_id, currency]][version] for version in versions]
        for currency, versions in known.items()
        if versions
    }


def totals_of(state: dict[str, Any]) -> dict[str, Any]:
    """What of a state does not depend on the order in which the store's facts came: not which entries there are."""
    return {
        "accounts": {
            name: (account["balance"], account["held"], account["owed"], *_summed(account["lots"]))
            for name, account in state["accounts"].items()
            if account["balance"]
        },
        "purchases": {
            name: (
                purchase["user"],
                purchase["refunded_milli"],
                {currency: _summed(lots) for currency, lots in purchase["lots"].items() if _summed(lots) != (0, 0, 0)},
            )
            for name, purchase in state["purchases"].items()
        },
        "house": state["house"],
    }


def _summed(lots: list[tuple[int, int, int, int]]) -> tuple[int, int, int]:
    """What is left, set aside and spent of all of them."""
    totals: Counter[int] = Counter()
    for lot in lots:
        for position in (1, 2, 3):
            totals[position] += lot[position]
    return totals[1], totals[2], totals[3]


def balances_in(state: dict[str, Any]) -> dict[str, Any]:
    """What of a state does not depend on the order even when something was spent before: what there is, and is owed."""
    return {
        "accounts": {
            name: (account["balance"], account["held"], account["owed"])
            for name, account in state["accounts"].items()
            if account["balance"]
        },
        "house": state["house"],
    }
