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
-- them all: renewals, and restored copies. Of a subscription it also keeps what says when it should have renewed: its
-- newest period, and what the store said last of its next renewal (shared.events.Renewal).
create table verifier.origin (
    app                     text        not null,
    store                   text        not null,
    environment             text        not null check (environment in ('production', 'sandbox')),
    original_transaction_id text        not null,
    user_id                 text,
    period_at               timestamptz,           -- when its newest period began
    period_signed_at        timestamptz,           -- when the store last spoke of that period
    expires_at              timestamptz,           -- when that period ends
    revoked                 boolean     not null default false,   -- that period was taken back
    renewal                 jsonb,
    renewal_signed_at       timestamptz,           -- when the store last spoke of its next renewal
    check_at                timestamptz,           -- when the store is to be asked, if nothing was heard by then
    checks                  int         not null default 0,   -- in vain, since something was heard
    primary key (app, store, environment, original_transaction_id),
    check ((period_at is null) = (expires_at is null)),
    check ((renewal is null) = (renewal_signed_at is null))
) with (fillfactor = 70);

create index origin_to_check on verifier.origin (app, environment, check_at) where check_at is not null;

-- `original_transaction_id` is of what has an origin. `revoked_at` and `revocation_cause` are what the word on refunds
-- says that counts (`revoked_signed_at`, `refunded_milli`).
alter table verifier.store_transaction
    add column original_transaction_id text,
    add column revoked_at timestamptz,
    add column revocation_cause text;

update verifier.store_transaction set revoked_at = revoked_signed_at, revocation_cause = 'refund'
 where revoked_signed_at is not null;

-- What is used up, and what is bought for a time, cannot be restored; of what is not known it is assumed that it can.
update verifier.store_transaction
   set original_transaction_id = statement ->> 'original_transaction_id'
 where coalesce(statement ->> 'product_type', '') not in ('consumable', 'non_renewing');

alter table verifier.store_transaction
    add constraint store_transaction_refund_is_whole
        check (num_nulls(revoked_signed_at, revoked_at, revocation_cause) in (0, 3));

-- What was kept before says nothing of periods, so the store is asked how each subscription stands.
insert into verifier.origin (app, store, environment, original_transaction_id, user_id, check_at)
select app, store, environment, original_transaction_id,
       (array_agg(user_id order by (statement ->> 'purchased_at')::timestamptz, transaction_id)
          filter (where user_id is not null))[1],
       case when bool_or(statement ->> 'product_type' = 'auto_renewable') then clock_timestamp() end
  from verifier.store_transaction
 where original_transaction_id is not null
 group by app, store, environment, original_transaction_id;

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
    asked_at    timestamptz,                       -- when it was last asked, whatever came of it
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
