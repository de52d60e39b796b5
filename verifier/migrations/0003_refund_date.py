"""When the store said how far a transaction is refunded: of two such statements, the one that was signed later counts.

Revision ID: verifier_0003
"""

from __future__ import annotations

from alembic import op

revision = "verifier_0003"
down_revision = "verifier_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table verifier.store_transaction add column revoked_signed_at timestamptz")
    # When the refunds on record were signed was not kept. Not before the purchase, and whatever comes now is newer: the
    # date of the newest statement would be too late, since that may be a receipt's, which says nothing of refunds.
    op.execute(
        "update verifier.store_transaction set revoked_signed_at = (statement ->> 'purchased_at')::timestamptz"
        " where refunded_milli > 0"
    )
    op.execute(
        "alter table verifier.store_transaction add constraint store_transaction_refund_is_dated"
        " check (refunded_milli = 0 or revoked_signed_at is not null)"
    )
