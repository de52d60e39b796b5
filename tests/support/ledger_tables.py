"""All of the ledger's tables on one connection, as its worker has them."""

from __future__ import annotations

from sqlalchemy import Connection

from ledger.handlers.ports import Tables
from ledger.store import (
    PostgresBooks,
    PostgresCommissions,
    PostgresEntitlements,
    PostgresRefundRequests,
    PostgresSubscriptions,
)


def tables_on(connection: Connection, *, shard: int = 0) -> Tables:
    """Tables on the connection, with that one of the house's accounts."""
    return Tables(
        books=PostgresBooks(connection, shard=shard),
        requests=PostgresRefundRequests(connection),
        commissions=PostgresCommissions(connection),
        subscriptions=PostgresSubscriptions(connection),
        entitlements=PostgresEntitlements(connection),
    )
