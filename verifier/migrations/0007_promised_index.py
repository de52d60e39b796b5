"""What is promised to a user is found by an index.

Revision ID: verifier_0007
"""

from __future__ import annotations

from alembic import op

revision = "verifier_0007"
down_revision = "verifier_0006"
branch_labels = None
depends_on = None

# Not together with the column, whose lock nobody could read beside: the table is read from end to end here.
INDEX = """
create index store_transaction_promised on verifier.store_transaction (app, promised_to) where promised_to is not null;
"""


def upgrade() -> None:
    op.execute(INDEX)
