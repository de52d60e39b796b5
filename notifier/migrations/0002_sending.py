"""The notifier sends by itself: when a delivery is due is kept with it, and how each endpoint does.

Revision ID: notifier_0002
"""

from __future__ import annotations

from alembic import op

revision = "notifier_0002"
down_revision = "notifier_0001"
branch_labels = None
depends_on = None

DELIVERIES = """
alter table notifier.delivery drop constraint delivery_check, drop constraint delivery_check1;
alter table notifier.delivery rename column next_attempt_at to due_at;
alter table notifier.delivery rename column delivered_at to settled_at;

-- What was parked waits again: for its endpoint to be enabled, or to be configured. A message that is too large comes
-- back to where it was.
update notifier.delivery set state = 'waiting' where state = 'parked';
update notifier.delivery set due_at = clock_timestamp() where state = 'waiting';
update notifier.delivery set settled_at = clock_timestamp() where state = 'exhausted';

-- due_at: when it is tried (again), and while it is being tried, when it is taken for lost and tried again.
-- settled_at: when it was delivered, given up (exhausted), or found impossible to send (parked).
-- attempts_before: made before it was last resent; its schedule begins anew there.
alter table notifier.delivery
    add column attempts_before int not null default 0 check (attempts_before >= 0),
    add check ((state = 'waiting') = (due_at is not null)),
    add check ((state = 'waiting') = (settled_at is null)),
    -- a delivery changes twice in its short life, and is left alone for weeks then
    set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

create index delivery_due on notifier.delivery (app, endpoint_id, due_at) where state = 'waiting';
create index delivery_settled on notifier.delivery (app, endpoint_id, settled_at) where settled_at is not null;
create index delivery_by_state on notifier.delivery (app, endpoint_id, state, event_id);
"""

ATTEMPTS = """
-- An attempt is written by the statement that settles its delivery, and removed with it. To have each checked once more
-- took most of that statement's time, by a plan that was made while the table was empty.
alter table notifier.attempt drop constraint attempt_app_endpoint_id_event_id_fkey;
"""

ENDPOINTS = """
-- failing_since: its first failed attempt after the last one that was taken; failures: how many since then;
-- failing_url: where. Another URL is another chance, here too.
alter table notifier.endpoint
    add column failing_since timestamptz,
    add column failing_url   text,
    add column failures      int not null default 0 check (failures >= 0),
    add check ((failing_since is null) = (failures = 0)),
    add check ((failing_url is null) = (failures = 0));
"""

RIGHTS = """
grant delete on notifier.delivery, notifier.attempt to purser_notifier;  -- after PURSER_WEBHOOK_KEPT_DAYS
"""


def upgrade() -> None:
    for statements in (DELIVERIES, ATTEMPTS, ENDPOINTS, RIGHTS):
        op.execute(statements)
