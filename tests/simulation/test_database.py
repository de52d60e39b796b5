"""The stage on which runs are played: what the services take for transactions, roles and the time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import ProgrammingError

from shared.clock import ManualClock
from shared.database import transact
from tests.simulation.database import START, Crash, Cut, SimulatedDatabase, prepare
from tests.support.stack import Servers

ADD = "insert into journal.outward_head (app, position) values (%(app)s, 1)"


@pytest.fixture(scope="module")
def database(servers: Servers) -> Iterator[SimulatedDatabase]:
    url = servers.empty_database()
    prepare(url)
    database = SimulatedDatabase(url)
    yield database
    database.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def run(database: SimulatedDatabase, clock: ManualClock) -> Iterator[SimulatedDatabase]:
    with database.run(clock.now):
        yield database


def add(engine: Engine, *apps: str) -> None:
    """Each in a statement of its own, all in one transaction."""
    transact(engine, lambda connection: [connection.exec_driver_sql(ADD, {"app": app}) for app in apps])


def known(database: SimulatedDatabase) -> list[str]:
    return [app for (app,) in database.look("select app from journal.outward_head order by app")]


def test_what_is_committed_is_seen_by_all_engines_of_the_run(run: SimulatedDatabase) -> None:
    add(run.engine("purser_notifier"), "one", "two")
    read = run.engine("purser_gateway")
    assert transact(read, lambda on: on.exec_driver_sql("select count(*) from journal.outward_head").scalar()) == 2


def test_a_transaction_that_fails_leaves_nothing_and_the_next_one_goes_on(run: SimulatedDatabase) -> None:
    engine = run.engine("purser_notifier")
    with pytest.raises(ProgrammingError):
        transact(engine, lambda on: (on.exec_driver_sql(ADD, {"app": "one"}), on.exec_driver_sql("select nothing")))
    add(engine, "two")
    assert known(run) == ["two"]


def test_nothing_of_a_run_is_left_for_the_next_one(database: SimulatedDatabase, clock: ManualClock) -> None:
    with database.run(clock.now):
        add(database.engine("purser_notifier"), "one")
    with database.run(clock.now):
        assert known(database) == []


def test_a_service_may_do_what_its_role_may_and_no_more(run: SimulatedDatabase) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        transact(run.engine("purser_notifier"), lambda on: on.exec_driver_sql("select * from ledger.wallet"))


def test_the_servers_clock_is_the_simulations(run: SimulatedDatabase, clock: ManualClock) -> None:
    clock.advance(3600)
    engine = run.engine("purser_gateway")
    asked = "select now(), clock_timestamp(), statement_timestamp()"
    told = transact(engine, lambda on: on.exec_driver_sql(asked).one())
    assert set(told) == {START + timedelta(hours=1)}


def test_the_defaults_of_columns_go_by_it_too(run: SimulatedDatabase, clock: ManualClock) -> None:
    clock.advance(60)
    transact(
        run.engine("purser_gateway"),
        lambda on: on.exec_driver_sql(
            "insert into journal.delivery (consumer, event_id, type)"
            " values ('ledger', '00000000-0000-7000-8000-000000000000', 'test')"
        ),
    )
    assert run.look("select due_at from journal.delivery") == [(START + timedelta(minutes=1),)]


@pytest.mark.parametrize(
    ("cut", "left"),
    [
        (Cut("crash", statement=0), []),
        (Cut("crash", statement=1), []),
        (Cut("crash"), []),
        (Cut("crash", committed=True), ["one", "two"]),
    ],
    ids=str,
)
def test_a_crash_loses_what_was_not_committed_and_nothing_else(
    run: SimulatedDatabase, cut: Cut, left: list[str]
) -> None:
    with pytest.raises(Crash), run.cut(cut):
        add(run.engine("purser_notifier"), "one", "two")
    assert known(run) == left


@pytest.mark.parametrize("cut", [Cut("disconnect", statement=1), Cut("disconnect")], ids=str)
def test_a_connection_that_breaks_is_replaced_and_the_work_done_once(run: SimulatedDatabase, cut: Cut) -> None:
    with run.cut(cut):
        add(run.engine("purser_notifier"), "one", "two")
    assert known(run) == ["one", "two"]


def test_a_commit_that_was_cut_off_and_took_effect_is_done_again(run: SimulatedDatabase) -> None:
    """So whatever is done has to be harmless when it is done twice: this insert is not."""
    with pytest.raises(Exception, match="duplicate key"), run.cut(Cut("disconnect", committed=True)):
        add(run.engine("purser_notifier"), "one")
    assert known(run) == ["one"]


def test_a_text_that_no_statement_has_is_no_sabotage(database: SimulatedDatabase, clock: ManualClock) -> None:
    with (
        pytest.raises(AssertionError, match="no statement"),
        database.rewriting({"no such text": ""}),
        database.run(clock.now),
    ):
        add(database.engine("purser_notifier"), "one")


def test_a_statement_whose_parameters_have_no_type_goes_as_it_is(run: SimulatedDatabase) -> None:
    engine = run.engine("purser_gateway")
    told = transact(engine, lambda on: on.exec_driver_sql("select pg_typeof(%(it)s)::text", {"it": 1}).scalar())
    assert told == "integer"
