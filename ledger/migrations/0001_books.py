"""The books: wallets, accounts, transfers, entries, store transactions; and the rules that the database itself keeps.

Revision ID: ledger_0001
"""

from __future__ import annotations

from alembic import op

revision = "ledger_0001"
down_revision = None
branch_labels = None
depends_on = None

WALLETS = """
-- One per app, environment and user: sandbox money and production money never meet.
create table ledger.wallet (
    id          bigint generated always as identity primary key,
    app         text   not null,
    environment text   not null check (environment in ('production', 'sandbox')),
    user_id     text   not null,
    version     bigint not null default 0,       -- counts the wallet's entries, in all its currencies
    unique (app, environment, user_id)
) with (fillfactor = 70);

-- A wallet's account in one currency (positive: the user owns so much), or one of the house's: `issuance` mirrors what
-- purchases gave, `write_off` what refunds could not take back. Of each of the house's there are several (`shard`), so
-- that workers do not queue behind one row.
create table ledger.account (
    id          bigint generated always as identity primary key,
    app         text     not null,
    environment text     not null check (environment in ('production', 'sandbox')),
    kind        text     not null check (kind in ('wallet', 'issuance', 'write_off')),
    wallet_id   bigint   references ledger.wallet,
    shard       smallint,
    currency    text     not null,
    balance     bigint   not null default 0,     -- the sum of the account's entries
    version     bigint   not null default 0,     -- how many entries it has
    check ((kind = 'wallet') = (wallet_id is not null)),
    check ((kind = 'wallet') = (shard is null))
) with (fillfactor = 70);

create unique index account_of_wallet on ledger.account (wallet_id, currency) where wallet_id is not null;
create unique index account_of_house on ledger.account (app, environment, kind, currency, shard)
    where wallet_id is null;
"""

POSTINGS = """
-- Why currency moved. The unique key says it once more than the code does: a store transaction is granted once.
create table ledger.transfer (
    id             uuid        primary key,      -- UUIDv7
    app            text        not null,
    environment    text        not null check (environment in ('production', 'sandbox')),
    kind           text        not null check (kind in ('purchase', 'refund')),
    store          text        not null,
    transaction_id text        not null,
    sequence       int         not null,         -- 0: the purchase; 1, 2, …: its refunds, which may come in parts
    purchase_id    text        not null,
    event_id       uuid        not null,         -- the event in the journal that asked for it
    trace_id       text        not null,
    created_at     timestamptz not null,
    unique (app, store, environment, transaction_id, kind, sequence),
    check ((kind = 'purchase') = (sequence = 0))
);

-- Amounts and balances are what a JSON number carries exactly: within 2^53 - 1 (RFC 8259, section 6).
create table ledger.entry (
    account_id      bigint   not null,           -- its account and its transfer exist: see DOUBLE_ENTRY
    account_version bigint   not null,           -- 1, 2, 3, … without a gap
    transfer_id     uuid     not null,
    position        smallint not null,           -- within its transfer
    amount          bigint   not null check (amount <> 0 and amount between -9007199254740991 and 9007199254740991),
    balance_before  bigint   not null,
    balance_after   bigint   not null check (balance_after between -9007199254740991 and 9007199254740991),
    wallet_id       bigint,                      -- the account's; null for the house's
    wallet_version  bigint,                      -- 1, 2, 3, … over all of the wallet's accounts
    primary key (account_id, account_version),
    unique (transfer_id, position),
    check (balance_after = balance_before + amount),
    check ((wallet_id is null) = (wallet_version is null))
);

create unique index entry_of_wallet on ledger.entry (wallet_id, wallet_version) where wallet_id is not null;
"""

FACTS = """
-- What the ledger knows of one transaction of a store, and what it has done about it. `awaited`: a refund came before
-- its purchase, or this row was made to be locked. Amounts are {currency: whole units}.
create table ledger.store_transaction (
    app            text  not null,
    store          text  not null,
    environment    text  not null check (environment in ('production', 'sandbox')),
    transaction_id text  not null,
    state          text  not null default 'awaited' check (state in ('awaited', 'parked', 'granted')),
    user_id        text,
    purchase_id    text,
    due            jsonb not null default '{}',  -- what the purchase gives, by the catalogue on the day of the grant
    granted        jsonb not null default '{}',  -- the part of it that had not been refunded by then
    refunded_milli int   not null default 0 check (refunded_milli between 0 and 100000),
    refunds        int   not null default 0,     -- transfers of kind `refund` so far
    parked_reason  text,
    primary key (app, store, environment, transaction_id),
    check ((state = 'awaited') = (user_id is null)),
    check ((state = 'awaited') = (purchase_id is null)),
    check ((state = 'parked') = (parked_reason is not null))
) with (fillfactor = 70);
"""

