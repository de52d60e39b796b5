"""What has waited longest is found by an index.

Revision ID: notifier_0005
"""

from __future__ import annotations

from alembic import op

revision = "notifier_0005"
down_revision = "notifier_0004"
branch_labels = None
depends_on = None

# Beside those who send, who would wait for as long as months of deliveries are read. It waits for every transaction
# that began before it, a backup's too, and nobody waits behind it: so it may take its time. What was cut off leaves an
# index that nobody uses (PostgreSQL: Building Indexes Concurrently), so it is begun anew.
INDEX = (
    "set lock_timeout = 0",
    "drop index concurrently if exists notifier.delivery_waiting",
    """
    create index concurrently delivery_waiting
        on notifier.delivery (app, endpoint_id, coalesce(waiting_since, created_at)) where state = 'waiting'
    """,
    "reset lock_timeout",
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for statement in INDEX:
            op.execute(statement)
