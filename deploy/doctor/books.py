"""What the ledger does by itself: does its scheduler end what is due to, and were the books right at the last audit?"""

from __future__ import annotations

from sqlalchemy import Connection

from deploy.doctor.connections import connected
from deploy.doctor.findings import Finding, failed, ok, unchecked, warning
from deploy.doctor.journal import OVERDUE_S
from shared.clock import rfc3339

_OVERDUE = """
select count(*), coalesce(max(extract(epoch from clock_timestamp() - expires_at)), 0)::int
  from (select expires_at from ledger.hold where state = 'open' and refund_request_id is null
         union all
        select expires_at from ledger.refund_request where state = 'open') as open
 where expires_at < clock_timestamp() - %(overdue_s)s * interval '1 second'
"""

_NEWEST = "select problems, finished_at from ledger.audit where finished_at is not null order by id desc limit 1"


def scheduler(connection: Connection) -> Finding:
    """A scheduler is connected for as long as it lives, and ends within a second or two what is due to end."""
    name = "ledger-scheduler"
    if not connected(connection, name):
        found = "none is connected to the database: no hold, subscription or entitlement ends, nothing is audited"
        return failed(name, found, "purser run ledger-scheduler")
    overdue, oldest_s = connection.exec_driver_sql(_OVERDUE, {"overdue_s": OVERDUE_S}).one()
    if overdue:
        found = f"{overdue} holds or requests for refunds should have expired, the oldest {oldest_s} s ago"
        return warning(name, found, "a backlog, or it stands still: look at its log")
    return ok(name, "connected to the database, nothing is overdue")


def audited(connection: Connection) -> Finding:
    """What the newest audit found. Audits are the scheduler's and an operator's work: here none is made."""
    newest = connection.exec_driver_sql(_NEWEST).one_or_none()
    if newest is None:
        return unchecked("books", "no audit has come to its end yet", "purser audit")
    at = rfc3339(newest.finished_at)
    if newest.problems:
        return failed("books", f"{newest.problems} promises were broken at {at}", "purser audit names them")
    return ok("books", f"sound at {at}")
