"""Outward events get their places in the order in which they are read from outside.

Revision ID: journal_0004
"""

from __future__ import annotations

from alembic import op

revision = "journal_0004"
down_revision = "journal_0003"
branch_labels = None
depends_on = None

TABLES = """
-- The outward events of each app, numbered without a gap. Whoever adds some holds the app's head until it commits, so
-- numbers become visible in their order: a reader that has seen number n has seen all before it, and goes on after n.
-- (Neither ids nor the numbers of a sequence are like that: a transaction that commits late shows lower ones than were
-- seen already. pg_current_xact_id would be, but only within one cluster: after a restore it begins anew.)
create table journal.outward (
    app      text   not null,
    position bigint not null check (position > 0),
    event_id uuid   not null,
    user_id  text,
    primary key (app, position)
);

create unique index outward_event on journal.outward (app, event_id);
create index outward_by_user on journal.outward (app, user_id, position);

create table journal.outward_head (
    app      text   primary key,
    position bigint not null
) with (fillfactor = 50);
"""

# What was told before has its place too; what the notifier has not handled yet gets one from it.
BEFORE = """
insert into journal.outward (app, position, event_id, user_id)
select app, row_number() over (partition by app order by id), id, user_id
  from journal.event e
 where type in ('purchase.completed', 'purchase.rejected', 'purchase.refunded', 'purchase.refund_reversed',
                'wallet.credited', 'wallet.debited', 'refund_request.updated', 'subscription.updated',
                'entitlement.changed')
   and not exists (select from journal.delivery d where d.consumer = 'notifier' and d.event_id = e.id);

insert into journal.outward_head (app, position) select app, max(position) from journal.outward group by app;
"""

# Webhooks are no longer sent from a queue: notifier_0002 has what waits.
QUEUE = """
delete from journal.delivery where consumer = 'webhooks';
"""

RIGHTS = """
grant select, insert on journal.outward to purser_notifier;
grant select, insert, update on journal.outward_head to purser_notifier;
grant select on journal.outward, journal.outward_head to purser_gateway;
"""


def upgrade() -> None:
    for statements in (TABLES, BEFORE, QUEUE, RIGHTS):
        op.execute(statements)
