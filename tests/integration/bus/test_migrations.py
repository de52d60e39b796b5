"""The journal's schema: made once, partitioned by month, append only, and each role with the least rights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Semaphore
from uuid import UUID

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from deploy.errors import StackUnavailable
from deploy.migrate import LOCK, SCHEMAS, migrate
from shared.bus import journal
from shared.clock import ManualClock
from shared.database import connect_engine, transact
from shared.events import AccountTokenIssued
from shared.ids import EventId, uuid7_floor
from tests.support.bus import NOW, Bus, bus_in
from tests.support.seeded import seeded_ids
from tests.support.stack import Servers

ROLES = ("purser_gateway", "purser_verifier", "purser_ledger", "purser_notifier", "purser_courier")
CONSUMERS = ("purser_verifier", "purser_ledger", "purser_notifier")
TOKEN = AccountTokenIssued(token=UUID(int=1))


@pytest.fixture(scope="module")
def bus(module_database: str) -> Iterator[Bus]:
    with bus_in(module_database) as bus:
        yield bus


class TestMigrating:
    def test_a_second_time_changes_nothing(self, database: str) -> None:
        again = migrate(database)
        assert [migrated.schema for migrated in again] == list(SCHEMAS)
        assert all(migrated.before == migrated.after is not None for migrated in again)

    def test_two_at_once_take_turns(self, servers: Servers) -> None:
        url = servers.empty_database()
        with ThreadPoolExecutor(2) as pool:
            runs = [done.result(60) for done in [pool.submit(migrate, url) for _ in range(2)]]
        before = sorted(str(run[0].before) for run in runs)
        assert before == ["None", "journal_0005"]

    def test_one_whose_turn_does_not_come_says_that_another_is_at_work(self, bus: Bus, module_database: str) -> None:
        with bus.engine.connect() as other:
            other.exec_driver_sql(f"select pg_advisory_lock({LOCK})")
            with pytest.raises(StackUnavailable, match="another `purser migrate` is at work"):
                migrate(module_database, patience_s=0)

    def test_one_that_waits_for_a_long_reader_lets_the_others_by(
        self, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = servers.migrated_database()
        next_release(tmp_path / "journal", SCHEMAS["journal"])
        monkeypatch.setitem(SCHEMAS, "journal", tmp_path / "journal")
        monkeypatch.setattr("deploy.migrate.PAUSE_S", (0.0, 0.1))
        held_up = Semaphore(0)
        with ThreadPoolExecutor(1) as pool, bus_in(url) as bus, bus.engine.connect() as backup:
            backup.exec_driver_sql("select count(*) from journal.event")
            migrating = pool.submit(migrate, url, on_held_up=lambda _: held_up.release())
            for _ in range(2):
                assert held_up.acquire(timeout=30)
                bus.tokens(1)
            assert not migrating.done()
            backup.rollback()
            journal_migrated, *_ = migrating.result(timeout=30)
        assert (journal_migrated.before, journal_migrated.after) == ("journal_0005", "journal_next")

    def test_one_that_is_held_up_for_too_long_says_so_and_has_changed_nothing(
        self, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = servers.migrated_database()
        next_release(tmp_path / "journal", SCHEMAS["journal"])
        monkeypatch.setitem(SCHEMAS, "journal", tmp_path / "journal")
        with bus_in(url) as bus, bus.engine.connect() as backup:
            backup.exec_driver_sql("select count(*) from journal.event")
            with pytest.raises(OperationalError, match="lock timeout"):
                migrate(url, patience_s=0)
            assert bus.execute("select version_num from journal.schema_version") == [("journal_0005",)]

    def test_nothing_is_left_in_the_public_schema(self, bus: Bus) -> None:
        assert bus.execute("select from pg_tables where schemaname = 'public'") == []


class TestPartitions:
    def test_there_is_one_for_this_month_and_for_three_more(self, bus: Bus) -> None:
        this = bus.execute("select date_trunc('month', now())")[0][0]
        months = [this]
        for _ in range(3):
            months.append((months[-1] + timedelta(days=32)).replace(day=1))
        assert {f"event_{month:%Y_%m}" for month in months} <= partitions(bus)

    @pytest.mark.parametrize(
        ("moment", "partition"),
        [
            (datetime(2030, 10, 1, tzinfo=UTC), "event_2030_10"),
            (datetime(2030, 10, 31, 23, 59, 59, 999_000, tzinfo=UTC), "event_2030_10"),
            (datetime(2030, 11, 1, tzinfo=UTC), "event_2030_11"),
            (datetime(2031, 1, 31, tzinfo=UTC), "event_2031_01"),
            (datetime(2031, 2, 1, tzinfo=UTC), "event_default"),
            (datetime(1999, 12, 31, tzinfo=UTC), "event_default"),
        ],
    )
    def test_an_event_is_in_the_partition_of_its_month_and_in_the_default_one_where_there_is_none(
        self, bus: Bus, moment: datetime, partition: str
    ) -> None:
        bus.execute("select journal.ensure_partitions('2030-10-15Z', 3)")
        event_id = record_at(bus, moment)
        rows = bus.execute("select tableoid::regclass::text from journal.event where id = %(id)s", id=event_id)
        assert [name for (name,) in rows] == [f"journal.{partition}"]

    @pytest.mark.parametrize("timezone", ["America/New_York", "Pacific/Auckland"])
    def test_their_bounds_do_not_depend_on_the_servers_time_zone(self, bus: Bus, timezone: str) -> None:
        year = {"America/New_York": 2041, "Pacific/Auckland": 2043}[timezone]
        bus.execute(f"set local timezone = '{timezone}'; select journal.ensure_partitions('{year}-10-15 12:00Z', 3)")
        for month, following in ((10, 11), (11, 12)):
            (bounds,) = bus.execute(
                "select pg_get_expr(relpartbound, oid) from pg_class where relname = %(name)s",
                name=f"event_{year}_{month}",
            )[0]
            floors = [uuid7_floor(datetime(year, each, 1, tzinfo=UTC)) for each in (month, following)]
            assert bounds == f"FOR VALUES FROM ('{floors[0]}') TO ('{floors[1]}')"

    def test_making_them_twice_or_at_once_makes_each_once(self, bus: Bus) -> None:
        def ensure(_turn: int) -> None:
            bus.execute("select journal.ensure_partitions('2050-01-31Z', 5)")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ensure, range(8)))
        made = {name for name in partitions(bus) if name.startswith("event_2050")}
        assert made == {f"event_2050_0{month}" for month in range(1, 7)}

    def test_making_them_waits_for_no_transaction_that_writes_and_reads_events(self, bus: Bus) -> None:
        with bus.engine.begin() as connection:
            recorded = journal.append(connection, [bus.draft(TOKEN)], ids=bus.ids)
            assert len(journal.load(connection, recorded)) == 1
            bus.execute("select journal.ensure_partitions('2060-01-01Z', 1)")
        assert "event_2060_02" in partitions(bus)

    def test_a_partition_has_the_primary_key_and_the_trigger_of_the_journal(self, bus: Bus) -> None:
        bus.execute("select journal.ensure_partitions('2070-01-01Z', 0)")
        event_id = record_at(bus, datetime(2070, 1, 5, tzinfo=UTC))
        with pytest.raises(DBAPIError, match="append only"):
            bus.execute("delete from journal.event_2070_01 where id = %(id)s", id=event_id)
        indexes = {row[0] for row in bus.execute("select indexdef from pg_indexes where tablename = 'event_2070_01'")}
        for part in ("(subject, id)", "UNIQUE", "(id) WHERE"):
            assert [index for index in indexes if part in index], part

    def test_the_floor_of_a_moment_is_the_same_in_sql_and_in_python(self, bus: Bus) -> None:
        for moment in (NOW, datetime(1970, 1, 1, tzinfo=UTC), datetime(2199, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)):
            rows = bus.execute("select journal.uuid_floor(%(moment)s)", moment=moment)
            assert rows[0][0] == uuid7_floor(moment)


class TestAppendOnly:
    @pytest.mark.parametrize(
        "statement",
        [
            "update journal.event set payload = '{}' where id = %(id)s",
            "update journal.event set app = app where id = %(id)s",
            "delete from journal.event where id = %(id)s",
            "truncate journal.event",
        ],
    )
    def test_not_even_the_owner_changes_or_removes_an_event(self, bus: Bus, statement: str) -> None:
        (event_id,) = bus.tokens(1)
        with pytest.raises(DBAPIError, match="append only"):
            bus.execute(statement, id=event_id)
        assert len(bus.execute("select from journal.event where id = %(id)s", id=event_id)) == 1


ALLOWED = {
    ("select", "event"): {"purser_gateway", *CONSUMERS},
    ("insert", "event"): {"purser_gateway", *CONSUMERS},
    ("update", "event"): set(),
    ("delete", "event"): set(),
    ("truncate", "event"): set(),
    ("select", "delivery"): set(ROLES),
    ("insert", "delivery"): {"purser_gateway", *CONSUMERS},
    ("update", "delivery"): {"purser_courier", *CONSUMERS},
    ("delete", "delivery"): set(CONSUMERS),
    ("truncate", "delivery"): set(),
    ("select", "timeline"): {"purser_gateway", *CONSUMERS},
    ("insert", "timeline"): {"purser_gateway", *CONSUMERS},
    ("update", "timeline"): {"purser_gateway", *CONSUMERS},
    ("delete", "timeline"): set(),
    ("truncate", "timeline"): set(),
    ("select", "schema_version"): set(),
}


class TestRights:
    @pytest.mark.parametrize(("right", "table"), ALLOWED)
    def test_each_role_has_the_rights_that_its_work_needs_and_no_other(self, bus: Bus, right: str, table: str) -> None:
        holders = {
            role
            for role in ROLES
            if bus.execute(
                "select has_table_privilege(%(role)s, %(table)s, %(right)s)",
                role=role,
                table=f"journal.{table}",
                right=right,
            )[0][0]
        }
        assert holders == ALLOWED[right, table]

    @pytest.mark.parametrize("role", ROLES)
    def test_no_role_owns_anything_may_log_in_or_make_anything(self, bus: Bus, role: str) -> None:
        (row,) = bus.execute(
            "select rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolbypassrls,"
            "       has_schema_privilege(rolname, 'journal', 'create'),"
            "       has_schema_privilege(rolname, 'public', 'create')"
            "  from pg_roles where rolname = %(role)s",
            role=role,
        )
        assert not any(row)

    @pytest.mark.parametrize("role", ROLES)
    def test_each_role_sees_its_own_schema_and_the_journal_alone(self, bus: Bus, role: str) -> None:
        seen = {
            schema
            for schema in SCHEMAS
            if bus.execute("select has_schema_privilege(%(role)s, %(schema)s, 'usage')", role=role, schema=schema)[0][0]
        }
        own = role.removeprefix("purser_")
        assert seen == {"journal", own} & {"journal", *SCHEMAS}

    @pytest.mark.parametrize("role", ROLES)
    def test_only_the_courier_makes_partitions(self, role_engine: Callable[[str], Engine], role: str) -> None:
        engine = role_engine(role)

        def ensure() -> None:
            transact(engine, lambda c: c.exec_driver_sql("select journal.ensure_partitions('2080-01-01Z', 0)"))

        if role == "purser_courier":
            ensure()
        else:
            with pytest.raises(ProgrammingError, match="permission denied"):
                ensure()

    @pytest.mark.parametrize("role", ["purser_gateway", *CONSUMERS])
    def test_whoever_records_events_can_with_its_rights(
        self, bus: Bus, role_engine: Callable[[str], Engine], role: str
    ) -> None:
        engine, draft = role_engine(role), bus.draft(TOKEN)
        (event_id,) = transact(engine, lambda c: journal.append(c, [draft], ids=bus.ids))
        assert transact(engine, lambda c: journal.append_once(c, draft, ids=bus.ids)) is None
        assert [event.id for event in transact(engine, lambda c: journal.load(c, [event_id]))] == [event_id]
        assert len(transact(engine, lambda c: journal.pending(c, [event_id]))) == 1

    @pytest.fixture
    def role_engine(self, module_database: str) -> Iterator[Callable[[str], Engine]]:
        engines: list[Engine] = []

        def made(role: str) -> Engine:
            engines.append(connect_engine(module_database, role=role, pool_size=1, application_name="test"))
            return engines[-1]

        yield made
        for engine in engines:
            engine.dispose()


def next_release(folder: Path, migrations: Path) -> None:
    """These migrations, and one more, which wants the journal for itself."""
    shutil.copytree(migrations, folder)
    (folder / "next.py").write_text(
        "from alembic import op\n"
        "revision, down_revision, branch_labels, depends_on = 'journal_next', 'journal_0005', None, None\n"
        "def upgrade() -> None:\n"
        "    op.execute('alter table journal.event add column note text')\n"
    )


def partitions(bus: Bus) -> set[str]:
    rows = bus.execute("select inhrelid::regclass::text from pg_inherits where inhparent = 'journal.event'::regclass")
    return {name.removeprefix("journal.") for (name,) in rows}


def record_at(bus: Bus, moment: datetime) -> EventId:
    """An event whose id was made at that moment."""
    ids = seeded_ids(int(moment.timestamp()), clock=ManualClock(moment))
    (event_id,) = transact(bus.engine, lambda connection: journal.append(connection, [bus.draft(TOKEN)], ids=ids))
    return event_id
