"""The journal: events, deliveries, timelines.

Revision ID: journal_0001
"""

from __future__ import annotations

from alembic import op

revision = "journal_0001"
down_revision = None
branch_labels = None
depends_on = None

EVENTS = """
create table journal.event (
    id           uuid        not null,   -- UUIDv7: a range of ids is a range of time
    type         text        not null,
    version      smallint    not null,
    app          text        not null,
    subject      text        not null,   -- what it is about: a purchase, a notification, an account token
    user_id      text,
    payload      jsonb       not null,
    trace_id     text        not null,
    causation_id uuid,                   -- the event that it followed from
    occurred_at  timestamptz not null,
    recorded_at  timestamptz not null default clock_timestamp(),
    -- Ids become visible out of their order; whoever reads the journal in order needs to know which transactions were
    -- still running (pg_snapshot_xmin) to leave no late one out.
    transaction  xid8        not null default pg_current_xact_id(),
    primary key (id)
) partition by range (id);

create index event_by_subject on journal.event (subject, id);

create table journal.event_default partition of journal.event default;

create function journal.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'journal.event is append only';
end $$;

create trigger append_only before update or delete on journal.event
    for each row execute function journal.refuse_change();
create trigger never_emptied before truncate on journal.event
    for each statement execute function journal.refuse_change();
"""

PARTITIONS = """
create function journal.uuid_floor(moment timestamptz) returns uuid language sql immutable as $$
    select (lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- A partition a month. Made ahead of time by the courier; what arrives with no partition lands in event_default, and
-- is safe there, but then that month's partition cannot be made until it is moved out.
-- Attached, and not created in place, because that lets everybody read and write the journal meanwhile.
create function journal.ensure_partitions(now_at timestamptz, months_ahead int) returns void
language plpgsql security definer
set search_path = pg_catalog set timezone = 'UTC' set lock_timeout = '2s' as $$
declare
    month timestamptz;
    name text;
begin
    perform pg_advisory_xact_lock(hashtext('journal.ensure_partitions'));  -- couriers take turns
    for month in
        select generate_series(date_trunc('month', now_at),
                               date_trunc('month', now_at) + make_interval(months => months_ahead), '1 month')
    loop
        name := 'event_' || to_char(month, 'YYYY_MM');
        if to_regclass('journal.' || name) is null then
            execute format('create table journal.%I (like journal.event including defaults)', name);
            execute format(
                'alter table journal.event attach partition journal.%I for values from (%L) to (%L)',
                name, journal.uuid_floor(month), journal.uuid_floor(month + interval '1 month'));
        end if;
    end loop;
end $$;
"""

DELIVERIES = """
-- Outbox, lease, retries, parking and inbox in one small table: a row exists until its consumer has handled the event.
create table journal.delivery (
    consumer  text        not null,
    event_id  uuid        not null,
    type      text        not null,
    due_at    timestamptz not null default clock_timestamp(),  -- when it is handed over (again); parked, dead: infinity
    state     text        not null default 'waiting'
              check (state in ('waiting', 'handed', 'parked', 'dead')),
    handovers int         not null default 0,  -- how often the courier put it on the broker
    attempts  int         not null default 0,  -- how often handling it failed
    error     text,
    primary key (consumer, event_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0);

create index delivery_due on journal.delivery (consumer, due_at);
create index delivery_in_flight on journal.delivery (consumer, due_at) where state = 'handed';
create index delivery_stuck on journal.delivery (consumer, event_id) where state in ('parked', 'dead');
"""

TIMELINES = """
-- One row per subject: where its events are, and which of them is the word that counts.
create table journal.timeline (
    app            text        not null,
    subject        text        not null,
    user_id        text,
    first_event_id uuid        not null,
    last_event_id  uuid        not null,
    word_event_id  uuid,
    word_type      text,
    word_rank      smallint    not null default 0,
    fingerprint    bytea,                        -- of the newest submission, to know a repeat from a new proof
    updated_at     timestamptz not null default clock_timestamp(),
    primary key (app, subject)
) with (fillfactor = 70);

create index timeline_by_user on journal.timeline (app, user_id, first_event_id desc) where subject like 'pur\\_%';
"""

RIGHTS = """
grant usage on schema journal to purser_gateway, purser_verifier, purser_ledger, purser_notifier, purser_courier;
grant select, insert on journal.event to purser_gateway, purser_verifier, purser_ledger, purser_notifier;
grant select, insert, update on journal.timeline to purser_gateway, purser_verifier, purser_ledger, purser_notifier;
grant select, insert on journal.delivery to purser_gateway;
grant select, insert, update, delete on journal.delivery to purser_verifier, purser_ledger, purser_notifier;
grant select, update on journal.delivery to purser_courier;
revoke execute on function journal.ensure_partitions from public;
grant execute on function journal.ensure_partitions to purser_courier;
select journal.ensure_partitions(now(), 3);
"""


def upgrade() -> None:
    for statements in (EVENTS, PARTITIONS, DELIVERIES, TIMELINES, RIGHTS):
        op.execute(statements)
