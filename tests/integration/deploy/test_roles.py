"""What each service may do in the database: one table, which is the whole of it, and what happens to who tries more."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
import requests
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class
from sqlalchemy import Connection as SqlConnection

from deploy.doctor.books import scheduler
from deploy.doctor.database import Look
from deploy.doctor.journal import courier
from deploy.ports import free_port
from deploy.processes import PROCESSES
from deploy.settings import StackSettings
from shared.database import connect_engine
from shared.ids import system_ids
from tests.support.gateway import EXAMPLES, SERVICE_TOKEN
from tests.support.processes import killed_in_the_end
from tests.support.stack import Servers, child_environment, wait_until

ROOT = Path(__file__).resolve().parents[3]
LOGINS = (ROOT / "deploy" / "logins.sql").read_text(encoding="utf-8")
PASSWORD = "of-a-login-that-a-test-makes"
SCHEMAS = ("journal", "verifier", "ledger", "notifier")
ROLES = ("purser_courier", "purser_gateway", "purser_ledger", "purser_notifier", "purser_verifier")

# Who may do what: a new grant has to be argued for here. A verb by itself is about the whole table, one with columns is
# about those alone.
RIGHTS: Mapping[str, Mapping[str, str]] = {
    "purser_gateway": {
        "journal.event": "select insert",
        "journal.timeline": "select insert update",
        "journal.delivery": "select insert",
        "journal.outward": "select",
        "journal.outward_head": "select",
    },
    "purser_courier": {
        "journal.delivery": "select update",
    },
    "purser_verifier": {
        "journal.event": "select insert",
        "journal.timeline": "select insert update",
        "journal.delivery": "select insert update delete",
        "verifier.store_transaction": "select insert update",
        "verifier.account_token": "select insert",
        "verifier.origin": "select insert update",
        "verifier.reconciliation": "select insert update",
    },
    "purser_ledger": {
        "journal.event": "select insert",
        "journal.timeline": "select insert update",
        "journal.delivery": "select insert update delete",
        "ledger.wallet": "select insert(app,environment,user_id) update(version)",
        "ledger.account": (
            "select insert(app,currency,environment,kind,shard,wallet_id) update(balance,held,owed,version)"
        ),
        "ledger.transfer": "select insert",
        "ledger.entry": "select insert",
        "ledger.reservation": "select insert",
        "ledger.store_transaction": "select insert update",
        "ledger.lot": "select insert update",
        "ledger.portion": "select insert update",
        "ledger.spend": "select insert update",
        "ledger.hold": "select insert update",
        "ledger.refund_request": "select insert update",
        "ledger.subscription": "select insert update",
        "ledger.entitlement": "select insert update",
        "ledger.entitlement_source": "select insert update delete",  # what a source gives is written anew each time
        "ledger.answer": "select insert delete",  # after PURSER_ANSWERS_KEPT_DAYS
        "ledger.audit": "select insert update delete",  # the audits' own results, of which some are kept
    },
    "purser_notifier": {
        "journal.event": "select insert",
        "journal.timeline": "select insert update",
        "journal.delivery": "select insert update delete",
        "journal.outward": "select insert",
        "journal.outward_head": "select insert update",
        "notifier.endpoint": "select insert update",
        "notifier.delivery": "select insert update delete",  # after PURSER_WEBHOOK_KEPT_DAYS, with the attempts
        "notifier.attempt": "select insert delete",
    },
}

DEFINERS: Mapping[str, tuple[str, ...]] = {
    "journal.ensure_partitions": ("purser_courier",),
    "journal.remove_proofs": ("purser_courier",),
    "journal.erase_history": (),
    "journal.erase_user": (),
    "verifier.erase_user": (),
    "ledger.erase_history": (),
    "ledger.erase_user": (),
    "notifier.erase_history": (),
    "notifier.erase_user": (),
    "journal.refuse_change": (),
    "ledger.refuse_unless_permitted": (),
}
"""The functions that act with their owner's rights, and the services that may call them."""

