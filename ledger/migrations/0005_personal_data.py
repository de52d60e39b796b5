"""A user can be taken out of the books. What moved, when and why stays, and so do all the books' promises.

Revision ID: ledger_0005
"""

from __future__ import annotations

from alembic import op

revision = "ledger_0005"
down_revision = "ledger_0004"
branch_labels = None
depends_on = None

INDEXES = """
create index hold_of_account on ledger.hold (account_id);
create index refund_request_of_user on ledger.refund_request (app, user_id);
"""

APPEND_ONLY = """
-- Transactions that may take out of transfers what is personal: as journal.permit.
create table ledger.permit (transaction xid8 primary key);

create function ledger.refuse_unless_permitted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_op = 'UPDATE' and exists (select from ledger.permit
                                     where transaction = pg_current_xact_id_if_assigned()) then
        return null;
    end if;
    raise exception '%.% takes no %', tg_table_schema, tg_table_name, lower(tg_op);
end $$;

create function ledger.refuse_unless_personal() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    personal constant text[] := '{purchase_id,reference,reason,actor}';
begin
    if to_jsonb(new) - personal is distinct from to_jsonb(old) - personal then
        raise exception 'nothing of a transfer but what is personal may be taken out of it'
            using errcode = 'check_violation';
    end if;
    return new;
end $$;

drop trigger append_only on ledger.transfer;
create trigger append_only before update or delete or truncate on ledger.transfer
    for each statement execute function ledger.refuse_unless_permitted();
create trigger only_what_is_personal before update on ledger.transfer
    for each row execute function ledger.refuse_unless_personal();

-- A wallet that was opened and never entered is where its last entry left it, too: at 0.
create or replace function ledger.check_wallets() returns trigger language plpgsql as $$
declare
    wrong record;
begin
    select c.id into wrong from changed c
     where c.version is distinct from coalesce(
               (select wallet_version from ledger.entry where wallet_id = c.id and wallet_version = c.version), 0)
        or (select 1 from ledger.entry where wallet_id = c.id and wallet_version = c.version + 1) is not null
     limit 1;
    if found then
        raise exception 'wallet % is not where its last entry left it', wrong.id using errcode = 'check_violation';
    end if;
    return null;
end $$;
"""

