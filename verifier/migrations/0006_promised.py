"""Whose a transaction will be that was refunded before it was claimed, if the store takes the refund back.

Revision ID: verifier_0006
"""

from __future__ import annotations

from alembic import op

revision = "verifier_0006"
down_revision = "verifier_0005"
branch_labels = None
depends_on = None

COLUMN = """
-- whose claim only the refund stood against; null: nobody's, or it has its owner
alter table verifier.store_transaction add column promised_to text;
"""

ERASING = """
-- As verifier_0005 has it, and what is promised to the user is promised to the pseudonym.
create or replace function verifier.erase_user(of_app text, erased text, pseudonym text, salt text) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    tokens uuid[];
    origins bigint;
    transactions bigint;
    promised bigint;
begin
    with gone as (delete from verifier.account_token where app = of_app and user_id = erased returning token)
    select coalesce(array_agg(token), '{}') into tokens from gone;

    -- in the order in which everybody locks them: origins, then transactions, both by their keys
    perform from verifier.origin where app = of_app and user_id = erased
      order by app, store, environment, original_transaction_id for update;
    update verifier.origin set user_id = pseudonym where app = of_app and user_id = erased;
    get diagnostics origins = row_count;

    perform from verifier.store_transaction where app = of_app and (user_id = erased or promised_to = erased)
      order by app, store, environment, transaction_id for update;
    update verifier.store_transaction
       set user_id = pseudonym, purchase_id = journal.erased_id(purchase_id, salt),
           account_token = null, token_signed_at = null
     where app = of_app and user_id = erased;
    get diagnostics transactions = row_count;
    update verifier.store_transaction set promised_to = pseudonym where app = of_app and promised_to = erased;
    get diagnostics promised = row_count;

    -- and what was made for the user, and is nobody's
    update verifier.store_transaction set account_token = null, token_signed_at = null
     where app = of_app and user_id is null and account_token = any(tokens);
    return jsonb_build_object('verifier.account_token', cardinality(tokens), 'verifier.origin', origins,
                              'verifier.store_transaction', transactions + promised);
end $$;
"""


def upgrade() -> None:
    for statements in (COLUMN, ERASING):
        op.execute(statements)
