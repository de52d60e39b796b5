"""Since when a delivery has waited, which may have been sent, or given up, before.

Revision ID: notifier_0004
"""

from __future__ import annotations

from alembic import op

revision = "notifier_0004"
down_revision = "notifier_0003"
branch_labels = None
depends_on = None

COLUMN = """
-- when it was queued again (resent, replayed) after it had come to its end; null: never, it waits since created_at
alter table notifier.delivery add column waiting_since timestamptz;
"""


def upgrade() -> None:
    op.execute(COLUMN)