_GRANTED = """
    select r.rolname, n.nspname || '.' || k.relname,
           array(select verb from unnest(%(verbs)s) verb where has_table_privilege(r.oid, k.oid, verb)),
           array(select verb || '(' || string_agg(a.attname, ',' order by a.attname collate "C") || ')'
                 from unnest(%(column_verbs)s) verb, pg_attribute a
                 where a.attrelid = k.oid and a.attnum > 0 and not a.attisdropped
                   and has_column_privilege(r.oid, k.oid, a.attnum, verb)
                   and not has_table_privilege(r.oid, k.oid, verb)
                 group by verb)
    from pg_class k join pg_namespace n on n.oid = k.relnamespace, pg_roles r
    where n.nspname = any(%(schemas)s) and k.relkind in ('r', 'p', 'v', 'm', 'f') and r.rolname = any(%(roles)s)
"""
_VERBS = ["select", "insert", "update", "delete", "truncate", "references", "trigger"]


@pytest.fixture
def owner(module_database: str) -> Iterator[Connection]:
    with connected(module_database) as connection:
        yield connection


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection on which each statement is a transaction by itself."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()


def query(connection: Connection, sql: str, **parameters: object) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor) if cursor.description else []


def attempt(connection: Connection, sql: str) -> str:
    """`done`, or the code with which PostgreSQL refuses."""
    try:
        query(connection, sql)
    except psycopg2.Error as error:
        return str(error.pgcode)
    return "done"


REFUSED = "42501"  # insufficient_privilege


def granted(connection: Connection) -> dict[str, dict[str, set[str]]]:
    """By role and table, each verb that it may, with the columns if it may not for all."""
    found: dict[str, dict[str, set[str]]] = {role: {} for role in ROLES}
    parameters = {"verbs": _VERBS, "column_verbs": _VERBS[:3], "schemas": list(SCHEMAS), "roles": list(ROLES)}
    for role, table, verbs, column_verbs in query(connection, _GRANTED, **parameters):
        if verbs or column_verbs:
            found[str(role)][str(table)] = {*verbs, *column_verbs}  # type: ignore[misc]
    return found


def test_each_role_may_do_what_the_table_says_and_nothing_else(owner: Connection) -> None:
    expected = {role: {table: set(verbs.split()) for table, verbs in tables.items()} for role, tables in RIGHTS.items()}
    assert granted(owner) == expected


def test_a_role_sees_its_own_schema_and_the_journal(owner: Connection) -> None:
    usable = query(
        owner,
        "select r.rolname, n.nspname from pg_roles r, pg_namespace n where r.rolname = any(%(roles)s)"
        " and n.nspname = any(%(schemas)s) and has_schema_privilege(r.oid, n.oid, 'usage')",
        roles=list(ROLES),
        schemas=list(SCHEMAS),
    )
    own = {("purser_verifier", "verifier"), ("purser_ledger", "ledger"), ("purser_notifier", "notifier")}
    assert set(usable) == own | {(role, "journal") for role in ROLES}


def test_no_role_can_make_anything(owner: Connection) -> None:
    for role in ROLES:
        schemas = query(
            owner, "select nspname from pg_namespace where has_schema_privilege(%(role)s, oid, 'create')", role=role
        )
        assert schemas == [], role
        assert query(owner, "select has_database_privilege(%(role)s, current_database(), 'create')", role=role) == [
            (False,)
        ]
        powers = query(
            owner,
            "select rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls or rolcanlogin"
            " from pg_roles where rolname = %(role)s",
            role=role,
        )
        assert powers == [(False,)], role
        assert query(owner, "select from pg_auth_members where member = %(role)s::regrole", role=role) == []


