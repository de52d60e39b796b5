"""What tests of the ledger need: its events, books in memory beside the real ones, and an auditor of the real ones."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from ledger.domain.books import (
    UNKNOWN,
    Account,
    AccountId,
    AccountKey,
    KnownTransaction,
    Locked,
    TransactionKey,
    Wallet,
    WalletId,
    WalletKey,
)
from ledger.domain.postings import Entry, Posting, Transfer
from shared.apps import Apps, parse_apps
from shared.catalog import Catalog, parse_catalog
from shared.events import Draft, Environment, Event, ProductType, PurchaseVerified, RefundReceived, StoreTransaction
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
) -> StoreTransaction:
    """A transaction of the store; its type is the catalogue's unless another is given."""
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
        signed_at=NOW,
    )


def verified(of: StoreTransaction, *, user: UserId | None = ALICE, app: AppId = GAME) -> Event[PurchaseVerified]:
    """The event that this user has bought it; each call makes another event."""
    purchase = purchase_id(app=app, store=of.store, transaction_id=of.transaction_id, user_id=user or "")
    return _event(app, purchase, user, PurchaseVerified(purchase, of))


def refunded(of: StoreTransaction, *, milli: int = 100_000, app: AppId = GAME) -> Event[RefundReceived]:
    """The event that the store gave the money back; who bought it, it does not know."""
    subject = transaction_subject(app=app, store=of.store, environment=of.environment, transaction_id=of.transaction_id)
    return _event(app, subject, None, RefundReceived(of, NOW, "OTHER", milli))


def _event(app: AppId, subject: str, user: UserId | None, payload: Any) -> Event[Any]:
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


@dataclass
class MemoryBooks:
    """Books that are a few dictionaries; the contract suite holds them to what the real ones do."""

    known: dict[TransactionKey, KnownTransaction] = field(default_factory=dict)
    wallets: dict[WalletKey, Wallet] = field(default_factory=dict)
    accounts: dict[AccountKey, Account] = field(default_factory=dict)
    transfers: list[Transfer] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    def lock_transactions(self, keys: Collection[TransactionKey]) -> Mapping[TransactionKey, KnownTransaction]:
        return {key: self.known.setdefault(key, UNKNOWN) for key in keys}

    def lock_accounts(self, keys: Collection[AccountKey]) -> Locked:
        for key in keys:
            if key.wallet is not None:
                self.wallets.setdefault(key.wallet, Wallet(WalletId(len(self.wallets) + 1), 0))
            self.accounts.setdefault(key, Account(AccountId(len(self.accounts) + 1), 0, 0))
        wallets = {key.wallet: self.wallets[key.wallet] for key in keys if key.wallet is not None}
        return Locked(accounts={key: self.accounts[key] for key in keys}, wallets=wallets)

    def write(self, posting: Posting, known: Mapping[TransactionKey, KnownTransaction]) -> None:
        self.known |= known
        self.transfers += posting.transfers
        self.entries += posting.entries
        accounts = {account.id: account for account in posting.accounts}
        wallets = {wallet.id: wallet for wallet in posting.wallets}
        self.accounts = {key: accounts.get(account.id, account) for key, account in self.accounts.items()}
        self.wallets = {key: wallets.get(wallet.id, wallet) for key, wallet in self.wallets.items()}

    def balances(self, user: UserId, *, app: AppId = GAME, environment: Environment = "production") -> dict[str, int]:
        """What the user has, zeros left out."""
        return {
            key.currency: account.balance
            for key, account in self.accounts.items()
            if key.wallet == WalletKey(app, environment, user) and account.balance
        }

    def house(self, kind: str, currency: CurrencyId = GEMS) -> int:
        """The balance of the house's accounts of that kind."""
        return sum(
            account.balance for key, account in self.accounts.items() if key.kind == kind and key.currency == currency
        )


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
}


def faults(connection: Connection) -> list[str]:
    """What is wrong with the books in the database, in words; nothing in sound ones."""
    return [fault for fault, query in _FAULTS.items() if connection.exec_driver_sql(query).first() is not None]


def balances_of(connection: Connection, user: UserId, *, app: AppId = GAME) -> dict[str, int]:
    """What the user has in production by the database, zeros left out."""
    rows = connection.exec_driver_sql(
        "select currency, balance from ledger.account join ledger.wallet on wallet.id = wallet_id"
        " where wallet.app = %(app)s and wallet.environment = 'production' and user_id = %(user)s and balance <> 0",
        {"app": app, "user": user},
    )
    return {row.currency: row.balance for row in rows}
