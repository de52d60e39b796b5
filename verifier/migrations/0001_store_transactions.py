"""Store transactions with their owners, and the account tokens that tell an owner.

Revision ID: verifier_0001
"""

from __future__ import annotations

from alembic import op

revision = "verifier_0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
-- One row per store transaction, whichever road it came by. The first claimant owns it, for good.
create table verifier.store_transaction (
    app                     text        not null,
    store                   text        not null,
    environment             text        not null check (environment in ('production', 'sandbox')),
    transaction_id          text        not null,
    user_id                 text,          -- the owner; null: nobody has claimed it
    purchase_id             text,
    account_token           uuid,          -- as the store's newest statement has it
    signed_at               timestamptz,   -- of the newest statement; null: none yet
    refunded_milli          int         not null default 0 check (refunded_milli between 0 and 100000),
    statement               jsonb,         -- the newest statement (shared.events.StoreTransaction)
    created_at              timestamptz not null default clock_timestamp(),
    primary key (app, store, environment, transaction_id),
    check ((user_id is null) = (purchase_id is null))
) with (fillfactor = 80);

create index store_transaction_unclaimed on verifier.store_transaction (app, account_token)
    where user_id is null and account_token is not null;

-- Which user a UUID that apps give to StoreKit as `appAccountToken` was issued to.
create table verifier.account_token (
    app     text not null,
    token   uuid not null,
    user_id text not null,
    primary key (app, token)
);
"""

RIGHTS = """
grant usage on schema verifier to purser_verifier;
grant select, insert, update on verifier.store_transaction to purser_verifier;
grant select, insert on verifier.account_token to purser_verifier;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(RIGHTS)
