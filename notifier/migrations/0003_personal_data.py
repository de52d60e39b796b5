"""What endpoints answered about a user can be taken out of the record.

Revision ID: notifier_0003
"""

from __future__ import annotations

from alembic import op

revision = "notifier_0003"
down_revision = "notifier_0002"
branch_labels = None
depends_on = None

ERASING = """
-- One look into the index for each endpoint of the app that anything is on record of.
create function notifier.endpoints_of(of_app text) returns setof text
language sql stable set search_path = pg_catalog, pg_temp as $$
    with recursive endpoint (id) as (
        (select endpoint_id from notifier.delivery where app = of_app order by endpoint_id limit 1)
         union all
        select (select endpoint_id from notifier.delivery where app = of_app and endpoint_id > id
                 order by endpoint_id limit 1)
          from endpoint where id is not null)
    select id from endpoint where id is not null
$$;

-- Forgets what endpoints answered to the events of a user, of `since` and later; how often they had. Which events those
-- are the feed knows, in which they may have been given to the pseudonym already.
create function notifier.erase_history(of_app text, erased text, pseudonym text, since uuid) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    attempts bigint;
begin
    update notifier.attempt a set answer = ''
      from journal.outward o, notifier.endpoints_of(of_app) as endpoint
     where o.app = of_app and o.user_id in (erased, pseudonym) and o.event_id >= since
       and a.app = of_app and a.endpoint_id = endpoint and a.event_id = o.event_id and a.answer <> '';
    get diagnostics attempts = row_count;
    return attempts;
end $$;

-- The rest, while nobody records anything (deploy/users/erasing.py). Who is posting one of these messages now posts it
-- as it was; whatever comes of it is not counted, since its delivery is due at another time than it was taken for, and
-- it is posted once more, under the pseudonym.
create function notifier.erase_user(of_app text, erased text, pseudonym text, since uuid) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
    update notifier.delivery d set due_at = d.due_at + interval '1 microsecond'
      from journal.outward o, notifier.endpoints_of(of_app) as endpoint
     where o.app = of_app and o.user_id in (erased, pseudonym)
       and d.app = of_app and d.endpoint_id = endpoint and d.event_id = o.event_id and d.state = 'waiting';
    return jsonb_build_object('notifier.attempt', notifier.erase_history(of_app, erased, pseudonym, since));
end $$;
"""

RIGHTS = """
revoke execute on function notifier.erase_history, notifier.erase_user from public;
"""


def upgrade() -> None:
    for statements in (ERASING, RIGHTS):
        op.execute(statements)