APPEND_ONLY = """
create function ledger.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '%.% takes no %', tg_table_schema, tg_table_name, lower(tg_op);
end $$;

create trigger append_only before update or delete or truncate on ledger.transfer
    for each statement execute function ledger.refuse_change();
create trigger append_only before update or delete or truncate on ledger.entry
    for each statement execute function ledger.refuse_change();
create trigger never_closed before delete or truncate on ledger.account
    for each statement execute function ledger.refuse_change();
create trigger never_closed before delete or truncate on ledger.wallet
    for each statement execute function ledger.refuse_change();
"""

DOUBLE_ENTRY = """
-- What is written has to be right, whoever writes it. All entries of a transfer come in one statement, before the
-- accounts and wallets that they change. Everything is looked up by key, in a form (a fenced lateral join, a scalar
-- subquery) that no plan, however stale its statistics, turns into reading a whole table. That account and transfer
-- exist is checked here too: foreign keys would look at each row by itself, at several times the cost, and guard
-- against deletes that `append_only` and `never_closed` refuse.
create function ledger.check_entries() returns trigger language plpgsql as $$
declare
    wrong record;
begin
    select e.transfer_id, a.currency into wrong
      from new_entry e left join
           lateral (select currency, wallet_id from ledger.account where id = e.account_id offset 0) a on true
     group by e.transfer_id, a.currency
    having sum(e.amount) <> 0 or bool_or(e.wallet_id is distinct from a.wallet_id)
        or a.currency is null or (select id from ledger.transfer where id = e.transfer_id) is null limit 1;
    if found then
        raise exception 'the entries of transfer % do not balance in %', wrong.transfer_id, wrong.currency
            using errcode = 'check_violation';
    end if;

    select e.account_id, e.account_version into wrong
      from new_entry e
     where e.balance_before is distinct from coalesce(
               (select p.balance_after from ledger.entry p
                 where p.account_id = e.account_id and p.account_version = e.account_version - 1),
               case when e.account_version = 1 then 0 end)
        or e.wallet_version <> 1 + coalesce(
               (select p.wallet_version from ledger.entry p
                 where p.wallet_id = e.wallet_id and p.wallet_version = e.wallet_version - 1), 0) limit 1;
    if found then
        raise exception 'entry % of account % does not follow from the one before it',
            wrong.account_version, wrong.account_id using errcode = 'check_violation';
    end if;
    return null;
end $$;

create trigger double_entry after insert on ledger.entry referencing new table as new_entry
    for each statement execute function ledger.check_entries();

-- Balances and versions are what the last entry says, and nothing else.
create function ledger.check_accounts() returns trigger language plpgsql as $$
declare
    wrong record;
begin
    select c.id into wrong from changed c
     where c.balance is distinct from
           (select balance_after from ledger.entry where account_id = c.id and account_version = c.version)
        or (select 1 from ledger.entry where account_id = c.id and account_version = c.version + 1) is not null
     limit 1;
    if found then
        raise exception 'account % is not where its last entry left it', wrong.id using errcode = 'check_violation';
    end if;
    return null;
end $$;

create trigger where_its_entries_left_it after update on ledger.account referencing new table as changed
    for each statement execute function ledger.check_accounts();

create function ledger.check_wallets() returns trigger language plpgsql as $$
declare
    wrong record;
begin
    select c.id into wrong from changed c
     where c.version is distinct from
           (select wallet_version from ledger.entry where wallet_id = c.id and wallet_version = c.version)
        or (select 1 from ledger.entry where wallet_id = c.id and wallet_version = c.version + 1) is not null
     limit 1;
    if found then
        raise exception 'wallet % is not where its last entry left it', wrong.id using errcode = 'check_violation';
    end if;
    return null;
end $$;

create trigger where_its_entries_left_it after update on ledger.wallet referencing new table as changed
    for each statement execute function ledger.check_wallets();
"""

RIGHTS = """
grant usage on schema ledger to purser_ledger;
grant select, insert (app, environment, user_id), update (version) on ledger.wallet to purser_ledger;
grant select, insert (app, environment, kind, wallet_id, shard, currency), update (balance, version)
    on ledger.account to purser_ledger;
grant select, insert on ledger.transfer, ledger.entry to purser_ledger;
grant select, insert, update on ledger.store_transaction to purser_ledger;
"""


def upgrade() -> None:
    for statements in (WALLETS, POSTINGS, FACTS, APPEND_ONLY, DOUBLE_ENTRY, RIGHTS):
        op.execute(statements)
