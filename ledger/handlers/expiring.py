"""Use-case: holds whose time is over release themselves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ledger.domain.lots import LotsWanted
from ledger.domain.postings import Batch
from ledger.domain.spending import LEDGER_ITSELF, Hold
from ledger.handlers.commands import counter_on
from ledger.handlers.ports import Books, Commissions
from shared.apps import Apps
from shared.events import Draft

EXPIRED_AT_ONCE_MAX = 100


@dataclass(frozen=True, slots=True)
class Expired:
    """How many came to their end, and the events that say so."""

    count: int
    drafts: Sequence[Draft]


def expire_holds(
    *,
    books: Books,
    commissions: Commissions,
    apps: Apps,
    new_id: Callable[[], UUID],
    new_trace: Callable[[], str],
    now: datetime,
    due: Collection[UUID] | None = None,
    limit: int = EXPIRED_AT_ONCE_MAX,
) -> Expired:
    """Releases those of the holds `due` that are open still; None: those whose time is over, the oldest first, `limit`
    at most.
    """
    due = commissions.due_holds(now=now, limit=limit) if due is None else due
    if not due:
        return Expired(0, ())
    accounts = {hold.account for hold in commissions.standing(spends=(), holds=due).holds.values()}
    locked = books.lock_accounts(accounts)
    standing = commissions.standing(spends=(), holds=due)  # again: their accounts are locked now
    open_holds = _open(standing.holds.values())
    found = books.load_lots(
        LotsWanted(
            holds=frozenset(hold.id for hold in open_holds),
            indebted=locked.indebted(),
        )
    )
    batch = Batch(locked=locked, found=found, new_id=new_id, now=now)
    counter = counter_on(batch, standing, found=found, apps=apps, new_id=new_id)
    for hold in open_holds:
        counter.release(hold, "expired", actor=LEDGER_ITSELF, trace_id=new_trace())
    posting = batch.result()
    books.write(posting, {})
    commissions.save(spends=(), holds=counter.holds.values(), reservations=())
    return Expired(len(open_holds), posting.drafts)


def _open(holds: Collection[Hold]) -> list[Hold]:
    return sorted((hold for hold in holds if hold.state == "open"), key=lambda hold: (hold.expires_at, hold.id))
