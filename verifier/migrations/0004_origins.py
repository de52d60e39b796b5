"""Who owns a subscription, and what can be restored, with all that follows from its first transaction; and how far what
the store said was looked through again.

Revision ID: verifier_0004
"""

from __future__ import annotations

from alembic import op

revision = "verifier_0004"
down_revision = "verifier_0003"
branch_labels = None
depends_on = None

ORIGINS = """
-- The first transaction of a subscription, or of what can be restored. Who claims one of its transactions first has
-- them all: renewals, and restored copies. `renewal_signed_at` is when the store last spoke of its next renewal.
create table verifier.origin (
    app                     text        not null,
    store                   text        not null,
    environment             text        not null check (environment in ('production', 'sandbox')),
    original_transaction_id text        not null,
    user_id                 text,
    renewal_signed_at       timestamptz,
    period_at               timestamptz,           -- when its newest period began
    check_at                timestamptz,           -- when the store is to be asked, if nothing was heard by then
    checks                  int         not null default 0,   -- in vain, since something was heard
    primary key (app, store, environment, original_transaction_id)
) with (fillfactor = 70);

create index origin_to_check on verifier.origin (app, environment, check_at) where check_at is not null;

alter table verifier.store_transaction add column original_transaction_id text;   -- of what has an origin

update verifier.store_transaction
   set original_transaction_id = statement ->> 'original_transaction_id'
 where statement ->> 'product_type' in ('auto_renewable', 'non_consumable');

insert into verifier.origin (app, store, environment, original_transaction_id, user_id)
select distinct on (app, store, environment, original_transaction_id)
       app, store, environment, original_transaction_id, user_id
  from verifier.store_transaction where original_transaction_id is not null
 order by app, store, environment, original_transaction_id, user_id nulls last, transaction_id;

create index store_transaction_unclaimed_of_origin
    on verifier.store_transaction (app, store, environment, original_transaction_id)
    where user_id is null and original_transaction_id is not null;
"""

RECONCILIATION = """
-- How far the store was asked what it had said (`notifications`) and how subscriptions stand (`subscriptions`), for
-- each app. `missed` counts what had never come here by itself.
create table verifier.reconciliation (
    app         text        not null,
    environment text        not null check (environment in ('production', 'sandbox')),
    road        text        not null check (road in ('notifications', 'subscriptions')),
    cursor_at   timestamptz,                       -- everything before it was looked through
    checked_at  timestamptz,                       -- when it was last asked to the end, without an error
    missed      bigint      not null default 0,
    missed_at   timestamptz,                       -- when something missed was found last
    error       text,                              -- why the newest attempt came to nothing; null: it did not
    failing_since timestamptz,
    primary key (app, environment, road)
);
"""

RIGHTS = """
grant select, insert, update on verifier.origin, verifier.reconciliation to purser_verifier;
"""


def upgrade() -> None:
    op.execute(ORIGINS)
    op.execute(RECONCILIATION)
    op.execute(RIGHTS)
