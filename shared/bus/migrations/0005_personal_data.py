"""What is personal in the journal can be taken out of it: of a user who is erased, and of proofs that are old.

Revision ID: journal_0005
"""

from __future__ import annotations

from alembic import op

revision = "journal_0005"
down_revision = "journal_0004"
branch_labels = None
depends_on = None

IDS = """
-- shared.ids: 26 characters of base32 over the parts, each with its length. A test holds the two to each other.
create function journal.digest(variadic parts text[]) returns text
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    select string_agg(substr('abcdefghijklmnopqrstuvwxyz234567', substring(bits from 5 * at + 1 for 5)::bit(5)::int + 1,
                             1), '' order by at)
      from (select ('x' || encode(sha256(string_agg(int4send(octet_length(said)) || said, '' order by number)),
                                  'hex'))::bit(256) as bits
              from (select convert_to(part, 'UTF8') as said, number
                      from unnest(parts) with ordinality as each (part, number)) as each) as hashed,
           generate_series(0, 25) as at
$$;

-- A purchase's id is a digest of its user's, so who is erased gets others: of the old ones with a salt that is kept
-- nowhere. 104 bits in characters that ids of purchases have.
create function journal.erased_id(id text, salt text) returns text
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    select left(id, 4) || left(translate(encode(sha256(convert_to(salt || id, 'UTF8')), 'hex'), '0189', 'ghij'), 26)
$$;
"""

PAYLOADS = """
-- A payload without what a client or a store has signed: shared.events.PROOF_REMOVED stands there then.
create function journal.without_proofs(type text, payload jsonb) returns jsonb
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    select case type
        when 'receipt.submitted' then payload || '{"receipt": "removed"}'
        when 'transaction.submitted' then payload || '{"signed_transaction": "removed"}'
        when 'notification.received' then payload || '{"signed_payload": "removed"}'
        when 'subscription.reported' then payload || '{"signed_transaction": "removed", "signed_renewal_info": null}'
        else payload end
$$;

-- A payload without all that is personal: who acted, what was written for people to read, which token and purchase it
-- was. What was bought (`item`) stays unless it names the user.
create function journal.erased_payload(type text, payload jsonb, erased text, pseudonym text, salt text) returns jsonb
language plpgsql immutable strict set search_path = pg_catalog, pg_temp as $$
declare
    said jsonb := journal.without_proofs(type, payload);
begin
    if type = 'account_token.issued' then
        said := said || '{"token": "00000000-0000-0000-0000-000000000000"}';
    end if;
    if said ->> 'actor' = 'client:' || erased then
        said := said || jsonb_build_object('actor', 'client:' || pseudonym);
    end if;
    if said ->> 'purchase_id' like 'pur\\_%' then
        said := said || jsonb_build_object('purchase_id', journal.erased_id(said ->> 'purchase_id', salt));
    end if;
    if said ->> 'source' like 'pur\\_%' then
        said := said || jsonb_build_object('source', journal.erased_id(said ->> 'source', salt));
    end if;
    if said #>> '{change,purchase_id}' is not null then
        said := jsonb_set(said, '{change,purchase_id}',
                          to_jsonb(journal.erased_id(said #>> '{change,purchase_id}', salt)));
    end if;
    if said #>> '{change,reference}' is not null then
        said := jsonb_set(said, '{change,reference}', 'null');
    end if;
    if said ->> 'reference' is not null then
        said := said || '{"reference": null}';
    end if;
    if strpos(said ->> 'item', erased) > 0 then
        said := said || '{"item": null}';
    end if;
    return case type when 'grant.posted' then said || '{"reason": "erased"}'
                     when 'refund_request.updated' then said || '{"reason": null}'
                     else said end;
end $$;

-- All of a payload that erasing leaves alone: the trigger below sees to it, whatever the function above does.
create function journal.lasting(payload jsonb) returns jsonb
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    select (payload - '{receipt,signed_transaction,signed_renewal_info,signed_payload,token,actor,reference,reason,
                        item,purchase_id,source}'::text[]) #- '{change,purchase_id}' #- '{change,reference}'
$$;
"""

APPEND_ONLY = """
-- Transactions that may take something out of events: no more than `what`. The functions below put theirs here, and
-- take it out again before they end; nobody else has a right to this table.
create table journal.permit (
    transaction xid8 primary key,
    what        text not null check (what in ('proofs', 'personal'))
);

create or replace function journal.refuse_change() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    permitted text;
begin
    if tg_op = 'UPDATE' then
        select what into permitted from journal.permit where transaction = pg_current_xact_id_if_assigned();
    end if;
    if permitted is null then
        raise exception 'journal.event is append only';
    end if;
    if permitted = 'proofs'
       and (to_jsonb(new) - 'payload' is distinct from to_jsonb(old) - 'payload'
            or new.payload is distinct from journal.without_proofs(old.type, old.payload))
       or to_jsonb(new) - '{user_id,subject,payload}'::text[]
          is distinct from to_jsonb(old) - '{user_id,subject,payload}'::text[]
       or journal.lasting(new.payload) is distinct from journal.lasting(old.payload) then
        raise exception 'nothing of an event but what is personal may be taken out of it'
            using errcode = 'check_violation';
    end if;
    return new;
end $$;
"""