ERASING = """
-- Takes a user out of the transfers from `since` on, before `until`; how many. What is posted changes no more, so
-- nobody waits. Each is to be done once: ids that were derived already would be derived once more.
create function ledger.erase_history(
    of_app text, erased text, pseudonym text, salt text, since uuid, until uuid) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    transfers bigint;
begin
    insert into ledger.permit values (pg_current_xact_id());
    update ledger.transfer
       set purchase_id = journal.erased_id(purchase_id, salt), reference = null,
           reason = case when reason is not null then 'erased' end,
           actor = case actor when 'client:' || erased then 'client:' || pseudonym else actor end
     where id = any (array(
               select distinct entry.transfer_id
                 from ledger.wallet join ledger.entry on entry.wallet_id = wallet.id
                where wallet.app = of_app and wallet.environment in ('production', 'sandbox')
                  and wallet.user_id = erased and entry.transfer_id >= since and entry.transfer_id < until));
    get diagnostics transfers = row_count;
    delete from ledger.permit where transaction = pg_current_xact_id();
    return transfers;
end $$;

-- The rest, while nobody records anything (deploy/users/erasing.py), and the transfers from `since` on. How many rows,
-- by table. In the order in which everybody locks: keys of answers, store transactions, subscriptions, wallets,
-- entitlements.
create function ledger.erase_user(of_app text, erased text, pseudonym text, salt text, since uuid) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    purchases constant text[] := array(
        select subject from journal.subjects_of(of_app, erased) where subject like 'pur\\_%');
    answers bigint;
    transactions bigint;
    subscriptions bigint;
    requests bigint;
    wallets bigint;
    transfers bigint;
    holds bigint;
    sources bigint;
    entitlements bigint;
begin
    delete from ledger.answer where app = of_app and user_id = erased;
    get diagnostics answers = row_count;

    perform from ledger.store_transaction where purchase_id = any(purchases) and app = of_app and user_id = erased
      order by app, store, environment, transaction_id for update;
    update ledger.store_transaction
       set user_id = pseudonym, purchase_id = journal.erased_id(purchase_id, salt)
     where purchase_id = any(purchases) and app = of_app and user_id = erased;
    get diagnostics transactions = row_count;

    perform from ledger.subscription
      where app = of_app and environment in ('production', 'sandbox') and user_id = erased
      order by app, store, environment, original_transaction_id for update;
    update ledger.subscription set user_id = pseudonym
     where app = of_app and environment in ('production', 'sandbox') and user_id = erased;
    get diagnostics subscriptions = row_count;

    update ledger.refund_request
       set user_id = pseudonym, purchase_id = journal.erased_id(purchase_id, salt), reason = null
     where app = of_app and user_id = erased;
    get diagnostics requests = row_count;

    perform from ledger.wallet
      where app = of_app and environment in ('production', 'sandbox') and user_id = erased order by id for update;
    transfers := ledger.erase_history(of_app, erased, pseudonym, salt, since,
                                      'ffffffff-ffff-ffff-ffff-ffffffffffff');
    update ledger.hold set reference = null
     where reference is not null
       and account_id in (select account.id
                            from ledger.wallet join ledger.account on account.wallet_id = wallet.id
                           where wallet.app = of_app and wallet.environment in ('production', 'sandbox')
                             and wallet.user_id = erased);
    get diagnostics holds = row_count;
    update ledger.spend set item = null  -- what was bought stays, unless it names the user
     where strpos(item, erased) > 0
       and id = any (array(
               select entry.transfer_id
                 from ledger.wallet join ledger.entry on entry.wallet_id = wallet.id
                where wallet.app = of_app and wallet.environment in ('production', 'sandbox')
                  and wallet.user_id = erased));
    update ledger.wallet set user_id = pseudonym
     where app = of_app and environment in ('production', 'sandbox') and user_id = erased;
    get diagnostics wallets = row_count;

    perform pg_advisory_xact_lock(lock)  -- ledger/store/entitlements.py: there is no row of a user to be locked
       from (select hashtextextended(jsonb_build_array('ledger.entitlements', of_app, environment, erased)::text, 0)
                    as lock
               from unnest(array['production', 'sandbox']) as environment order by 1) as locks;
    update ledger.entitlement_source
       set user_id = pseudonym,
           source_id = case when source_id like 'pur\\_%' then journal.erased_id(source_id, salt) else source_id end
     where app = of_app and environment in ('production', 'sandbox') and user_id = erased;
    get diagnostics sources = row_count;
    update ledger.entitlement
       set user_id = pseudonym,
           source_id = case when source_id like 'pur\\_%' then journal.erased_id(source_id, salt) else source_id end
     where app = of_app and environment in ('production', 'sandbox') and user_id = erased;
    get diagnostics entitlements = row_count;

    update ledger.audit
       set findings = (select jsonb_agg(case when finding #>> '{thing,user_id}' = erased
                                             then jsonb_set(finding, '{thing,user_id}', to_jsonb(pseudonym))
                                             else finding end order by place)
                         from jsonb_array_elements(findings) with ordinality as each (finding, place))
     where findings @> jsonb_build_array(jsonb_build_object('thing', jsonb_build_object('user_id', erased)));

    return jsonb_build_object(
        'ledger.answer', answers, 'ledger.store_transaction', transactions, 'ledger.subscription', subscriptions,
        'ledger.refund_request', requests, 'ledger.wallet', wallets, 'ledger.transfer', transfers,
        'ledger.hold', holds, 'ledger.entitlement_source', sources, 'ledger.entitlement', entitlements);
end $$;
"""

RIGHTS = """
revoke execute on function
    ledger.refuse_unless_permitted, ledger.refuse_unless_personal, ledger.erase_history, ledger.erase_user from public;
"""


def upgrade() -> None:
    for statements in (INDEXES, APPEND_ONLY, ERASING, RIGHTS):
        op.execute(statements)
