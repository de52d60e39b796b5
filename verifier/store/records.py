"""The verifier's records in Postgres, within one transaction of the caller's."""

from __future__ import annotations

from verifier.store.origins import PostgresOrigins
from verifier.store.tokens import PostgresTokens
from verifier.store.transactions import PostgresTransactions


class PostgresRecords(PostgresTokens, PostgresOrigins, PostgresTransactions):
    """`verifier.handlers.Records` on one connection, in the transaction that is open on it."""
