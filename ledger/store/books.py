"""The books in Postgres: set-based, one statement per step, within one transaction of the caller's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from ledger.domain.books import (
    UNKNOWN,
    Account,
    AccountKey,
    Amounts,
    KnownTransaction,
    Locked,
    TransactionKey,
    Wallet,
    WalletKey,
)
from ledger.domain.postings import Entry, Posting, Transfer, entry_id
from ledger.domain.statements import WalletEntry, WalletState
from shared.database import array_literal
from shared.money import CurrencyId

HOUSE_SHARDS: Final = 16
"""Accounts of the house per app, environment, kind and currency: a batch locks one, so other batches seldom wait."""

# Every statement here looks up a few rows of large tables by their keys. With stale statistics the planner may read a
# whole table instead; this leaves it the indexes.
_BY_INDEX = """
select set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('enable_seqscan', 'off', true)
"""

# The keys come sorted, and every statement that locks or inserts keeps an order: no two batches wait for each other in
# a circle. A key that another transaction is just inserting is waited for; it is there when the rows are locked.
_TRANSACTION_KEYS = (
    "unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[])"
    " as wanted (app, store, environment, transaction_id)"
)

_MEET_TRANSACTIONS = f"""
insert into ledger.store_transaction (app, store, environment, transaction_id)
select * from {_TRANSACTION_KEYS}
    on conflict do nothing
returning app, store, environment, transaction_id
"""

_LOCK_TRANSACTIONS = f"""
select app, store, environment, transaction_id,
       state, user_id, purchase_id, due::text, granted::text, refunded_milli, refunds, parked_reason
  from ledger.store_transaction join {_TRANSACTION_KEYS} using (app, store, environment, transaction_id)
 order by app, store, environment, transaction_id for update of store_transaction
"""

_UPDATE_TRANSACTIONS = """
update ledger.store_transaction known
   set state = new.state, user_id = new.user_id, purchase_id = new.purchase_id, due = new.due::jsonb,
       granted = new.granted::jsonb, refunded_milli = new.refunded_milli, refunds = new.refunds,
       parked_reason = new.parked_reason
  from unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[],
              %(states)s::text[], %(user_ids)s::text[], %(purchase_ids)s::text[], %(dues)s::text[],
              %(granteds)s::text[], %(refunded_millis)s::int[], %(refunds)s::int[], %(parked_reasons)s::text[])
       as new (app, store, environment, transaction_id, state, user_id, purchase_id, due, granted, refunded_milli,
               refunds, parked_reason)
 where (known.app, known.store, known.environment, known.transaction_id)
     = (new.app, new.store, new.environment, new.transaction_id)
"""

_WALLET_KEYS = (
    "unnest(%(apps)s::text[], %(environments)s::text[], %(user_ids)s::text[]) as wanted (app, environment, user_id)"
)

# Only what is missing is tried, so that ids are not used up by conflicts.
_OPEN_WALLETS = f"""
insert into ledger.wallet (app, environment, user_id)
select app, environment, user_id from {_WALLET_KEYS}
 where not exists (select from ledger.wallet
                    where (app, environment, user_id) = (wanted.app, wanted.environment, wanted.user_id))
 order by app, environment, user_id
    on conflict do nothing
"""

_LOCK_WALLETS = f"""
select app, environment, user_id, id, version
  from ledger.wallet join {_WALLET_KEYS} using (app, environment, user_id)
 order by id for update of wallet
"""

_ACCOUNT_KEYS = (
    "unnest(%(kinds)s::text[], %(apps)s::text[], %(environments)s::text[], %(currencies)s::text[],"
    " %(wallet_ids)s::bigint[]) as wanted (kind, app, environment, currency, wallet_id)"
)

_OPEN_ACCOUNTS = f"""
insert into ledger.account (kind, app, environment, currency, wallet_id, shard)
select kind, app, environment, currency, wallet_id, case when wallet_id is null then %(shard)s end
  from {_ACCOUNT_KEYS}
 where not exists (select from ledger.account
                    where wanted.wallet_id is not null
                      and (wallet_id, currency) = (wanted.wallet_id, wanted.currency))
   and not exists (select from ledger.account
                    where wanted.wallet_id is null and wallet_id is null and shard = %(shard)s
                      and (app, environment, kind, currency)
                        = (wanted.app, wanted.environment, wanted.kind, wanted.currency))
 order by wallet_id, app, environment, kind, currency
    on conflict do nothing
