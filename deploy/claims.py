"""Who has claimed a transaction that no store has confirmed: searched in the journal, which has no index for it.

So the search goes back in time piece by piece, the newest first, and says how far it came when its time is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import DBAPIError

from gateway.domain.purchases import SUBMITTED
from shared.clock import Clock
from shared.database import is_busy, limit_statements
from shared.ids import AppId, PurchaseId, uuid7_floor

if TYPE_CHECKING:
    from sqlalchemy import Connection

    Run = Callable[[Callable[[Connection], Any]], Any]
    """Runs a function in a transaction of its own."""

FIRST_PIECE: Final = timedelta(hours=1)
"""Each further one is twice as long: soon done where there is little, and little lost of the last one, which is given
up when the time is over."""
AHEAD: Final = timedelta(minutes=5)
"""So much later than ours may be the clock of who recorded."""

# Together over all apps: none has partitions of its own.
_CLAIMED: Final = """
select distinct app, subject from journal.event
 where id >= %(since)s::uuid and id < %(until)s::uuid and type = any(%(types)s)
   and app = any(%(apps)s) and payload ->> 'transaction_id' = %(wanted)s
"""


@dataclass(frozen=True, slots=True)
class Claims:
    """The purchases by which it was claimed, by app. `since`: no further back was searched; None: all was."""

    purchases: Sequence[tuple[AppId, PurchaseId]]
    since: datetime | None


def claims_of(run: Run, wanted: str, *, apps: Sequence[AppId], days: int, within_s: int, clock: Clock) -> Claims:
    """Who claimed the transaction in the last `days`, as far back as can be searched `within_s`."""
    began_s, until = clock.monotonic(), clock.now() + AHEAD
    oldest, piece = clock.now() - timedelta(days=days), FIRST_PIECE
    found: dict[tuple[AppId, PurchaseId], None] = {}  # an ordered set
    while until > oldest:
        left_s = int(within_s - (clock.monotonic() - began_s))
        since = max(until - piece, oldest)
        claimed = None if left_s < 1 else _claimed(run, wanted, apps=apps, since=since, until=until, within_s=left_s)
        if claimed is None:
            return Claims(list(found), until)
        found |= dict.fromkeys(claimed)
        until, piece = since, piece * 2
    return Claims(list(found), None)


def _claimed(
    run: Run, wanted: str, *, apps: Sequence[AppId], since: datetime, until: datetime, within_s: int
) -> list[tuple[AppId, PurchaseId]] | None:
    """Who claimed it between these two moments; None: that took longer."""
    parameters = {
        "since": str(uuid7_floor(since)),
        "until": str(uuid7_floor(until)),
        "types": sorted(SUBMITTED),
        "apps": list(apps),
        "wanted": wanted,
    }

    def search(connection: Connection) -> list[tuple[AppId, PurchaseId]]:
        limit_statements(connection, within_s=within_s)
        return [(app, PurchaseId(subject)) for app, subject in connection.exec_driver_sql(_CLAIMED, parameters)]

    try:
        claimed: list[tuple[AppId, PurchaseId]] = run(search)
    except DBAPIError as error:
        if not is_busy(error):
            raise
        return None
    return claimed