INDEXES = """
-- All that is about a user, beside purchases (timeline_by_user).
create index timeline_of_user on journal.timeline (app, user_id)
    where user_id is not null and subject not like 'pur\\_%';

-- Notifications are nobody's: those about a user's purchases are found by the first transaction of what was bought.
create index event_of_notifications on journal.event (app, (payload ->> 'original_transaction_id'))
    where type = 'notification.received';

create index event_of_erasures on journal.event (id) where type = 'user.erased';

-- By index, whatever the statistics say: each branch has its own.
create function journal.subjects_of(of_app text, of_user text) returns setof journal.timeline language sql stable as $$
    select * from journal.timeline where app = of_app and user_id = of_user and subject like 'pur\\_%'
     union all
    select * from journal.timeline where app = of_app and user_id = of_user and subject not like 'pur\\_%'
$$;
"""

ERASING = """
-- The notifications about these first transactions. One look into the index for each: for several at once the planner
-- may read all of the app's.
create function journal.notifications_of(of_app text, originals text[]) returns setof uuid language sql stable as $$
    select told.id
      from unnest(originals) as original,
           lateral (select id from journal.event
                     where type = 'notification.received' and app = of_app
                       and payload ->> 'original_transaction_id' = original offset 0) as told
$$;

-- Takes a user out of the events from `since` on, before `until`, and out of the feed; how many events. Nobody changes
-- events and places, so nobody waits. Each event is to be done once: ids that were derived already would be derived
-- once more.
create function journal.erase_history(
    of_app text, erased text, pseudonym text, salt text, since uuid, until uuid) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    events bigint;
begin
    insert into journal.permit (transaction, what) values (pg_current_xact_id(), 'personal');
    update journal.event e
       set user_id = case when e.user_id is not null then pseudonym end,
           subject = case left(e.subject, 4)
                     when 'pur_' then journal.erased_id(e.subject, salt)
                     when 'acc_' then 'acc_' || journal.digest(of_app, pseudonym)
                     when 'ent_' then 'ent_' || journal.digest(of_app, e.payload ->> 'environment', pseudonym,
                                                               e.payload ->> 'entitlement')
                     else e.subject end,
           payload = case when e.user_id is null then journal.without_proofs(e.type, e.payload)
                          else journal.erased_payload(e.type, e.payload, erased, pseudonym, salt) end
      from journal.subjects_of(of_app, erased) s
     where s.last_event_id >= since and s.first_event_id < until
       and e.app = of_app and e.subject = s.subject and e.id between s.first_event_id and s.last_event_id
       and e.id >= since and e.id < until and (e.user_id = erased or e.user_id is null);
    get diagnostics events = row_count;
    update journal.outward set user_id = pseudonym where app = of_app and user_id = erased;
    delete from journal.permit where transaction = pg_current_xact_id();
    return events;
end $$;

-- The rest, while nobody records anything (deploy/users/erasing.py): the events from `since` on, the notifications
-- about these first transactions, the heads of timelines, and errors of any of these that name the user. How many rows,
-- by table. That an account token was issued has no head any more: the pseudonym has none.
create function journal.erase_user(of_app text, erased text, pseudonym text, salt text, originals text[], since uuid)
returns jsonb language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    events bigint := journal.erase_history(of_app, erased, pseudonym, salt, since,
                                            'ffffffff-ffff-ffff-ffff-ffffffffffff');
    notifications bigint;
    tokens bigint;
    subjects bigint;
    told uuid[] := array(select * from journal.notifications_of(of_app, originals));
    errors bigint;
begin
    insert into journal.permit (transaction, what) values (pg_current_xact_id(), 'proofs');
    update journal.event set payload = journal.without_proofs(type, payload)
     where id = any(told)
       and payload ->> 'signed_payload' <> 'removed';
    get diagnostics notifications = row_count;
    delete from journal.permit where transaction = pg_current_xact_id();

    delete from journal.timeline where app = of_app and left(subject, 4) = 'acc_'
       and subject in (select subject from journal.subjects_of(of_app, erased));
    get diagnostics tokens = row_count;
    update journal.timeline t
       set user_id = pseudonym, fingerprint = null,
           subject = case left(t.subject, 4)
                     when 'pur_' then journal.erased_id(t.subject, salt)
                     when 'ent_' then (select subject from journal.event where id = t.first_event_id)
                     else t.subject end
     where t.app = of_app and t.subject in (select subject from journal.subjects_of(of_app, erased));
    get diagnostics subjects = row_count;

    -- of the user's own events, which are the pseudonym's by now: in others the same letters are something else
    update journal.delivery d set error = 'erased'
      from journal.event e
     where d.state in ('parked', 'dead') and strpos(d.error, erased) > 0
       and e.id = d.event_id and e.app = of_app
       and (e.user_id = pseudonym or e.id = any(told)
            or e.user_id is null and e.subject in (select subject from journal.subjects_of(of_app, pseudonym)));
    get diagnostics errors = row_count;
    return jsonb_build_object('journal.event', events + notifications, 'journal.timeline', tokens + subjects,
                              'journal.delivery', errors);
end $$;
"""