"""

# Two kinds of account, two indexes: the ids first, then one locking scan in the order of the ids.
_LOCK_ACCOUNTS = f"""
select kind, app, environment, currency, wallet_id, id, balance, version
  from ledger.account
 where id = any(array(
       select account.id
         from {_ACCOUNT_KEYS} join ledger.account
              on (account.wallet_id, account.currency) = (wanted.wallet_id, wanted.currency)
        union all
       select account.id
         from {_ACCOUNT_KEYS} join ledger.account
              on wanted.wallet_id is null and account.wallet_id is null and account.shard = %(shard)s
             and (account.app, account.environment, account.kind, account.currency)
               = (wanted.app, wanted.environment, wanted.kind, wanted.currency)))
 order by id for update
"""

_INSERT_TRANSFERS = """
insert into ledger.transfer
       (id, app, environment, kind, store, transaction_id, sequence, purchase_id, event_id, trace_id, created_at)
select * from unnest(%(ids)s::uuid[], %(apps)s::text[], %(environments)s::text[], %(kinds)s::text[],
                     %(stores)s::text[], %(transaction_ids)s::text[], %(sequences)s::int[], %(purchase_ids)s::text[],
                     %(event_ids)s::uuid[], %(trace_ids)s::text[], %(created_ats)s::timestamptz[])
"""

_INSERT_ENTRIES = """
insert into ledger.entry
       (account_id, account_version, transfer_id, position, amount, balance_before, balance_after,
        wallet_id, wallet_version)
select * from unnest(%(account_ids)s::bigint[], %(account_versions)s::bigint[], %(transfer_ids)s::uuid[],
                     %(positions)s::smallint[], %(amounts)s::bigint[], %(befores)s::bigint[], %(afters)s::bigint[],
                     %(wallet_ids)s::bigint[], %(wallet_versions)s::bigint[])
"""

_UPDATE_ACCOUNTS = """
update ledger.account set balance = new.balance, version = new.version
  from unnest(%(ids)s::bigint[], %(balances)s::bigint[], %(versions)s::bigint[]) as new (id, balance, version)
 where account.id = new.id
"""

_UPDATE_WALLETS = """
update ledger.wallet set version = new.version
  from unnest(%(ids)s::bigint[], %(versions)s::bigint[]) as new (id, version)
 where wallet.id = new.id
"""

_READ_WALLET = """
select wallet.version, account.currency, account.balance
  from ledger.wallet left join ledger.account on account.wallet_id = wallet.id
 where wallet.app = %(app)s and wallet.environment = %(environment)s and wallet.user_id = %(user_id)s
"""

# The page first, along the index, so that a wallet of a million entries is read as fast as any.
_READ_ENTRIES = """
select page.transfer_id, page.position, transfer.kind, account.currency, page.amount, page.balance_after,
       page.wallet_version, transfer.purchase_id, transfer.created_at
  from (select * from ledger.entry
         where wallet_id = (select id from ledger.wallet
                             where (app, environment, user_id) = (%(app)s, %(environment)s, %(user_id)s))
           and wallet_version < %(before)s
         order by wallet_version desc limit %(limit)s) as page
  join ledger.transfer on transfer.id = page.transfer_id
  join ledger.account on account.id = page.account_id
 order by page.wallet_version desc
