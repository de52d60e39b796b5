"""Lots, what debits took from them, holds, spends, requests for refunds, answers that were given, and audits.

Revision ID: ledger_0002
"""

from __future__ import annotations

from alembic import op

revision = "ledger_0002"
down_revision = "ledger_0001"
branch_labels = None
depends_on = None

ACCOUNTS = """
-- balance = what is available + held - owed. Something is owed only while nothing is available: whatever becomes
-- available pays it first. The house's accounts hold and owe nothing. More of the house's: `sink` takes what is spent,
-- `goodwill` mirrors what was given for nothing.
alter table ledger.account
    add column held bigint not null default 0,
    add column owed bigint not null default 0,
    drop constraint account_kind_check,
    add constraint account_kind_check check (kind in ('wallet', 'issuance', 'write_off', 'sink', 'goodwill'));

update ledger.account set owed = -balance where kind = 'wallet' and balance < 0;

alter table ledger.account
    add constraint account_adds_up check (
        held >= 0 and owed >= 0
        and case when kind = 'wallet' then balance - held + owed >= 0 and (owed = 0 or balance - held + owed = 0)
                 else held = 0 and owed = 0 end);
"""

TRANSFERS = """
-- `reverses` is the spend that is given back. `reference` is what the app's backend said of it, `reason` why goodwill
-- was given; `actor` who asked for it, where it was not a store.
alter table ledger.transfer
    alter column store drop not null,
    alter column transaction_id drop not null,
    alter column sequence drop not null,
    alter column purchase_id drop not null,
    add column reference text,
    add column reason text,
    add column actor text,
    add column reverses uuid,
    drop constraint transfer_kind_check,
    drop constraint transfer_app_store_environment_transaction_id_kind_sequence_key,
    drop constraint transfer_check,
    add constraint transfer_kind_check check (kind in (
        'purchase', 'refund', 'refund_reversal', 'spend', 'spend_reversal', 'grant', 'write_off')),
    add constraint transfer_has_its_cause check (case
        when kind in ('purchase', 'refund', 'refund_reversal')
            then store is not null and transaction_id is not null and sequence is not null and purchase_id is not null
                 and (kind = 'purchase') = (sequence = 0) and actor is null and reverses is null
        when kind = 'grant' then reason is not null and actor is not null and transaction_id is null
        when kind = 'spend_reversal' then reverses is not null and actor is not null and transaction_id is null
        else actor is not null and transaction_id is null and reverses is null end);

-- One place for each of a store transaction's postings: 0 is the purchase, 1, 2, … its refunds and their reversals.
create unique index transfer_of_store on ledger.transfer (app, store, environment, transaction_id, sequence)
    where transaction_id is not null;
"""

ENTRIES = """
-- A wallet's balance is told as a JSON number. The house's sum up those of all wallets, and are told to nobody.
alter table ledger.entry
    drop constraint entry_balance_after_check,
    add constraint entry_balance_after_check check (
        wallet_id is null or balance_after between -9007199254740991 and 9007199254740991);
"""

STORE_TRANSACTIONS = """
-- `revoked_signed_at`: when the store signed the newest word on whether, and how far, it is refunded. `lots`:
-- {currency: [account version]}, what the purchase's credits made. `sequence`: that of its newest posting.
alter table ledger.store_transaction rename column refunds to sequence;
alter table ledger.store_transaction
    add column revoked_signed_at timestamptz,
    add column product_id text,
    add column purchased_at timestamptz,
    add column lots jsonb not null default '{}';

-- Not unique: one user may have bought under the same id in both environments, which is one purchase id.
create index store_transaction_of_purchase on ledger.store_transaction (purchase_id)
    where purchase_id is not null;
"""

