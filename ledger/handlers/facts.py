"""Use-case: what the stores say of purchases is posted, a batch in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from ledger.domain.books import AccountId, AccountKey, KnownTransaction, Locked, TransactionKey
from ledger.domain.decisions import Decisions, Fact, decide, key_of
from ledger.domain.lots import LotKey, LotsWanted
from ledger.domain.postings import BalanceOutOfRange, Batch, say
from ledger.handlers.entitlements import give, given_by_purchases
from ledger.handlers.ports import Tables
from ledger.handlers.refund_requests import OpenRequests, Settlement
from ledger.handlers.subscriptions import Hearing, heard_of
from shared.apps import Apps
from shared.catalog import Catalog
from shared.events import Event
from shared.log import get_logger
from shared.outcome import Handled, Parked

log = get_logger(__name__)


def apply_facts(
    events: Sequence[Event[Fact]],
    *,
    tables: Tables,
    catalog: Catalog,
    apps: Apps,
    new_id: Callable[[], UUID],
    now: datetime,
) -> Handled:
    """Credits what is verified, debits what is refunded, gives back what no longer is; each fact once, in whatever
    order and however often it comes. What it means for a subscription and for entitlements comes with it: a purchase
    is completed with all that it gives. A request for a refund that one of them answers comes to its end.

    What cannot be granted as things are is parked with its reason. Raises Parked when a balance would leave its range.
    """
    known = tables.books.lock_transactions({key_of(event) for event in events})
    hearing = Hearing.of(heard_of(events), subscriptions=tables.subscriptions)
    opened = OpenRequests.ended_by(events, requests=tables.requests)
    decisions = decide(events=events, known=known, catalog=catalog, apps=apps)
    locked = tables.books.lock_accounts(_accounts(decisions) | opened.accounts())
    found = tables.books.load_lots(_wanted(decisions, known, locked, holds=opened.hold_ids()))
    batch = Batch(locked=locked, found=found, known=known, new_id=new_id, now=now)
    settlement = Settlement(opened, batch=batch, found=found, apps=apps, new_id=new_id)
    try:
        _post(decisions, batch, settlement)
    except BalanceOutOfRange as error:
        raise Parked(str(error)) from error
    posting = batch.result()
    tables.books.write(posting, decisions.changed)
    settlement.save(requests=tables.requests, commissions=tables.commissions)
    given = hearing.save(subscriptions=tables.subscriptions, catalog=catalog, now=now)
    given += given_by_purchases(decisions, catalog=catalog)
    also = [*hearing.drafts(now), *give(given, entitlements=tables.entitlements, now=now)]
    _log_contested(decisions)
    return Handled(drafts=[*posting.drafts, *also], parked=decisions.parked())


def _accounts(decisions: Decisions) -> set[AccountKey]:
    return {account for movement in decisions.movements() for account in movement.accounts()}


def _post(decisions: Decisions, batch: Batch, settlement: Settlement) -> None:
    for event, decision in decisions.steps:
        settlement.settle(event, decision)  # first: the refund takes what was held for it
        if decision.movement is not None:
            batch.post(event, decision.movement)
        say(batch, event, decision)


def _wanted(
    decisions: Decisions,
    known: Mapping[TransactionKey, KnownTransaction],
    locked: Locked,
    *,
    holds: frozenset[UUID],
) -> LotsWanted:
    """A purchase alone needs nothing of the lots, unless something is owed."""
    oldest: defaultdict[AccountId, int] = defaultdict(int)
    own: set[LotKey] = set()
    given_back = set()
    for movement in decisions.movements():
        if movement.kind == "refund":
            for currency, amount in movement.amounts.items():
                account = locked.accounts[AccountKey.of_wallet(movement.wallet, currency)]
                oldest[account.id] += amount
                own |= {LotKey(account.id, version) for version in known[movement.key].lots.get(currency, ())}
        elif movement.kind == "refund_reversal":
            given_back.add(movement.key)
    return LotsWanted(
        oldest=oldest,
        lots=frozenset(own),
        transactions=frozenset(given_back),
        holds=holds,
        indebted=locked.indebted(),
    )


def _log_contested(decisions: Decisions) -> None:
    """The verifier decides whose a transaction is; that it said two users is a bug there, and moves nothing here."""
    for event, decision in decisions.steps:
        if decision.contested:
            log.error("a purchase that another user has was verified again; nothing moved", event_id=str(event.id))
