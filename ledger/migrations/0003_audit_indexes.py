"""What the audit looks up: a spend's reversals, and what a hold became. Old audits may be deleted.

Revision ID: ledger_0003
"""

from __future__ import annotations

from alembic import op

revision = "ledger_0003"
down_revision = "ledger_0002"
branch_labels = None
depends_on = None

INDEXES = """
create index transfer_of_reversal on ledger.transfer (reverses) where reverses is not null;
create unique index spend_of_hold on ledger.spend (hold_id) where hold_id is not null;
"""

RIGHTS = """
grant delete on ledger.audit to purser_ledger;
"""


def upgrade() -> None:
    op.execute(INDEXES)
    op.execute(RIGHTS)