def test_no_role_can_draw_a_number_that_a_table_is_to_draw_itself(owner: Connection) -> None:
    drawn = query(
        owner,
        "select r.rolname, k.oid::regclass::text from pg_class k, pg_roles r where k.relkind = 'S'"
        " and k.relnamespace::regnamespace::text = any(%(schemas)s) and r.rolname = any(%(roles)s)"
        " and has_sequence_privilege(r.oid, k.oid, 'usage, update')",
        roles=list(ROLES),
        schemas=list(SCHEMAS),
    )
    assert drawn == []


def test_what_acts_with_its_owners_rights_is_called_by_these_alone(owner: Connection) -> None:
    """The services' roles, and `public`, which is everybody. A trigger is among them: on a table of one's own."""
    found = query(
        owner,
        "select p.pronamespace::regnamespace || '.' || p.proname, array("
        "    select coalesce(r.rolname::text, 'public')"
        "      from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as granted"
        "      left join pg_roles r on r.oid = granted.grantee where granted.grantee <> p.proowner order by 1)"
        " from pg_proc p where p.prosecdef and p.pronamespace::regnamespace::text = any(%(schemas)s)",
        schemas=list(SCHEMAS),
    )
    assert {str(name): tuple(callers) for name, callers in found} == DEFINERS  # type: ignore[arg-type]


def test_what_acts_with_its_owners_rights_looks_nothing_up_where_its_caller_can_put_something(
    owner: Connection,
) -> None:
    """Types are looked for in pg_temp first where it is not named, whatever else the path says."""
    paths = query(
        owner,
        "select p.oid::regprocedure::text, array(select set from unnest(p.proconfig) set where set ^@ 'search_path=')"
        " from pg_proc p where p.pronamespace::regnamespace::text = any(%(schemas)s)"
        " and (p.prosecdef or p.proconfig::text like '%%search_path=%%')",
        schemas=list(SCHEMAS),
    )
    assert len(paths) >= len(DEFINERS)
    assert {name: path for name, path in paths if path != ["search_path=pg_catalog, pg_temp"]} == {}


_SPY = """
    create function pg_temp.spy() returns boolean language plpgsql as $$
    begin
        if current_user !~ '^purser_' then
            raise exception 'runs as the owner';
        end if;
        return true;
    end $$;
    create domain pg_temp.text as pg_catalog.text check (pg_temp.spy());
    create domain pg_temp.uuid as pg_catalog.uuid check (pg_temp.spy());
    create domain pg_temp.jsonb as pg_catalog.jsonb check (pg_temp.spy());
    create domain pg_temp.timestamptz as pg_catalog.timestamptz check (pg_temp.spy());
"""
"""A login's own types under the names of PostgreSQL's, whose checks are code of that login."""


@pytest.mark.parametrize("trigger", ["journal.refuse_change", "ledger.refuse_unless_permitted"])
def test_no_role_puts_a_trigger_that_acts_as_its_owner_on_a_table_of_its_own(
    logins: Mapping[str, str], trigger: str
) -> None:
    role = "purser_ledger" if trigger.startswith("ledger.") else "purser_notifier"
    with connected(logins[role]) as connection:
        query(connection, f"set role {role}")
        query(connection, "create temp table mine (type pg_catalog.text, payload pg_catalog.jsonb)")
        query(connection, _SPY)
        sql = f"create trigger mine before update on mine for each row execute function {trigger}()"
        assert attempt(connection, sql) == REFUSED


@pytest.mark.parametrize(
    "sql",
    [
        "select journal.ensure_partitions(now(), 1)",
        "select journal.remove_proofs(now() - interval '30 days', 5)",
    ],
)
def test_no_type_of_a_callers_own_runs_as_the_owner(logins: Mapping[str, str], sql: str) -> None:
    with connected(logins["purser_courier"]) as connection:
        query(connection, "set role purser_courier")
        query(connection, _SPY)
        query(connection, sql)


