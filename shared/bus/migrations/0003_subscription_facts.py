"""What stores say of subscriptions is among what the ledger has to account for.

Revision ID: journal_0003
"""

from __future__ import annotations

from alembic import op

revision = "journal_0003"
down_revision = "journal_0002"
branch_labels = None
depends_on = None

FACTS = """
drop index journal.event_of_facts;
create index event_of_facts on journal.event (id)
    where type in ('purchase.verified', 'refund.received', 'refund.reversed', 'subscription.changed',
                   'spend.posted', 'spend.reversed', 'grant.posted');
"""


def upgrade() -> None:
    op.execute(FACTS)