RETENTION = """
-- How far proofs were removed: all events up to here were looked at. What was passed by, since it was still to be
-- delivered to somebody, is in proof_passed_by.
create table journal.proof_cursor (
    only_row boolean primary key default true check (only_row),
    reached  uuid    not null
);
insert into journal.proof_cursor (reached) values ('00000000-0000-0000-0000-000000000000');

create table journal.proof_passed_by (event_id uuid primary key);

-- Removes proofs that were recorded before then (never of the last day), but none that somebody has still to handle.
-- Looks at the next `rows` events at most, each once, and at so many of those passed by that nobody has still to
-- handle; `looked` says at how many, `removed` how many had a proof to remove.
-- Another courier that is at it is not waited for.
create function journal.remove_proofs(before timestamptz, rows int, out looked int, out removed int)
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '1s'
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    bound constant uuid := journal.uuid_floor(least(before, now() - interval '1 day'));
    proofs constant text[] := '{receipt.submitted,transaction.submitted,notification.received,subscription.reported}';
    newest uuid;
    wanted uuid[];
    open   uuid[];
    freed  uuid[];
    consumers text[];
begin
    looked := 0;
    removed := 0;
    select reached into newest from journal.proof_cursor for update skip locked;
    if not found then
        return;
    end if;

    select count(*), coalesce((array_agg(id order by id desc))[1], newest),
           array_agg(id) filter (where type = any(proofs))
      into looked, newest, wanted
      from (select id, type from journal.event where id > newest and id < bound order by id limit rows) as page;
    with recursive consumer (name) as (  -- one look into the index for each that there is
        (select consumer from journal.delivery order by consumer limit 1)
         union all
        select (select consumer from journal.delivery where consumer > name order by consumer limit 1)
          from consumer where name is not null)
    select coalesce(array_agg(name) filter (where name is not null), '{}') into consumers from consumer;

    select array_agg(event_id) into freed
      from (select event_id from journal.proof_passed_by as passed_by
             where not exists (select from unnest(consumers) as name, lateral (
                                   select from journal.delivery
                                    where consumer = name and delivery.event_id = passed_by.event_id offset 0) as stuck)
             order by event_id limit rows) as passed_by;
    looked := looked + coalesce(cardinality(freed), 0);
    wanted := wanted || freed;

    select coalesce(array_agg(distinct id), '{}') into open
      from unnest(wanted) as id, unnest(consumers) as name,
           lateral (select from journal.delivery where consumer = name and event_id = id offset 0) as undelivered;

    delete from journal.proof_passed_by where event_id = any(wanted) and event_id <> all(open);
    insert into journal.proof_passed_by select unnest(open) on conflict do nothing;

    insert into journal.permit (transaction, what) values (pg_current_xact_id(), 'proofs');
    update journal.event set payload = journal.without_proofs(type, payload)
     where id = any(wanted) and id <> all(open) and payload is distinct from journal.without_proofs(type, payload);
    get diagnostics removed = row_count;
    delete from journal.permit where transaction = pg_current_xact_id();
    update journal.proof_cursor set reached = newest;
end $$;
"""

RIGHTS = """
-- What acts with its owner's rights finds types in pg_temp last: first, unless told, and a caller's are there.
alter function journal.ensure_partitions set search_path = pg_catalog, pg_temp;
-- A trigger, too: on a table of one's own it would do as its owner what is not its work.
revoke execute on function journal.refuse_change, journal.erase_history, journal.erase_user, journal.remove_proofs
    from public;
grant execute on function journal.remove_proofs to purser_courier;
"""


def upgrade() -> None:
    for statements in (IDS, PAYLOADS, APPEND_ONLY, INDEXES, ERASING, RETENTION, RIGHTS):
        op.execute(statements)
