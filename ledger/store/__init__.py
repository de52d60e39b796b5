"""The ledger's tables in Postgres: set-based, one statement per step, within one transaction of the caller's.

books.py            wallets, accounts, transfers and entries; store transactions
lots.py             lots, and the portions that debits are made of
commissions.py      spends and holds that were asked for
refund_requests.py  users' requests for refunds
answers.py          answers that were given, found again by their keys
wallets.py          wallets and their entries, for reading
audit.py            everything, for the audit, and the audits that were made
audit_walks.py      the audit's statements
statements.py       what the statements share
"""

from ledger.store.answers import PostgresAnswers
from ledger.store.audit import PostgresAudits, PostgresEvidence, Run, audits_alone
from ledger.store.books import HOUSE_SHARDS, PostgresBooks
from ledger.store.commissions import PostgresCommissions
from ledger.store.refund_requests import PostgresRefundRequests
from ledger.store.wallets import PostgresWallets

__all__ = [
    "HOUSE_SHARDS",
    "PostgresAnswers",
    "PostgresAudits",
    "PostgresBooks",
    "PostgresCommissions",
    "PostgresEvidence",
    "PostgresRefundRequests",
    "PostgresWallets",
    "Run",
    "audits_alone",
]
