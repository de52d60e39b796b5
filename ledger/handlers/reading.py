"""Use-case: wallets and their entries are read."""

from __future__ import annotations

from typing import Final

from ledger.domain.books import WalletKey
from ledger.domain.statements import EntryPage, Funds, WalletState, WalletStatement
from ledger.handlers.ports import Wallets
from shared.catalog import Catalog

PAGE_MAX: Final = 200


def read_wallet(*, wallets: Wallets, catalog: Catalog, key: WalletKey) -> WalletStatement:
    """Every currency of the catalogue, and whatever else the wallet holds. A user without a wallet has nothing yet."""
    state = wallets.wallet(key) or WalletState(version=0, balances={})
    currencies = sorted({*catalog.currencies, *state.balances})
    return WalletStatement(
        user_id=key.user_id,
        environment=key.environment,
        version=state.version,
        balances={currency: state.balances.get(currency, Funds.of(balance=0)) for currency in currencies},
    )


def read_entries(*, wallets: Wallets, key: WalletKey, before: int | None, limit: int) -> EntryPage:
    """A page of at most `limit` entries (1 to PAGE_MAX)."""
    found = wallets.entries(key, before=before, limit=limit + 1)
    page = found[:limit]
    return EntryPage(entries=page, next_before=page[-1].version if len(found) > limit else None)
