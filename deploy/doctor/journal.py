"""What the journal says of the processes: is there a courier, is anything overdue or stuck, does the App Store call?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from deploy.doctor.connections import connected
from deploy.doctor.findings import Finding, failed, ok, unchecked, warning
from deploy.told import told
from shared.clock import rfc3339

OVERDUE_S = 60
"""A courier hands over what is due within a second; what waits longer has no courier, or is part of a backlog."""
REASONS_SHOWN = 3
REASON_LENGTH_MAX = 80

# What is stuck is due at infinity, which nothing can be subtracted from.
_OVERDUE = """
with delivery as (
    select case when state in ('waiting', 'handed') then extract(epoch from clock_timestamp() - due_at) end as late_s
      from journal.delivery)
select count(*) filter (where late_s > %(overdue_s)s), coalesce(max(late_s), 0)::int from delivery
"""

_REASONS = """
select consumer, left(coalesce(error, 'no reason'), %(length)s), count(*), sum(count(*)) over () from journal.delivery
 where state in ('parked', 'dead') group by 1, 2 order by 3 desc, 1, 2 limit %(limit)s
"""


def courier(connection: Connection) -> Finding:
    """A courier listens on a connection of that name for as long as it lives."""
    if not connected(connection, "courier"):
        return failed("courier", "none is connected to the database: nothing is handed over", "purser run courier")
    return ok("courier", "connected to the database")


def deliveries(connection: Connection) -> Finding:
    """What should have been handed over, or handled, and was not."""
    overdue, oldest_s = connection.exec_driver_sql(_OVERDUE, {"overdue_s": OVERDUE_S}).one()
    if overdue:
        return warning(
            "deliveries",
            f"{overdue} overdue, the oldest by {oldest_s} s",
            "a backlog, or the courier or a worker stands still: look at Flower",
        )
    return ok("deliveries", "none overdue")


def parked(connection: Connection) -> Finding:
    """What only an operator moves: how much, and the commonest reasons, each with its consumer and how often. A look of
    its own: one parked event says nothing of whether all the others stand still."""
    parameters = {"length": REASON_LENGTH_MAX, "limit": REASONS_SHOWN}
    rows: Sequence[Any] = connection.exec_driver_sql(_REASONS, parameters).all()
    if not rows:
        return ok("parked", "nothing parked or dead")
    reasons = "; ".join(f"{consumer}, {count}: {reason}" for consumer, reason, count, _ in rows)
    found = f"{rows[0][-1]} parked or dead: {reasons}"
    return warning("parked", found, "purser parked list; mend; purser parked retry")


def notifications(connection: Connection) -> Finding:
    """Whether the App Store has ever called here: it is what its URL in App Store Connect is right for."""
    newest = next(iter(told(connection, limit=1)), None)
    if newest is None:
        return unchecked("notifications", "none yet", "purser doctor --test-notification asks for one")
    subtype = f" {newest.subtype}" if newest.subtype else ""
    return ok(
        "notifications",
        f"the newest at {rfc3339(newest.received_at)}: {newest.type}{subtype}, {newest.app}",
    )
