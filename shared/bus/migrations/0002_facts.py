"""An index to find what the ledger has to account for: the audit reads these events, and not the whole journal.

Revision ID: journal_0002
"""

from __future__ import annotations

from alembic import op

revision = "journal_0002"
down_revision = "journal_0001"
branch_labels = None
depends_on = None

FACTS = """
create index event_of_facts on journal.event (id)
    where type in ('purchase.verified', 'refund.received', 'refund.reversed',
                   'spend.posted', 'spend.reversed', 'grant.posted');
"""


def upgrade() -> None:
    op.execute(FACTS)