"""

_VERSION_MAX: Final = 2**63 - 1


class PostgresBooks:
    """The books on one connection; `shard` (0 to HOUSE_SHARDS - 1) picks which of the house's accounts are used."""

    def __init__(self, connection: Connection, *, shard: int) -> None:
        self._connection = connection
        self._shard = shard

    def lock_transactions(self, keys: Collection[TransactionKey]) -> Mapping[TransactionKey, KnownTransaction]:
        """How these transactions stand, locked."""
        self._run(_BY_INDEX, {})
        parameters = _columns(sorted(keys), ("apps", "stores", "environments", "transaction_ids"))
        met = {TransactionKey(*row) for row in self._run(_MEET_TRANSACTIONS, parameters)}
        known = dict.fromkeys(met, UNKNOWN)
        if others := sorted(key for key in keys if key not in met):
            parameters = _columns(others, ("apps", "stores", "environments", "transaction_ids"))
            known |= {TransactionKey(*row[:4]): _known(row[4:]) for row in self._run(_LOCK_TRANSACTIONS, parameters)}
        return known

    def lock_accounts(self, keys: Collection[AccountKey]) -> Locked:
        """These accounts and their wallets, opened where there were none, locked."""
        if not keys:
            return Locked(accounts={}, wallets={})
        wallets = self._lock_wallets(sorted({wallet for key in keys if (wallet := key.wallet) is not None}))
        users = {wallet.id: key.user_id for key, wallet in wallets.items()}
        parameters = self._account_parameters(keys, wallets)
        self._run(_OPEN_ACCOUNTS, parameters)
        accounts = {
            AccountKey(kind, app, environment, currency, users.get(wallet_id)): Account(account_id, balance, version)
            for kind, app, environment, currency, wallet_id, account_id, balance, version in self._run(
                _LOCK_ACCOUNTS, parameters
            )
        }
        return Locked(accounts=accounts, wallets=wallets)

    def write(self, posting: Posting, known: Mapping[TransactionKey, KnownTransaction]) -> None:
        """Writes a posting on locked accounts, and how locked transactions stand."""
        if posting.transfers:
            self._write_transfers(posting.transfers)
            self._write_entries(posting.entries)  # before the accounts: the database checks that they follow
            self._write_accounts(posting)
        if known:
            self._write_transactions(known)

    def _lock_wallets(self, keys: Sequence[WalletKey]) -> dict[WalletKey, Wallet]:
        parameters = _columns(keys, ("apps", "environments", "user_ids"))
        self._run(_OPEN_WALLETS, parameters)
        return {WalletKey(*row[:3]): Wallet(*row[3:]) for row in self._run(_LOCK_WALLETS, parameters)}

    def _account_parameters(self, keys: Collection[AccountKey], wallets: Mapping[WalletKey, Wallet]) -> dict[str, Any]:
        rows = [(*key[:4], wallets[key.wallet].id if key.wallet is not None else None) for key in keys]
        names = ("kinds", "apps", "environments", "currencies", "wallet_ids")
        return {**_columns(rows, names), "shard": self._shard}

    def _write_transfers(self, transfers: Sequence[Transfer]) -> None:
        moves = [transfer.movement for transfer in transfers]
        parameters = {
            "ids": array_literal(transfer.id for transfer in transfers),
            "apps": array_literal(move.key.app for move in moves),
            "environments": array_literal(move.key.environment for move in moves),
            "kinds": array_literal(move.kind for move in moves),
            "stores": array_literal(move.key.store for move in moves),
            "transaction_ids": array_literal(move.key.transaction_id for move in moves),
            "sequences": array_literal(move.sequence for move in moves),
            "purchase_ids": array_literal(move.purchase_id for move in moves),
            "event_ids": array_literal(transfer.event_id for transfer in transfers),
            "trace_ids": array_literal(transfer.trace_id for transfer in transfers),
            "created_ats": array_literal(transfer.created_at for transfer in transfers),
        }
        self._run(_INSERT_TRANSFERS, parameters)

    def _write_entries(self, entries: Sequence[Entry]) -> None:
        parameters = {
            "account_ids": array_literal(entry.account_id for entry in entries),
            "account_versions": array_literal(entry.account_version for entry in entries),
            "transfer_ids": array_literal(entry.transfer_id for entry in entries),
            "positions": array_literal(entry.position for entry in entries),
            "amounts": array_literal(entry.amount for entry in entries),
            "befores": array_literal(entry.balance_before for entry in entries),
            "afters": array_literal(entry.balance_after for entry in entries),
            "wallet_ids": array_literal(entry.wallet_id for entry in entries),
            "wallet_versions": array_literal(entry.wallet_version for entry in entries),
        }
        self._run(_INSERT_ENTRIES, parameters)

    def _write_accounts(self, posting: Posting) -> None:
        accounts, wallets = posting.accounts, posting.wallets
        parameters = {
            "ids": array_literal(account.id for account in accounts),
            "balances": array_literal(account.balance for account in accounts),
            "versions": array_literal(account.version for account in accounts),
        }
        self._run(_UPDATE_ACCOUNTS, parameters)
        if wallets:
            parameters = {
                "ids": array_literal(wallet.id for wallet in wallets),
                "versions": array_literal(wallet.version for wallet in wallets),
            }
            self._run(_UPDATE_WALLETS, parameters)

    def _write_transactions(self, known: Mapping[TransactionKey, KnownTransaction]) -> None:
        stand = known.values()
        parameters = {
            **_columns(known, ("apps", "stores", "environments", "transaction_ids")),
            "states": array_literal(each.state for each in stand),
            "user_ids": array_literal(each.user_id for each in stand),
            "purchase_ids": array_literal(each.purchase_id for each in stand),
            "dues": array_literal(_json(each.due) for each in stand),
            "granteds": array_literal(_json(each.granted) for each in stand),
            "refunded_millis": array_literal(each.refunded_milli for each in stand),
            "refunds": array_literal(each.refunds for each in stand),
            "parked_reasons": array_literal(each.parked_reason for each in stand),
        }
        self._run(_UPDATE_TRANSACTIONS, parameters)

    def _run(self, statement: str, parameters: dict[str, Any]) -> Any:
        return self._connection.exec_driver_sql(statement, parameters)


