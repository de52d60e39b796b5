"""A user can be taken out of what is on record of store transactions, and is found there by an index.

Revision ID: verifier_0005
"""

from __future__ import annotations

from alembic import op

revision = "verifier_0005"
down_revision = "verifier_0004"
branch_labels = None
depends_on = None

INDEXES = """
create index store_transaction_of_user on verifier.store_transaction (app, user_id) where user_id is not null;
create index origin_of_user on verifier.origin (app, user_id) where user_id is not null;
create index account_token_of_user on verifier.account_token (app, user_id);
"""

ERASING = """
-- Gives all that a user has to a pseudonym, and forgets the user's account tokens; how many rows, by table. A store
-- transaction stays known by the store's own id, or it could be claimed once more.
create function verifier.erase_user(of_app text, erased text, pseudonym text, salt text) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    tokens uuid[];
    origins bigint;
    transactions bigint;
begin
    with gone as (delete from verifier.account_token where app = of_app and user_id = erased returning token)
    select coalesce(array_agg(token), '{}') into tokens from gone;

    -- in the order in which everybody locks them: origins, then transactions, both by their keys
    perform from verifier.origin where app = of_app and user_id = erased
      order by app, store, environment, original_transaction_id for update;
    update verifier.origin set user_id = pseudonym where app = of_app and user_id = erased;
    get diagnostics origins = row_count;

    perform from verifier.store_transaction where app = of_app and user_id = erased
      order by app, store, environment, transaction_id for update;
    update verifier.store_transaction
       set user_id = pseudonym, purchase_id = journal.erased_id(purchase_id, salt),
           account_token = null, token_signed_at = null
     where app = of_app and user_id = erased;
    get diagnostics transactions = row_count;

    -- and what was made for the user, and is nobody's
    update verifier.store_transaction set account_token = null, token_signed_at = null
     where app = of_app and user_id is null and account_token = any(tokens);
    return jsonb_build_object('verifier.account_token', cardinality(tokens), 'verifier.origin', origins,
                              'verifier.store_transaction', transactions);
end $$;
"""

RIGHTS = """
revoke execute on function verifier.erase_user from public;
"""


def upgrade() -> None:
    for statements in (INDEXES, ERASING, RIGHTS):
        op.execute(statements)