LOTS = """
-- One credit of a wallet's account, named by its entry's version: what is left of it, what is set aside, what was
-- spent. The rest was taken back by the refund of the purchase that it came from.
create table ledger.lot (
    account_id bigint not null,
    version    bigint not null,
    amount     bigint not null check (amount > 0),
    remaining  bigint not null check (remaining >= 0),
    held       bigint not null default 0 check (held >= 0),
    spent      bigint not null default 0 check (spent >= 0),
    primary key (account_id, version),
    check (remaining + held + spent <= amount)
) with (fillfactor = 70);

create index lot_open on ledger.lot (account_id, version) where remaining > 0;

-- What a debit came from: a lot (`own`: of the very purchase that is refunded), what the wallet was left owing, or what
-- was written off. `returned` was given back since; of what was owed or written off, `settled` was paid from lots that
-- came later (they are portions of the same debit then), or of what was owed written off; `own_lots` are those of the
-- very purchase, which may yet pay.
create table ledger.portion (
    transfer_id uuid     not null,
    account_id  bigint   not null,
    position    int      not null,
    source      text     not null check (source in ('lot', 'owed', 'written_off')),
    lot_version bigint,
    own         boolean  not null default false,
    amount      bigint   not null check (amount > 0),
    returned    bigint   not null default 0 check (returned >= 0),
    settled     bigint   not null default 0 check (settled >= 0),
    own_lots    bigint[] not null default '{}',
    primary key (transfer_id, account_id, position),
    check (returned + settled <= amount),
    check ((source = 'lot') = (lot_version is not null)),
    check (source <> 'lot' or settled = 0)
) with (fillfactor = 70);

create index portion_of_lot on ledger.portion (account_id, lot_version) where lot_version is not null;
create index portion_owed on ledger.portion (account_id, transfer_id)
    where source = 'owed' and returned + settled < amount;
create index portion_written_off on ledger.portion (account_id, transfer_id)
    where source = 'written_off' and returned + settled < amount;
"""

COMMANDS = """
-- A spend that may be given back. Its id is its transfer's.
create table ledger.spend (
    id         uuid   primary key,
    account_id bigint not null references ledger.account,
    amount     bigint not null check (amount > 0),
    reversed   bigint not null default 0 check (reversed between 0 and amount),
    item       text,
    hold_id    uuid
) with (fillfactor = 70);

create table ledger.hold (
    id                uuid        primary key,
    account_id        bigint      not null references ledger.account,
    amount            bigint      not null check (amount > 0),
    captured          bigint      not null default 0 check (captured between 0 and amount),
    state             text        not null default 'open' check (state in ('open', 'captured', 'released', 'expired')),
    expires_at        timestamptz not null,
    reference         text,
    refund_request_id uuid,
    created_at        timestamptz not null,
    check ((state = 'captured') = (captured > 0))
) with (fillfactor = 70);

create index hold_open on ledger.hold (expires_at) where state = 'open';
create index hold_open_of_account on ledger.hold (account_id) where state = 'open';
create index hold_open_of_refund_request on ledger.hold (refund_request_id)
    where state = 'open' and refund_request_id is not null;

-- Which lots a hold set its amount aside in, as it was placed.
create table ledger.reservation (
    hold_id     uuid   not null,
    position    int    not null,
    account_id  bigint not null,
    lot_version bigint not null,
    amount      bigint not null check (amount > 0),
    primary key (hold_id, position)
);

create table ledger.refund_request (
    id                     uuid        primary key,
    app                    text        not null,
    store                  text        not null,
    environment            text        not null check (environment in ('production', 'sandbox')),
    transaction_id         text        not null,
    purchase_id            text        not null,
    user_id                text        not null,
    state                  text        not null default 'open'
                                       check (state in ('open', 'refunded', 'declined', 'expired')),
    reason                 text,
    spent_percentage_milli int         not null check (spent_percentage_milli between 0 and 100000),
    expires_at             timestamptz not null,
    created_at             timestamptz not null,
    updated_at             timestamptz not null
) with (fillfactor = 70);

create unique index refund_request_open on ledger.refund_request (app, store, environment, transaction_id)
    where state = 'open';
create index refund_request_expires on ledger.refund_request (expires_at) where state = 'open';

-- The first answer to each key of an app's caller: a repeat gets it again.
create table ledger.answer (
    app         text        not null,
    user_id     text        not null,
    call        text        not null,
    key         text        not null,
    body_sha256 bytea       not null,
    status      smallint    not null,
    document    text        not null,
    created_at  timestamptz not null,
    primary key (app, user_id, call, key)
);

create index answer_age on ledger.answer (created_at);
"""

AUDITS = """
-- Each audit: what it looked at, and what was off (`problems` in all, the first of them in `findings`).
-- Not finished: it is running, or was cut off; `error` says what kept it from being one.
create table ledger.audit (
    id          bigint      generated always as identity primary key,
    started_at  timestamptz not null,
    finished_at timestamptz,
    checked     jsonb       not null default '{}',
    problems    bigint      not null default 0,
    findings    jsonb       not null default '[]',
    error       text
);
"""

