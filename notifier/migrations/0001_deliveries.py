"""Deliveries to the endpoints, every attempt at them, and endpoints that are switched off.

Revision ID: notifier_0001
"""

from __future__ import annotations

from alembic import op

revision = "notifier_0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
-- One outward event to one endpoint. When it is tried next is decided by journal.delivery; this is the record of it.
create table notifier.delivery (
    app             text        not null,
    endpoint_id     text        not null,
    event_id        uuid        not null,   -- the outward event: `webhook-id` on each attempt
    type            text        not null,
    state           text        not null default 'waiting'
                    check (state in ('waiting', 'delivered', 'exhausted', 'parked')),
    attempts        int         not null default 0,
    next_attempt_at timestamptz,            -- only while waiting
    last_status     int,
    last_error      text,
    created_at      timestamptz not null,
    delivered_at    timestamptz,
    primary key (app, endpoint_id, event_id),
    check ((state = 'delivered') = (delivered_at is not null)),
    check ((state = 'waiting') = (next_attempt_at is not null))
) with (fillfactor = 80);

create table notifier.attempt (
    app           text        not null,
    endpoint_id   text        not null,
    event_id      uuid        not null,
    number        int         not null check (number > 0),
    at            timestamptz not null,
    status        int,                      -- null: there was no answer
    duration_ms   int         not null,
    answer        text        not null check (length(answer) <= 512),   -- how its body begins
    error         text,                     -- null: taken
    retry_after_s float8,                   -- what the endpoint asked for
    primary key (app, endpoint_id, event_id, number),
    foreign key (app, endpoint_id, event_id) references notifier.delivery
);

-- What is known of an endpoint beyond the apps file. One that is disabled stays so while it has the same URL, until a
-- delivery that an operator has tried again is taken.
create table notifier.endpoint (
    app          text not null,
    endpoint_id  text not null,
    disabled_at  timestamptz,
    disabled_url text,
    reason       text,
    primary key (app, endpoint_id),
    check (num_nulls(disabled_at, disabled_url, reason) in (0, 3))
);
"""

RIGHTS = """
grant usage on schema notifier to purser_notifier;
grant select, insert, update on notifier.delivery, notifier.endpoint to purser_notifier;
grant select, insert on notifier.attempt to purser_notifier;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(RIGHTS)
