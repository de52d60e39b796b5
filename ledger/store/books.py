"""Wallets, accounts, transfers and entries, and how each store transaction stands."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
from ledger.domain.lots import LotsFound, LotsWanted
from ledger.domain.postings import Entry, Posting, Transfer
from ledger.store.lots import load_lots, write_lots
from ledger.store.statements import by_index, columns
from shared.database import after_commit, array_literal
from shared.events import Draft, WalletCredited, WalletDebited
from shared.metrics.counted import LEDGER_AMOUNT
from shared.money import CurrencyId

HOUSE_SHARDS: Final = 16
"""Accounts of the house per app, environment, kind and currency: a batch locks one, so other batches seldom wait."""

# The keys come sorted, and every statement that locks or inserts keeps an order: no two batches wait for each other in
# a circle. A key that another transaction is just inserting is waited for; it is there when the rows are locked.
_TRANSACTION_KEYS = (
    "unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[])"
    " as wanted (app, store, environment, transaction_id)"
)

TRANSACTION_COLUMNS: Final = (
    "state, user_id, purchase_id, stated_as, product_id, quantity, purchased_at, due::text, granted::text,"
    " refunded_milli, revoked_signed_at, sequence, lots::text, parked_reason"
)

_MEET_TRANSACTIONS = f"""
insert into ledger.store_transaction (app, store, environment, transaction_id)
select * from {_TRANSACTION_KEYS}
    on conflict do nothing
returning app, store, environment, transaction_id
"""

_LOCK_TRANSACTIONS = f"""
select app, store, environment, transaction_id, {TRANSACTION_COLUMNS}
  from ledger.store_transaction join {_TRANSACTION_KEYS} using (app, store, environment, transaction_id)
 order by app, store, environment, transaction_id for update of store_transaction
"""

_UPDATE_TRANSACTIONS = """
update ledger.store_transaction known
   set state = new.state, user_id = new.user_id, purchase_id = new.purchase_id, stated_as = new.stated_as,
       product_id = new.product_id, quantity = new.quantity, purchased_at = new.purchased_at, due = new.due::jsonb,
       granted = new.granted::jsonb, refunded_milli = new.refunded_milli, revoked_signed_at = new.revoked_signed_at,
       sequence = new.sequence, lots = new.lots::jsonb, parked_reason = new.parked_reason
  from unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[],
              %(states)s::text[], %(user_ids)s::text[], %(purchase_ids)s::text[], %(stated_as)s::text[],
              %(product_ids)s::text[], %(quantities)s::int[], %(purchased_ats)s::timestamptz[], %(dues)s::text[],
              %(granteds)s::text[], %(refunded_millis)s::int[], %(revoked_signed_ats)s::timestamptz[],
              %(sequences)s::int[], %(lots)s::text[], %(parked_reasons)s::text[])
       as new (app, store, environment, transaction_id, state, user_id, purchase_id, stated_as, product_id, quantity,
               purchased_at, due, granted, refunded_milli, revoked_signed_at, sequence, lots, parked_reason)
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
select kind, app, environment, currency, wallet_id, id, balance, version, held, owed
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
       (id, app, environment, kind, store, transaction_id, sequence, purchase_id, event_id, trace_id, created_at,
        reference, reason, actor, reverses)
select * from unnest(%(ids)s::uuid[], %(apps)s::text[], %(environments)s::text[], %(kinds)s::text[],
                     %(stores)s::text[], %(transaction_ids)s::text[], %(sequences)s::int[], %(purchase_ids)s::text[],
                     %(event_ids)s::uuid[], %(trace_ids)s::text[], %(created_ats)s::timestamptz[],
                     %(references)s::text[], %(reasons)s::text[], %(actors)s::text[], %(reverses)s::uuid[])
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
update ledger.account set balance = new.balance, version = new.version, held = new.held, owed = new.owed
  from unnest(%(ids)s::bigint[], %(balances)s::bigint[], %(versions)s::bigint[], %(helds)s::bigint[],
              %(oweds)s::bigint[]) as new (id, balance, version, held, owed)
 where account.id = new.id
