"""Use-cases of the ledger, and what they need from outside.

Applying a batch takes its locks in one order, so that no two workers wait for each other in a circle: the store
transactions, then the wallets, then the accounts, each class in the order of its keys or ids.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from ledger.domain.books import AccountKey, KnownTransaction, Locked, TransactionKey, WalletKey
from ledger.domain.decisions import Decisions, Fact, decide, key_of
from ledger.domain.postings import BalanceOutOfRange, Posting, post
from ledger.domain.statements import EntryPage, Funds, WalletEntry, WalletState, WalletStatement
from shared.apps import Apps
from shared.catalog import Catalog
from shared.events import Event
from shared.log import get_logger
from shared.outcome import Handled, Parked

log = get_logger(__name__)

PAGE_MAX = 200


class Books(Protocol):
    """The books, within one transaction of the caller's."""

    def lock_transactions(self, keys: Collection[TransactionKey]) -> Mapping[TransactionKey, KnownTransaction]:
        """How these transactions stand; nobody else decides about them before the caller's transaction ends."""
        ...

    def lock_accounts(self, keys: Collection[AccountKey]) -> Locked:
        """These accounts and their wallets, opened where there were none, locked."""
        ...

    def write(self, posting: Posting, known: Mapping[TransactionKey, KnownTransaction]) -> None:
        """Writes a posting on locked accounts, and how locked transactions stand."""
        ...


def apply_facts(
    events: Sequence[Event[Fact]],
    *,
    books: Books,
    catalog: Catalog,
    apps: Apps,
    new_id: Callable[[], UUID],
    now: datetime,
) -> Handled:
    """Credits what is verified, debits what is refunded; each fact once, in whatever order and however often it comes.

    What cannot be granted as things are is parked with its reason. Raises Parked when a balance would leave its range.
    """
    known = books.lock_transactions({key_of(event) for event in events})
    decisions = decide(events=events, known=known, catalog=catalog, apps=apps)
    locked = books.lock_accounts({account for movement in decisions.movements() for account in movement.accounts()})
    try:
        posting = post(steps=decisions.steps, locked=locked, new_id=new_id, now=now)
    except BalanceOutOfRange as error:
        raise Parked(str(error)) from error
    books.write(posting, decisions.changed)
    _log_contested(decisions)
    return Handled(drafts=posting.drafts, parked=decisions.parked())


def _log_contested(decisions: Decisions) -> None:
    """The verifier decides whose a transaction is; that it said two users is a bug there, and moves nothing here."""
    for event, decision in decisions.steps:
        if decision.contested:
            log.error("a purchase that another user has was verified again; nothing moved", event_id=str(event.id))


# ---- reading ----------------------------------------------------------------------------------------------------


class Wallets(Protocol):
    """The wallets, for reading."""

    def wallet(self, key: WalletKey) -> WalletState | None: ...

    def entries(self, key: WalletKey, *, before: int | None, limit: int) -> Sequence[WalletEntry]:
        """Newest first, of versions less than `before`."""
        ...


def read_wallet(*, wallets: Wallets, catalog: Catalog, key: WalletKey) -> WalletStatement:
    """Every currency of the catalogue, and whatever else the wallet holds. A user without a wallet has nothing yet."""
    state = wallets.wallet(key) or WalletState(version=0, balances={})
    currencies = sorted({*catalog.currencies, *state.balances})
    return WalletStatement(
        user_id=key.user_id,
        environment=key.environment,
        version=state.version,
        balances={currency: Funds.of(balance=state.balances.get(currency, 0)) for currency in currencies},
    )


def read_entries(*, wallets: Wallets, key: WalletKey, before: int | None, limit: int) -> EntryPage:
    """A page of at most `limit` entries (1 to PAGE_MAX)."""
    found = wallets.entries(key, before=before, limit=limit + 1)
    page = found[:limit]
    return EntryPage(entries=page, next_before=page[-1].version if len(found) > limit else None)
