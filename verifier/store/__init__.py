"""The verifier's tables in Postgres.

- `records`: what the use-cases see of `transactions`, `origins` and account `tokens`
- `reconciliations`: how far the store was asked what it had said
"""

from verifier.store.reconciliations import PostgresReconciliations, Run, reconciles_alone
from verifier.store.records import PostgresRecords

__all__ = ["PostgresReconciliations", "PostgresRecords", "Run", "reconciles_alone"]
