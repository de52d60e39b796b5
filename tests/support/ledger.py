"""What tests of the ledger need: apps and a catalogue, the events of a store, and an auditor of the books."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from shared.apps import Apps, parse_apps
from shared.catalog import Catalog, parse_catalog
from shared.events import (
    Draft,
    Environment,
    Event,
    ProductType,
    PurchaseVerified,
    RefundDeclined,
    RefundReceived,
    RefundReversed,
    StoreTransaction,
)
from shared.ids import AppId, EventId, TransactionId, UserId, purchase_id, transaction_subject
from shared.money import CurrencyId

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
GAME, FLOOR_GAME = AppId("game"), AppId("floor")
ALICE, BOB = UserId("alice"), UserId("bob")
GEMS, COINS = CurrencyId("gems"), CurrencyId("coins")

_APPS = """
[[apps]]
id = "game"
name = "Owes what it cannot give back"
[apps.apple]
bundle_id = "com.example.game"
[[apps.server_keys]]
id = "backend"
sha256 = "7506735a6bca2302fca43e50bcc8954b7fb65138b092fe9be1d160b544037926"
scopes = ["read"]

[[apps]]
id = "floor"
name = "Writes it off"
[apps.apple]
bundle_id = "com.example.floor"
[apps.wallet]
debt = "floor"
"""

_CURRENCIES = """
[currencies.gems]
name = "Gems"
[currencies.coins]
name = "Coins"
[entitlements.adfree]
name = "No ads"
"""

_PRODUCTS = """
[[products]]
id = "gems100"
app = "{app}"
type = "consumable"
name = "100 gems"
grants = {{ gems = 100 }}
[[products]]
id = "bundle"
app = "{app}"
type = "consumable"
name = "551 gems, 7 coins"
grants = {{ gems = 551, coins = 7 }}
[[products]]
id = "hoard"
app = "{app}"
type = "consumable"
name = "A tenth of what a wallet can hold"
grants = {{ gems = 900719925474099 }}
[[products]]
id = "adfree"
app = "{app}"
type = "non_consumable"
name = "No ads"
entitlements = ["adfree"]
"""

APPS: Apps = parse_apps(_APPS)
CATALOG: Catalog = parse_catalog(_CURRENCIES + "".join(_PRODUCTS.format(app=app) for app in (GAME, FLOOR_GAME)))
EMPTY_CATALOG: Catalog = replace(CATALOG, products={})

_numbers = itertools.count(1)


def transaction(
    transaction_id: str = "1",
    *,
    product: str = "gems100",
    quantity: int = 1,
    environment: Environment = "production",
    product_type: ProductType | None = None,
    after_s: int = 0,
) -> StoreTransaction:
    """A transaction as the store states it so many seconds after NOW; its type is the catalogue's unless another is
    given.
    """
    known = CATALOG.find(app=GAME, product_id=product)
    return StoreTransaction(
        store="apple",
        environment=environment,
        transaction_id=TransactionId(transaction_id),
        original_transaction_id=TransactionId(transaction_id),
        product_id=product,
        product_type=product_type or (known.type if known else "consumable"),
        quantity=quantity,
        purchased_at=NOW,
        signed_at=NOW + timedelta(seconds=after_s),
    )


def verified(of: StoreTransaction, *, user: UserId | None = ALICE, app: AppId = GAME) -> Event[PurchaseVerified]:
    """The event that this user has bought it; each call makes another event."""
    purchase = purchase_id(app=app, store=of.store, transaction_id=of.transaction_id, user_id=user or "")
    return event_of(app, purchase, user, PurchaseVerified(purchase, of))


def refunded(of: StoreTransaction, *, milli: int = 100_000, app: AppId = GAME) -> Event[RefundReceived]:
    """The event that the store gave the money back; who bought it, it does not know."""
    return event_of(app, _subject(of, app), None, RefundReceived(of, NOW, "OTHER", milli))


def refund_reversed(of: StoreTransaction, *, app: AppId = GAME) -> Event[RefundReversed]:
    """The event that the store took its refund back."""
    return event_of(app, _subject(of, app), None, RefundReversed(of))


def refund_declined(of: StoreTransaction, *, app: AppId = GAME) -> Event[RefundDeclined]:
    """The event that the store does not refund it."""
    return event_of(app, _subject(of, app), None, RefundDeclined(of))


def _subject(of: StoreTransaction, app: AppId) -> str:
    return transaction_subject(app=app, store=of.store, environment=of.environment, transaction_id=of.transaction_id)


def event_of(app: AppId, subject: str, user: UserId | None, payload: Any) -> Event[Any]:
    """The event that says so; each call makes another one."""
    return Event(
        id=EventId(UUID(int=next(_numbers))),
        app=app,
        subject=subject,
        user_id=user,
        payload=payload,
        trace_id=f"{next(_numbers):032x}",
        causation_id=None,
        occurred_at=NOW,
        recorded_at=NOW,
    )


def said(drafts: Sequence[Draft]) -> list[str]:
    """The names of what was said."""
    return [draft.payload.TYPE for draft in drafts]


_FAULTS = {
    "a transfer does not sum to zero": """
        select transfer_id from ledger.entry join ledger.account on account.id = account_id
         group by transfer_id, currency having sum(amount) <> 0""",
    "a transfer has fewer than two entries": """
        select transfer.id from ledger.transfer left join ledger.entry on transfer_id = transfer.id
         group by transfer.id having count(account_id) < 2""",
    "a balance is not the sum of its account's entries, or a version not their number": """
        select account.id from ledger.account left join ledger.entry on account_id = account.id
         group by account.id having coalesce(sum(amount), 0) <> balance or count(account_id) <> version""",
    "an entry does not begin where the one before it ended": """
        select account_id from (
            select account_id, account_version, balance_before,
                   lag(balance_after, 1, 0::bigint) over earlier as balance, row_number() over earlier as version
              from ledger.entry window earlier as (partition by account_id order by account_version)) as entry
         where balance_before <> balance or account_version <> version""",
    "a wallet's version is not the number of its entries, or they have gaps": """
        select wallet.id from ledger.wallet left join ledger.entry on wallet_id = wallet.id
         group by wallet.id, version
        having count(wallet_id) <> version or coalesce(max(wallet_version), 0) <> count(wallet_id)""",
    "a wallet's balance is not what its lots have, less what is owed": """
        select account.id from ledger.account
          left join (select account_id, sum(remaining) as remaining, sum(held) as held from ledger.lot
                      group by account_id) as lots on lots.account_id = account.id
          left join (select account_id, sum(amount - returned - settled) as owed from ledger.portion
                      where source = 'owed' group by account_id) as debts on debts.account_id = account.id
         where kind = 'wallet' and (account.held <> coalesce(lots.held, 0) or account.owed <> coalesce(debts.owed, 0)
               or balance <> coalesce(remaining, 0) + account.held - account.owed)""",
    "a lot is not the credit of its entry, or more than it": """
        select lot.version from ledger.lot
          left join ledger.entry on entry.account_id = lot.account_id and account_version = lot.version
          left join ledger.transfer on transfer.id = transfer_id
         where entry.amount is null or entry.amount < lot.amount
            or kind not in ('purchase', 'refund_reversal', 'grant')
            or (kind in ('purchase', 'grant') and entry.amount <> lot.amount)""",
    "a credit made no lot": """
        select transfer_id from ledger.entry join ledger.transfer on transfer.id = transfer_id
          left join ledger.lot on lot.account_id = entry.account_id and lot.version = account_version
         where wallet_id is not null and kind in ('purchase', 'grant') and lot.version is null""",
    "what is left, held and spent of a lot, and what refunds took, is not all of it": """
        select lot.version from ledger.lot
          left join (select portion.account_id, lot_version,
                            sum(amount - returned) filter (where not own) as spent,
                            sum(amount - returned) filter (where own) as taken
                       from ledger.portion where source = 'lot' group by portion.account_id, lot_version) as used
            on used.account_id = lot.account_id and used.lot_version = lot.version
         where lot.spent <> coalesce(used.spent, 0)
            or remaining + held + lot.spent + coalesce(taken, 0) <> amount""",
    "a portion does not say rightly whether it is of the lots of the purchase that is refunded": """
        select transfer_id from ledger.portion join ledger.transfer on transfer.id = transfer_id
          join ledger.account on account.id = account_id
          left join ledger.store_transaction as known
            on (known.app, known.store, known.environment, known.transaction_id)
             = (transfer.app, transfer.store, transfer.environment, transfer.transaction_id)
         where own is distinct from coalesce(known.lots -> currency @> to_jsonb(lot_version), false)""",
    "what is held of a lot is not what open holds reserve in it": """
        select lot.version from ledger.lot
          left join (select reservation.account_id, lot_version, sum(reservation.amount) as amount
                       from ledger.reservation join ledger.hold on hold.id = hold_id
                      where state = 'open' group by reservation.account_id, lot_version) as reserved
            on reserved.account_id = lot.account_id and reserved.lot_version = lot.version
         where lot.held <> coalesce(reserved.amount, 0)""",
    "a hold does not reserve what it says": """
        select hold.id from ledger.hold left join ledger.reservation on hold_id = hold.id
         group by hold.id having coalesce(sum(reservation.amount), 0) <> hold.amount""",
    "a debit's portions are not what it debited": """
        select debit.id from (
            select transfer.id, currency, sum(entry.amount) as amount
              from ledger.transfer join ledger.entry on transfer_id = transfer.id
              join ledger.account on account.id = account_id
             where transfer.kind in ('spend', 'refund') and account.kind in ('sink', 'issuance')
             group by transfer.id, currency) as debit
          full join (
            select transfer_id, currency, sum(amount - settled) as amount
              from ledger.portion join ledger.account on account.id = account_id group by transfer_id, currency) as made
            on made.transfer_id = debit.id and made.currency = debit.currency
         where made.amount is distinct from debit.amount""",
    "what was written off is not in the house's account for it": """
        select house.app from (
            select app, environment, currency, sum(balance) as balance from ledger.account where kind = 'write_off'
             group by app, environment, currency) as house
          full join (
            select app, environment, currency, sum(amount - returned - settled) as amount
              from ledger.portion join ledger.account on account.id = account_id where source = 'written_off'
             group by app, environment, currency) as debits using (app, environment, currency)
         where coalesce(house.balance, 0) + coalesce(debits.amount, 0) <> 0""",
    "a spend is not what was posted and reversed of it": """
        select spend.id from ledger.spend
          left join ledger.entry as spent on spent.transfer_id = spend.id and spent.account_id = spend.account_id
          left join (select reverses, account_id, sum(amount) as amount from ledger.transfer
                       join ledger.entry on transfer_id = transfer.id
                      where kind = 'spend_reversal' and wallet_id is not null group by reverses, account_id) as back
            on back.reverses = spend.id and back.account_id = spend.account_id
         where spent.amount is distinct from -spend.amount or reversed <> coalesce(back.amount, 0)""",
    "a captured hold is not the spend that it became": """
        select hold.id from ledger.hold left join ledger.spend on hold_id = hold.id
         where captured <> coalesce(spend.amount, 0)""",
    "a purchase did not give what is due, less what is refunded": """
        select transaction_id from ledger.store_transaction as known cross join lateral jsonb_each(due) as gives
          left join lateral (
            select -sum(entry.amount) as stands from ledger.transfer join ledger.entry on transfer_id = transfer.id
              join ledger.account on account.id = account_id
             where account.kind = 'issuance' and currency = gives.key
               and (transfer.app, transfer.store, transfer.environment, transfer.transaction_id)
                 = (known.app, known.store, known.environment, known.transaction_id)) as posted on true
         where state = 'granted' and coalesce(stands, 0)
               <> gives.value::bigint - div(gives.value::numeric * refunded_milli, 100000)""",
}


_ALL_FAULTS = " union all ".join(f"select $${fault}$$ where exists ({query})" for fault, query in _FAULTS.items())


def faults(connection: Connection) -> list[str]:
    """What is wrong with the books in the database, in words; nothing in sound ones."""
    return list(connection.exec_driver_sql(_ALL_FAULTS).scalars())


def balances_of(connection: Connection, user: UserId, *, app: AppId = GAME) -> dict[str, int]:
    """What the user has in production by the database, zeros left out."""
    rows = connection.exec_driver_sql(
        "select currency, balance from ledger.account join ledger.wallet on wallet.id = wallet_id"
        " where wallet.app = %(app)s and wallet.environment = 'production' and user_id = %(user)s and balance <> 0",
        {"app": app, "user": user},
    )
    return {row.currency: row.balance for row in rows}


def somebody_waits(connection: Connection) -> bool:
    """Whether anybody waits for a lock in this database. Only the owner is told of others' sessions."""
    query = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    return connection.exec_driver_sql(query).first() is not None