APPEND_ONLY = """
create trigger never_forgotten before delete or truncate on ledger.lot
    for each statement execute function ledger.refuse_change();
create trigger never_forgotten before delete or truncate on ledger.portion
    for each statement execute function ledger.refuse_change();
create trigger never_forgotten before delete or truncate on ledger.spend
    for each statement execute function ledger.refuse_change();
create trigger append_only before update or delete or truncate on ledger.reservation
    for each statement execute function ledger.refuse_change();
"""

# What is in the books already: purchases and their refunds, nothing else, so each refund came from its own purchase.
CARRY_OVER = """
insert into ledger.lot (account_id, version, amount, remaining)
select bought.account_id, bought.account_version, bought.amount, bought.amount - coalesce(sum(-taken.amount), 0)
  from ledger.transfer purchase
  join ledger.entry bought on bought.transfer_id = purchase.id and bought.wallet_id is not null
  left join (ledger.transfer refund join ledger.entry taken on taken.transfer_id = refund.id)
    on refund.kind = 'refund' and taken.account_id = bought.account_id
   and (refund.app, refund.store, refund.environment, refund.transaction_id)
     = (purchase.app, purchase.store, purchase.environment, purchase.transaction_id)
 where purchase.kind = 'purchase'
 group by bought.account_id, bought.account_version, bought.amount;

insert into ledger.portion (transfer_id, account_id, position, source, lot_version, own, amount)
select refund.id, taken.account_id, 0, 'lot', bought.account_version, true, -taken.amount
  from ledger.transfer refund
  join ledger.entry taken on taken.transfer_id = refund.id and taken.wallet_id is not null
  join ledger.transfer purchase on purchase.kind = 'purchase'
   and (refund.app, refund.store, refund.environment, refund.transaction_id)
     = (purchase.app, purchase.store, purchase.environment, purchase.transaction_id)
  join ledger.entry bought on bought.transfer_id = purchase.id and bought.account_id = taken.account_id
 where refund.kind = 'refund';

update ledger.store_transaction known set lots = made.lots
  from (select app, store, environment, transaction_id,
               jsonb_object_agg(currency, jsonb_build_array(account_version)) as lots
          from (select purchase.app, purchase.store, purchase.environment, purchase.transaction_id,
                       account.currency, bought.account_version
                  from ledger.transfer purchase
                  join ledger.entry bought on bought.transfer_id = purchase.id and bought.wallet_id is not null
                  join ledger.account on account.id = bought.account_id
                 where purchase.kind = 'purchase') as credit
         group by app, store, environment, transaction_id) as made
 where (known.app, known.store, known.environment, known.transaction_id)
     = (made.app, made.store, made.environment, made.transaction_id);
"""

# What was bought, and when, is in the event that it was granted for: without, no refund could be asked for in the app.
# The journal is migrated before the ledger (deploy/migrate.py).
BOUGHT = """
update ledger.store_transaction known
   set product_id = said.transaction ->> 'product_id', purchased_at = (said.transaction ->> 'purchased_at')::timestamptz
  from (select app, payload -> 'transaction' as transaction
          from journal.event where type = 'purchase.verified') as said
 where known.state = 'granted'
   and (known.app, known.store, known.environment, known.transaction_id)
     = (said.app, said.transaction ->> 'store', said.transaction ->> 'environment',
        said.transaction ->> 'transaction_id');
"""

RIGHTS = """
grant update (balance, version, held, owed) on ledger.account to purser_ledger;
grant select, insert, update on ledger.lot, ledger.portion, ledger.spend, ledger.hold, ledger.refund_request,
    ledger.audit to purser_ledger;
grant select, insert on ledger.reservation to purser_ledger;
grant select, insert, delete on ledger.answer to purser_ledger;
"""


def upgrade() -> None:
    for statements in (
        ACCOUNTS,
        TRANSFERS,
        ENTRIES,
        STORE_TRANSACTIONS,
        LOTS,
        COMMANDS,
        AUDITS,
        CARRY_OVER,
        BOUGHT,
        APPEND_ONLY,
        RIGHTS,
    ):
        op.execute(statements)