"""

_UPDATE_WALLETS = """
update ledger.wallet set version = new.version
  from unnest(%(ids)s::bigint[], %(versions)s::bigint[]) as new (id, version)
 where wallet.id = new.id
"""


class PostgresBooks:
    """The books on one connection; `shard` (0 to HOUSE_SHARDS - 1) picks which of the house's accounts are used."""

    def __init__(self, connection: Connection, *, shard: int) -> None:
        self._connection = connection
        self._shard = shard

    def lock_transactions(self, keys: Collection[TransactionKey]) -> Mapping[TransactionKey, KnownTransaction]:
        """How these transactions stand, locked."""
        by_index(self._connection)
        parameters = columns(sorted(keys), ("apps", "stores", "environments", "transaction_ids"))
        met = {TransactionKey(*row) for row in self._run(_MEET_TRANSACTIONS, parameters)}
        known = dict.fromkeys(met, UNKNOWN)
        if others := sorted(key for key in keys if key not in met):
            parameters = columns(others, ("apps", "stores", "environments", "transaction_ids"))
            known |= {
                TransactionKey(*row[:4]): known_transaction(row[4:])
                for row in self._run(_LOCK_TRANSACTIONS, parameters)
            }
        return known

    def load_lots(self, wanted: LotsWanted) -> LotsFound:
        """Lots and debits of accounts that are locked."""
        return load_lots(self._connection, wanted)

    def lock_accounts(self, keys: Collection[AccountKey]) -> Locked:
        """These accounts and their wallets, opened where there were none, locked."""
        if not keys:
            return Locked(accounts={}, wallets={})
        by_index(self._connection)
        wallets = self._lock_wallets(sorted({wallet for key in keys if (wallet := key.wallet) is not None}))
        users = {wallet.id: key.user_id for key, wallet in wallets.items()}
        parameters = self._account_parameters(keys, wallets)
        self._run(_OPEN_ACCOUNTS, parameters)
        accounts = {
            AccountKey(kind, app, environment, currency, users.get(wallet_id)): Account(*account)
            for kind, app, environment, currency, wallet_id, *account in self._run(_LOCK_ACCOUNTS, parameters)
        }
        return Locked(accounts=accounts, wallets=wallets)

    def write(self, posting: Posting, known: Mapping[TransactionKey, KnownTransaction]) -> None:
        """Writes a posting on locked accounts, and how locked transactions stand."""
        if posting.transfers:
            self._write_transfers(posting.transfers)
            self._write_entries(posting.entries)  # before the accounts: the database checks that they follow
        if posting.accounts:
            self._write_accounts(posting)
            write_lots(self._connection, posting)
        if known:
            self._write_transactions(known, posting.credits)
        after_commit(self._connection, lambda: _count_amounts(posting.drafts))

    def _lock_wallets(self, keys: Sequence[WalletKey]) -> dict[WalletKey, Wallet]:
        parameters = columns(keys, ("apps", "environments", "user_ids"))
        self._run(_OPEN_WALLETS, parameters)
        return {WalletKey(*row[:3]): Wallet(*row[3:]) for row in self._run(_LOCK_WALLETS, parameters)}

    def _account_parameters(self, keys: Collection[AccountKey], wallets: Mapping[WalletKey, Wallet]) -> dict[str, Any]:
        rows = [(*key[:4], wallets[key.wallet].id if key.wallet is not None else None) for key in keys]
        names = ("kinds", "apps", "environments", "currencies", "wallet_ids")
        return {**columns(rows, names), "shard": self._shard}

    def _write_transfers(self, transfers: Sequence[Transfer]) -> None:
        causes = [transfer.cause for transfer in transfers]
        keys = [cause.transaction for cause in causes]
        parameters = {
            "ids": array_literal(transfer.id for transfer in transfers),
            "apps": array_literal(cause.wallet.app for cause in causes),
            "environments": array_literal(cause.wallet.environment for cause in causes),
            "kinds": array_literal(transfer.kind for transfer in transfers),
            "stores": array_literal(None if key is None else key.store for key in keys),
            "transaction_ids": array_literal(None if key is None else key.transaction_id for key in keys),
            "sequences": array_literal(cause.sequence for cause in causes),
            "purchase_ids": array_literal(cause.purchase_id for cause in causes),
            "event_ids": array_literal(cause.event_id for cause in causes),
            "trace_ids": array_literal(cause.trace_id for cause in causes),
            "created_ats": array_literal(transfer.created_at for transfer in transfers),
            "references": array_literal(cause.reference for cause in causes),
            "reasons": array_literal(cause.reason for cause in causes),
            "actors": array_literal(cause.actor for cause in causes),
            "reverses": array_literal(cause.reverses for cause in causes),
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
            "helds": array_literal(account.held for account in accounts),
            "oweds": array_literal(account.owed for account in accounts),
        }
        self._run(_UPDATE_ACCOUNTS, parameters)
        if wallets:
            parameters = {
                "ids": array_literal(wallet.id for wallet in wallets),
                "versions": array_literal(wallet.version for wallet in wallets),
            }
            self._run(_UPDATE_WALLETS, parameters)

    def _write_transactions(
        self,
        known: Mapping[TransactionKey, KnownTransaction],
        credits: Mapping[TransactionKey, Mapping[CurrencyId, Sequence[int]]],
    ) -> None:
        stand = known.values()
        parameters = {
            **columns(known, ("apps", "stores", "environments", "transaction_ids")),
            "states": array_literal(each.state for each in stand),
            "user_ids": array_literal(each.user_id for each in stand),
            "purchase_ids": array_literal(each.purchase_id for each in stand),
            "stated_as": array_literal(each.transaction_id for each in stand),
            "quantities": array_literal(each.quantity for each in stand),
            "product_ids": array_literal(each.product_id for each in stand),
            "purchased_ats": array_literal(each.purchased_at for each in stand),
            "dues": array_literal(_json(each.due) for each in stand),
            "granteds": array_literal(_json(each.granted) for each in stand),
            "refunded_millis": array_literal(each.refunded_milli for each in stand),
            "revoked_signed_ats": array_literal(each.revoked_signed_at for each in stand),
            "sequences": array_literal(each.sequence for each in stand),
            "lots": array_literal(_json(credits.get(key, {})) for key in known),
            "parked_reasons": array_literal(each.parked_reason for each in stand),
        }
        self._run(_UPDATE_TRANSACTIONS, parameters)

    def _run(self, statement: str, parameters: dict[str, Any]) -> Any:
        return self._connection.exec_driver_sql(statement, parameters)