@pytest.mark.parametrize(
    ("role", "sql"),
    [
        ("purser_notifier", "select * from ledger.wallet"),
        ("purser_notifier", "select * from ledger.account"),
        ("purser_notifier", "select * from verifier.store_transaction"),
        ("purser_ledger", "select * from verifier.store_transaction"),
        ("purser_ledger", "select * from notifier.endpoint"),
        ("purser_verifier", "select * from ledger.entry"),
        ("purser_gateway", "insert into ledger.transfer default values"),
        ("purser_gateway", "insert into ledger.entry default values"),
        ("purser_gateway", "select * from ledger.wallet"),
        ("purser_gateway", "delete from journal.delivery"),
        ("purser_gateway", "update journal.delivery set state = 'dead'"),
        ("purser_gateway", "insert into journal.outward default values"),
        ("purser_courier", "select * from journal.event"),
        ("purser_courier", "delete from journal.delivery"),
        ("purser_courier", "insert into journal.event default values"),
        ("purser_ledger", "update ledger.account set currency = 'gold'"),
        ("purser_ledger", "update ledger.wallet set user_id = 'mallory'"),
        ("purser_ledger", "delete from ledger.lot"),
        ("purser_ledger", "truncate ledger.entry"),
        ("purser_ledger", "alter table ledger.entry disable trigger all"),
        ("purser_ledger", "drop table ledger.entry"),
        *((role, f"{verb} journal.event{rest}") for role in ROLES for verb, rest in (
            ("update", " set payload = '{}'"), ("delete from", ""), ("truncate", ""),
        )),
        *(("purser_ledger", f"{verb} ledger.{table}{rest}") for table in ("entry", "transfer") for verb, rest in (
            ("update", " set transfer_id = transfer_id" if table == "entry" else " set id = id"), ("delete from", ""),
        )),
        *((role, "create table public.mine (id int)") for role in ROLES),
        *((role, "set role purser_ledger") for role in ROLES if role != "purser_ledger"),
    ],
)  # fmt: skip
def test_who_tries_more_is_refused(logins: Mapping[str, str], role: str, sql: str) -> None:
    with connected(logins[role]) as connection:
        query(connection, f"set role {role}")
        assert attempt(connection, sql) == REFUSED


def test_not_even_the_owner_changes_an_event_or_an_entry_by_mistake(owner: Connection) -> None:
    tables = query(
        owner,
        "select tgrelid::regclass::text, tgenabled from pg_trigger where not tgisinternal"
        " and tgrelid in ('journal.event'::regclass, 'ledger.entry'::regclass, 'ledger.transfer'::regclass)"
        " and tgtype & 24 <> 0",  # delete, update (PostgreSQL: catalog/pg_trigger.h)
    )
    assert {table for table, enabled in tables if enabled in {"O", "A"}} >= {
        "journal.event",
        "ledger.entry",
        "ledger.transfer",
    }


@pytest.fixture(scope="module")
def logins(module_database: str) -> Mapping[str, str]:
    """By role, the URL of the login that `deploy/logins.sql` makes for it."""
    where = urlsplit(module_database)
    with connected(module_database) as connection:
        query(connection, LOGINS)
        query(connection, LOGINS)  # once more does no harm
        for role in ROLES:
            query(connection, f"alter role {role}_login password '{PASSWORD}'")
    return {role: f"postgresql://{role}_login:{PASSWORD}@{where.hostname}:{where.port}{where.path}" for role in ROLES}


def test_a_services_login_is_its_role_and_nothing_else_even_after_reset_role(logins: Mapping[str, str]) -> None:
    for role, url in logins.items():
        with connected(url) as connection:
            for other in set(ROLES) - {role}:
                assert attempt(connection, f"set role {other}") == REFUSED
            query(connection, f"set role {role}")
            assert attempt(connection, "select * from journal.delivery") == "done"
            query(connection, "reset role")
            for table in ("journal.event", "journal.delivery", "ledger.wallet", "verifier.origin", "notifier.endpoint"):
                assert attempt(connection, f"table {table}") == REFUSED


