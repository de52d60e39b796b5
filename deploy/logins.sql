-- A login for each service that may be its own role and nothing else: not even `reset role` shows it another one's tables.
-- For installations in which the processes are not to share the login that owns the tables. After `purser migrate`, as who
-- may create roles, once:
--
--   psql -v ON_ERROR_STOP=1 -f deploy/logins.sql
--   psql -c '\password purser_gateway_login'      -- and so on for the other four
--
-- PURSER_DATABASE_URL then names, for each process, the login of its role:
--
--   purser_gateway_login    gateway
--   purser_courier_login    courier
--   purser_verifier_login   verifier, verifier-store, verifier-lookups, reconciler
--   purser_ledger_login     ledger, ledger-scheduler, ledger-api
--   purser_notifier_login   notifier, webhooks, notifier-api
--
-- `purser migrate` and the operator's commands go on with the owner's.
do $$
declare
    role  text;
    login text;
begin
    foreach role in array array['purser_gateway', 'purser_verifier', 'purser_ledger', 'purser_notifier', 'purser_courier']
    loop
        login := role || '_login';
        if not exists (select from pg_roles where rolname = login) then
            -- noinherit: it has no rights until it acts as the role, which is what each process does when it connects
            execute format('create role %I login noinherit', login);
        end if;
        execute format('grant %I to %I', role, login);
    end loop;
end $$;