def known_transaction(row: Sequence[Any]) -> KnownTransaction:
    """A transaction from a row of TRANSACTION_COLUMNS."""
    state, user_id, purchase_id, stated_as, product_id, quantity, purchased_at = row[:7]
    due, granted, milli, revoked_at, sequence, lots, reason = row[7:]
    return KnownTransaction(
        state=state,
        user_id=user_id,
        purchase_id=purchase_id,
        transaction_id=stated_as,
        product_id=product_id,
        quantity=quantity,
        purchased_at=purchased_at,
        due=_amounts(due),
        granted=_amounts(granted),
        refunded_milli=milli,
        revoked_signed_at=revoked_at,
        sequence=sequence,
        lots=msgspec.json.decode(lots, type=dict[CurrencyId, list[int]]),
        parked_reason=reason,
    )


def _count_amounts(drafts: Sequence[Draft]) -> None:
    for payload in (draft.payload for draft in drafts):
        if isinstance(payload, WalletCredited | WalletDebited):
            change, direction = payload.change, "credited" if isinstance(payload, WalletCredited) else "debited"
            LEDGER_AMOUNT.add(direction, change.environment, change.currency, count=abs(change.amount))


def _json(document: Mapping[CurrencyId, Any]) -> str:
    return msgspec.json.encode(document).decode()


def _amounts(document: str) -> Amounts:
    return msgspec.json.decode(document, type=dict[CurrencyId, int])
