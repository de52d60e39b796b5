"""Use-case: what users have is read: wallets and their entries, subscriptions, entitlements."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from ledger.domain.belongings import EntitlementList, SubscriptionPage, SubscriptionPlace, stated_at
from ledger.domain.books import WalletKey
from ledger.domain.entitlements import Holder
from ledger.domain.statements import EntryPage, Funds, WalletState, WalletStatement
from ledger.handlers.ports import Belongings, Wallets
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


def read_subscriptions(
    *, belongings: Belongings, holder: Holder, after: SubscriptionPlace | None, limit: int, now: datetime
) -> SubscriptionPage:
    """A page of at most `limit` subscriptions (1 to PAGE_MAX), as they stand now."""
    found = belongings.subscriptions(holder, after=after, limit=limit + 1)
    page = found[:limit]
    return SubscriptionPage(
        holder=holder,
        subscriptions=[each.state_at(now) for each in page],
        next_after=page[-1].place if len(found) > limit else None,
    )


def read_entitlements(*, belongings: Belongings, catalog: Catalog, holder: Holder, now: datetime) -> EntitlementList:
    """What the user may use now, and what has ended. One that has left the catalogue goes by its id."""
    known = belongings.entitlements(holder)
    names = {each.entitlement: catalog.entitlements.get(each.entitlement, each.entitlement) for each in known}
    stated = [stated_at(each, name=names[each.entitlement], now=now) for each in known]
    return EntitlementList(holder=holder, entitlements=stated)
