"""The ways that an audit takes through what is written down: for each a page of rows, and what may be wrong with them.

A walk reads a table along a key. For each row of its page it looks up what belongs to it, by key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ledger.store import audit_books, audit_facts, audit_lots, audit_subscriptions, audit_transactions
from ledger.store.audit_pages import Walk

# An audit that an upgrade interrupts goes on in this order.
WALKS: Final[Mapping[str, Walk]] = {
    walk.name: walk
    for walks in (
        audit_books.WALKS,
        audit_lots.WALKS,
        audit_transactions.WALKS,
        audit_subscriptions.WALKS,
        audit_facts.WALKS,
    )
    for walk in walks
}
