"""When the store said which account token a transaction has: not every statement shows one.

Revision ID: verifier_0002
"""

from __future__ import annotations

from alembic import op

revision = "verifier_0002"
down_revision = "verifier_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table verifier.store_transaction add column token_signed_at timestamptz")
    op.execute("update verifier.store_transaction set token_signed_at = signed_at where account_token is not null")
