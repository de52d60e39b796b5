"""Subscriptions, entitlements and what they come from; which of its ids a store showed a charge under.

Revision ID: ledger_0004
"""

from __future__ import annotations

from alembic import op

revision = "ledger_0004"
down_revision = "ledger_0003"
branch_labels = None
depends_on = None

TRANSACTIONS = """
-- `transaction_id` is what is granted once: of what a store shows under several ids (a restored copy of a period, say)
-- it is the charge's. `stated_as` is the store's own id, under which it was verified first.
alter table ledger.store_transaction
    add column stated_as text,
    add column quantity  int not null default 1 check (quantity >= 1);

update ledger.store_transaction set stated_as = transaction_id where state = 'granted';
"""

SUBSCRIPTIONS = """
-- All that counts of what a store has said of a subscription (ledger.domain.subscriptions.Subscription), and what its
-- user was told last (shared.events.SubscriptionState). Nobody is told of a subscription that nobody has claimed.
create table ledger.subscription (
    app                     text        not null,
    store                   text        not null,
    environment             text        not null check (environment in ('production', 'sandbox')),
    original_transaction_id text        not null,
    user_id                 text,
    heard                   jsonb,                 -- null: this row was made to be locked
    told                    jsonb,
    version                 bigint      not null default 0,
    due_at                  timestamptz,           -- when time alone makes its status another one
    primary key (app, store, environment, original_transaction_id),
    check ((told is null) = (version = 0)),
    check (told is null or (user_id is not null and heard is not null))
) with (fillfactor = 70);

create index subscription_of_user on ledger.subscription (app, environment, user_id) where user_id is not null;
create index subscription_due on ledger.subscription (due_at) where due_at is not null;
"""

ENTITLEMENTS = """
-- What gives a user an entitlement: a subscription (`sub_…`) or a purchase (`pur_…`). `lasts`: bought for so long.
create table ledger.entitlement_source (
    app         text        not null,
    environment text        not null check (environment in ('production', 'sandbox')),
    user_id     text        not null,
    source_id   text        not null,
    entitlement text        not null,
    since       timestamptz not null,
    until       timestamptz,                       -- null: it never ends
    lasts       interval,
    primary key (app, environment, user_id, source_id, entitlement),
    check (until is null or lasts is null)
);

-- What users were told that they may use.
create table ledger.entitlement (
    app         text        not null,
    environment text        not null check (environment in ('production', 'sandbox')),
    user_id     text        not null,
    entitlement text        not null,
    active      boolean     not null,
    until       timestamptz,                       -- null: for ever; of one that is not active: when it ended
    version     bigint      not null check (version > 0),
    source_id   text,
    changed_at  timestamptz not null,
    primary key (app, environment, user_id, entitlement),
    check (active or until is not null),
    check (active = (source_id is not null))
) with (fillfactor = 70);

create index entitlement_due on ledger.entitlement (until) where active and until is not null;
"""

RIGHTS = """
grant select, insert, update on ledger.subscription, ledger.entitlement to purser_ledger;
grant select, insert, update, delete on ledger.entitlement_source to purser_ledger;
"""


def upgrade() -> None:
    op.execute(TRANSACTIONS)
    op.execute(SUBSCRIPTIONS)
    op.execute(ENTITLEMENTS)
    op.execute(RIGHTS)
