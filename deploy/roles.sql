-- The roles that the services act as. One schema and one role per service: a role sees its own schema and the journal.
-- `purser migrate` runs this; where its login may not create roles, a database administrator runs it once by hand.
do $$
declare
    name text;
    pg_16 constant bool := current_setting('server_version_num')::int >= 160000;
begin
    foreach name in array array['purser_gateway', 'purser_verifier', 'purser_ledger', 'purser_notifier', 'purser_courier']
    loop
        begin
            if not exists (select from pg_roles where rolname = name) then
                execute format('create role %I nologin', name);
            end if;
            -- Since PostgreSQL 16 the maker of a role is its member, and may still not act as it: that is SET.
            if not pg_has_role(current_user, name, case when pg_16 then 'set' else 'member' end) then
                execute format('grant %I to current_user', name);
            end if;
        exception when duplicate_object or unique_violation then
            null;  -- another migration made it at the same moment
        end;
    end loop;
end $$;