class PostgresWallets:
    """The wallets, for reading, on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def wallet(self, key: WalletKey) -> WalletState | None:
        """The wallet with its balances; None when the user has none there."""
        rows = self._connection.exec_driver_sql(_READ_WALLET, key._asdict()).all()
        if not rows:
            return None
        balances = {currency: balance for _, currency, balance in rows if currency is not None}
        return WalletState(version=rows[0][0], balances=balances)

    def entries(self, key: WalletKey, *, before: int | None, limit: int) -> Sequence[WalletEntry]:
        """Newest first, of versions less than `before`."""
        parameters = {**key._asdict(), "before": _VERSION_MAX if before is None else before, "limit": limit}
        return [
            WalletEntry(entry_id(transfer_id, position), *rest)
            for transfer_id, position, *rest in self._connection.exec_driver_sql(_READ_ENTRIES, parameters)
        ]


def _columns(rows: Iterable[Sequence[Any]], names: Sequence[str]) -> dict[str, Any]:
    """Rows turned into one list per column, as unnest wants them."""
    listed = list(rows)
    return {name: array_literal([row[position] for row in listed]) for position, name in enumerate(names)}


def _known(row: Any) -> KnownTransaction:
    state, user_id, purchase_id, due, granted, refunded_milli, refunds, parked_reason = row
    return KnownTransaction(
        state=state,
        user_id=user_id,
        purchase_id=purchase_id,
        due=_amounts(due),
        granted=_amounts(granted),
        refunded_milli=refunded_milli,
        refunds=refunds,
        parked_reason=parked_reason,
    )


def _json(amounts: Amounts) -> str:
    return msgspec.json.encode(amounts).decode()


def _amounts(document: str) -> Amounts:
    return msgspec.json.decode(document, type=dict[CurrencyId, int])
