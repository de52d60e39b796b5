"""What the ledger's use-cases write, on a connection."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from ledger.handlers.ports import Tables
from ledger.store import (
    HOUSE_SHARDS,
    PostgresBooks,
    PostgresCommissions,
    PostgresEntitlements,
    PostgresRefundRequests,
    PostgresSubscriptions,
)
from shared.ids import IdSource


def books_on(connection: Connection, ids: IdSource) -> PostgresBooks:
    """The books on a connection, each time with another of the house's accounts."""
    return PostgresBooks(connection, shard=int(ids.uniform(0, HOUSE_SHARDS)) % HOUSE_SHARDS)


def tables_on(ids: IdSource) -> Callable[[Connection], Tables]:
    """All that the worker's use-case writes, on a connection."""
    return lambda connection: Tables(
        books=books_on(connection, ids),
        requests=PostgresRefundRequests(connection),
        commissions=PostgresCommissions(connection),
        subscriptions=PostgresSubscriptions(connection),
        entitlements=PostgresEntitlements(connection),
    )
