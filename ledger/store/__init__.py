"""The ledger's tables in Postgres: set-based, one statement per step, within one transaction of the caller's.

books.py            wallets, accounts, transfers and entries; store transactions
lots.py             lots, and the portions that debits are made of
commissions.py      spends and holds that were asked for
refund_requests.py  users' requests for refunds
subscriptions.py    subscriptions: what was heard of them, what was told
entitlements.py     what users may use, and what gives it
answers.py          answers that were given, found again by their keys
wallets.py          wallets and their entries, for reading
belongings.py       subscriptions and entitlements, for reading
audit.py            everything, for the audit, and the audits that were made
audit_pages.py      how a walk of the audit reads a page
audit_walks.py      all walks of the audit, in their order; these are in
                    audit_books.py, audit_lots.py, audit_transactions.py,
                    audit_subscriptions.py and audit_facts.py
statements.py       what the statements share
"""

from ledger.store.answers import PostgresAnswers
from ledger.store.audit import PostgresAudits, PostgresEvidence, Run, audits_alone
from ledger.store.belongings import PostgresBelongings
from ledger.store.books import HOUSE_SHARDS, PostgresBooks
from ledger.store.commissions import PostgresCommissions
from ledger.store.entitlements import PostgresEntitlements
from ledger.store.refund_requests import PostgresRefundRequests
from ledger.store.subscriptions import PostgresSubscriptions
from ledger.store.wallets import PostgresWallets

__all__ = [
    "HOUSE_SHARDS",
    "PostgresAnswers",
    "PostgresAudits",
    "PostgresBelongings",
    "PostgresBooks",
    "PostgresCommissions",
    "PostgresEntitlements",
    "PostgresEvidence",
    "PostgresRefundRequests",
    "PostgresSubscriptions",
    "PostgresWallets",
    "Run",
    "audits_alone",
]