@pytest.mark.parametrize(
    ("process", "role", "look"),
    [("courier", "purser_courier", courier), ("ledger-scheduler", "purser_ledger", scheduler)],
)
def test_the_doctor_sees_a_process_whose_login_it_may_not_look_into(
    owner: Connection, logins: Mapping[str, str], process: str, role: str, look: Look
) -> None:
    """Nor may an owner that is no superuser: logins.sql makes it a member of the roles, not of their logins."""
    query(owner, "drop role if exists doctors_login")
    query(owner, f"create role doctors_login login password '{PASSWORD}'")
    query(owner, "grant purser_ledger, purser_courier to doctors_login")
    asking = logins[role].replace(f"{role}_login", "doctors_login")
    try:
        with opened(logins[role], role=role, name=process), opened(asking, role=None, name="doctor") as doctors:
            sql = "select client_addr from pg_stat_activity where application_name = %(name)s"
            assert doctors.exec_driver_sql(sql, {"name": process}).scalar_one() is None
            assert look(doctors).outcome == "ok"
    finally:
        query(owner, "drop role doctors_login")


@contextmanager
def opened(url: str, *, role: str | None, name: str) -> Iterator[SqlConnection]:
    """A connection as a process has it."""
    engine = connect_engine(url, role=role, pool_size=1, application_name=name)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


RUN_AS: Mapping[str, str] = {
    "gateway": "purser_gateway",
    "courier": "purser_courier",
    "verifier": "purser_verifier",
    "verifier-store": "purser_verifier",
    "verifier-lookups": "purser_verifier",
    "reconciler": "purser_verifier",
    "ledger": "purser_ledger",
    "ledger-scheduler": "purser_ledger",
    "ledger-api": "purser_ledger",
    "notifier": "purser_notifier",
    "webhooks": "purser_notifier",
    "notifier-api": "purser_notifier",
}


def test_every_process_with_a_database_has_its_login_here_and_in_the_file() -> None:
    assert set(RUN_AS) == set(PROCESSES) - {"simulator", "flower"}
    told = {
        process.strip(): line.split()[1].removesuffix("_login")
        for line in LOGINS.splitlines()
        if line.startswith("--   purser_")
        for process in line.split(maxsplit=2)[2].split(",")
    }
    assert told == RUN_AS


@pytest.mark.slow
def test_every_process_runs_with_the_login_of_its_own_service(
    logins: Mapping[str, str], servers: Servers, tmp_path: Path
) -> None:
    ports = {name: free_port(bind="127.0.0.1", ids=system_ids()) for name in ("gateway", "ledger", "notifier")}
    settings = StackSettings(
        gateway_port=ports["gateway"], ledger_port=ports["ledger"], notifier_port=ports["notifier"], gateway_workers=1
    )
    with ExitStack() as running:
        for name, role in RUN_AS.items():
            env = child_environment() | {
                "PURSER_DATABASE_URL": logins[role],
                "PURSER_BROKER_URL": servers.redis.url(),
                "PURSER_SERVICE_TOKEN": SERVICE_TOKEN,
                "PURSER_APPS_FILE": str(EXAMPLES / "apps.toml"),
                "PURSER_CATALOG_FILE": str(EXAMPLES / "catalog.toml"),
                "PURSER_HEARTBEAT_FILE": str(tmp_path / name),
            }
            process = subprocess.Popen(PROCESSES[name].argv(settings), env=env, stdout=subprocess.DEVNULL)
            running.enter_context(killed_in_the_end(process))
        for name in RUN_AS:
            wait_until(lambda: is_well(name, settings, tmp_path), within_s=90, what=f"{name} being well")  # noqa: B023


def is_well(name: str, settings: StackSettings, heartbeats: Path) -> bool:
    http = PROCESSES[name].http
    if http is None:
        return (heartbeats / name).exists()
    try:
        return requests.get(f"http://127.0.0.1:{http.port(settings)}{http.ready_path}", timeout=10).status_code == 200
    except requests.ConnectionError:
        return False
